package incremental

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
)

// database is one that a restore works on. It is not compacted meanwhile.
type database struct {
	*pebble.DB
	failed *firstError
}

// firstError takes note of the first failure of a database.
type firstError struct {
	mu  sync.Mutex
	err error
}

func (f *firstError) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// openFor says what a database is opened for.
type openFor uint8

const (
	openNew    openFor = iota // there is none: make an empty one
	openBase                  // Pebble would make one of a base without a marker too
	openToLook                // at its MANIFEST
)

// openDatabase opens the database in a directory.
func openDatabase(fs *RecordFS, files *pebble.FileCache, dir string, what openFor) (*database, error) {
	failed := new(firstError)
	opts := PebbleOptions(DBOptions{FS: fs, FileCache: files, Failed: failed.set})
	opts.ErrorIfNotExists = what != openNew
	opts.ReadOnly = what == openToLook
	opts.DisableAutomaticCompactions = true
	opts.DisableTableStats = true
	db, err := pebble.Open(dir, opts)
	if err != nil {
		if pebble.IsCorruptionError(err) || errors.Is(err, pebble.ErrDBDoesNotExist) {
			err = fmt.Errorf("%w: %w", manifest.ErrCorrupt, err)
		}
		return nil, fmt.Errorf("open base: %w", errors.Join(err, failed.get()))
	}
	return &database{DB: db, failed: failed}, nil
}

func (db *database) failure() error { return db.failed.get() }

// Close closes the database and says whether it was sound to the end.
func (db *database) Close() error { return errors.Join(db.DB.Close(), db.failure()) }

// cut removes everything outside a range of key groups. It is not to be
// interrupted, for the reason given at watchedFS.
func (db *database) cut(ctx context.Context, r manifest.KeyGroupRange) error {
	// A nil Start would make the range none at all.
	spans := []pebble.KeyRange{{Start: []byte{}, End: groupKey(r.First)}, {Start: afterKey(r), End: lastKey}}
	for _, span := range spans {
		if bytes.Compare(span.Start, span.End) >= 0 {
			continue
		}
		if err := db.Excise(context.WithoutCancel(ctx), span); err != nil {
			return fmt.Errorf("excise all but key groups %s: %w", r, err)
		}
	}
	return db.failure()
}

// checkRange makes sure that no key is outside a range.
func (db *database) checkRange(r manifest.KeyGroupRange) (err error) {
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if it.First() && bytes.Compare(it.Key(), groupKey(r.First)) < 0 ||
		it.Last() && bytes.Compare(it.Key(), afterKey(r)) >= 0 {
		return fmt.Errorf("%w: key %x is not in key groups %s", manifest.ErrCorrupt, it.Key(), r)
	}
	return it.Error()
}

// checkTables is checkRange by what the MANIFEST says of the tables, which reads
// none of them.
func (db *database) checkTables(r manifest.KeyGroupRange) error {
	levels, err := db.SSTables()
	if err != nil {
		return err
	}
	for _, tables := range levels {
		for _, t := range tables {
			above := bytes.Compare(t.Largest.UserKey, afterKey(r))
			if bytes.Compare(t.Smallest.UserKey, groupKey(r.First)) < 0 || above > 0 || above == 0 && !t.Largest.IsExclusiveSentinel() {
				return fmt.Errorf("%w: table %s is not in key groups %s", manifest.ErrCorrupt, t.FileNum, r)
			}
		}
	}
	return db.failure()
}

// checkOptions compares the OPTIONS file of a base with what we open it with.
func checkOptions(fs vfs.FS, dir, path string) error {
	content, err := readFile(fs, path)
	if err != nil {
		return err
	}
	opts := PebbleOptions(DBOptions{})
	opts.EnsureDefaults()
	if err := opts.CheckCompatibility(dir, string(content)); err != nil {
		return fmt.Errorf("%w: %w", ErrIncompatible, err)
	}
	return nil
}

func checkFormat(b *manifest.Base) error {
	if newest := pebble.FormatNewest; b.FormatMajorVersion > uint64(newest) {
		return fmt.Errorf("base of a newer Pebble: %w", &manifest.NewerFormatError{
			Have: int(newest), Want: int(min(b.FormatMajorVersion, 1<<31-1)),
		})
	}
	return nil
}
