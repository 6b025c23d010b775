package peer

import (
	"context"
	"errors"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Classic keeps state as most engines do: written through the memtables of a
// log-structured tree, flushed and checkpointed by hard links, with every new
// file uploaded.
type Classic struct {
	DB *pebble.DB

	dir      string
	uploaded map[string]bool // files the store has
}

// OpenClassic opens an empty database in dir: memtables of 64 MB, zstd, no WAL.
func OpenClassic(dir string, cacheBytes int64) (*Classic, error) {
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	opts := &pebble.Options{
		Cache: cache, DisableWAL: true, MemTableSize: 64 << 20, MemTableStopWritesThreshold: 4,
		FormatMajorVersion: pebble.FormatNewest, Logger: silent{}, FS: noSync{vfs.Default},
	}
	for i := range opts.Levels {
		opts.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.ZstdCompression }
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(filepath.Join(dir, "db"), opts)
	if err != nil {
		return nil, err
	}
	return &Classic{DB: db, dir: dir, uploaded: make(map[string]bool)}, nil
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// Fatalf ends the benchmarks, as Pebble's own does: a peer that fails has no
// figures.
func (silent) Fatalf(format string, args ...any) { log.Fatalf(format, args...) }

// noSync spares the peer what ckpt spares itself: local files that are
// disposable are not synced.
type noSync struct{ vfs.FS }

func (fs noSync) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, c)
	return noSyncFile{f}, err
}

func (fs noSync) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	return noSyncFile{f}, err
}

type noSyncFile struct{ vfs.File }

func (noSyncFile) Sync() error                           { return nil }
func (noSyncFile) SyncData() error                       { return nil }
func (noSyncFile) SyncTo(int64) (fullSync bool, _ error) { return false, nil }

// Put writes a key, as ckpt's state does.
func (c *Classic) Put(key, value []byte) error { return c.DB.Set(key, value, pebble.NoSync) }

// Get reads a key.
func (c *Classic) Get(key []byte) ([]byte, bool, error) {
	value, closer, err := c.DB.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	value = append([]byte(nil), value...)
	return value, true, closer.Close()
}

// Checkpoint flushes the memtables and links the files into the directory to,
// which must not exist. Writers wait until it is done: that is what makes the
// cut exact.
func (c *Classic) Checkpoint(to string) error {
	if err := c.DB.Flush(); err != nil {
		return err
	}
	return c.DB.Checkpoint(to)
}

// Upload sends the files of a checkpoint that the store does not have: new
// tables, and the small files each time.
func (c *Classic) Upload(ctx context.Context, raw Raw, dir string) (bytes int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var names []string
	for _, e := range entries {
		table := strings.HasSuffix(e.Name(), ".sst")
		if info, err := e.Info(); err != nil {
			return 0, err
		} else if info.Size() == 0 || table && c.uploaded[e.Name()] {
			continue
		}
		if table {
			c.uploaded[e.Name()] = true
		}
		names = append(names, e.Name())
	}
	return raw.PutFiles(ctx, dir, names)
}

// Settle waits until no compaction is under way: a state that has been there
// for long.
func (c *Classic) Settle(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for c.DB.Metrics().Compact.NumInProgress > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close closes the database and removes all its files.
func (c *Classic) Close() error { return errors.Join(c.DB.Close(), os.RemoveAll(c.dir)) }
