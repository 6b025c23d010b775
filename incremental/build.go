package incremental

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
)

// builder makes a database of downloaded objects. The largest piece's base is
// opened in place and cut to its key groups; the other pieces are made beside
// it, and what they hold in their key groups is copied over.
type builder struct {
	fs      *RecordFS
	work    *workDir
	objects map[string]string // local file by key
	stats   *RestoreStats
	lazy    bool
	files   *pebble.FileCache // of all databases; nil: each has its own
	links   int
}

func (b *builder) build(ctx context.Context, s manifest.KeyedState) error {
	pieces := slices.SortedStableFunc(slices.Values(s.Pieces), func(x, y manifest.Piece) int {
		return cmp.Compare(pieceBytes(y), pieceBytes(x))
	})
	if len(pieces) == 0 {
		pieces = []manifest.Piece{{KeyGroups: s.KeyGroups}}
	}
	begin := time.Now()
	db, err := b.open(b.work.database(), pieces[0].Base)
	if err != nil {
		return err
	}
	b.stats.Open = time.Since(begin)
	err = b.fill(ctx, db, s, pieces)
	b.stats.Ingest = time.Since(begin) - b.stats.Open
	return errors.Join(err, db.Close())
}

func (b *builder) fill(ctx context.Context, db *database, s manifest.KeyedState, pieces []manifest.Piece) error {
	if err := b.lay(ctx, db, pieces[0]); err != nil {
		return err
	}
	for i, p := range pieces[1:] {
		if err := b.merge(ctx, db, p, i); err != nil {
			return fmt.Errorf("merge key groups %s: %w", p.KeyGroups, err)
		}
	}
	if err := b.ingest(ctx, db, s.Deltas); err != nil {
		return err
	}
	if b.lazy {
		return db.checkTables(s.KeyGroups)
	}
	return db.checkRange(s.KeyGroups)
}

// lay puts a piece's deltas over its base and leaves nothing but its key groups.
// The base is cut first: to ingest over tables that will go might read them.
func (b *builder) lay(ctx context.Context, db *database, p manifest.Piece) error {
	if err := db.cut(ctx, p.KeyGroups); err != nil {
		return err
	}
	if len(p.Deltas) == 0 {
		return nil
	}
	if err := b.ingest(ctx, db, p.Deltas); err != nil {
		return err
	}
	return db.cut(ctx, p.KeyGroups)
}

func pieceBytes(p manifest.Piece) (n int64) {
	if p.Base != nil {
		n = baseBytes(p.Base)
	}
	for _, d := range p.Deltas {
		n += d.Object.Size
	}
	return n
}

// open makes a database of a base, or an empty one, in a directory.
func (b *builder) open(dir string, base *manifest.Base) (*database, error) {
	if base == nil {
		return openDatabase(b.fs, b.files, dir, openNew)
	}
	if err := b.placeBase(dir, base); err != nil {
		return nil, err
	}
	return openDatabase(b.fs, b.files, dir, openBase)
}

// placeBase puts the files of a base in a directory.
func (b *builder) placeBase(dir string, base *manifest.Base) error {
	for _, f := range base.Files {
		path := b.fs.PathJoin(dir, f.Name)
		if err := b.place(base, f, path); err != nil {
			return fmt.Errorf("place %s: %w", f.Name, err)
		}
		if strings.HasPrefix(f.Name, "OPTIONS-") {
			if err := checkOptions(b.fs, dir, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// place puts a file of a base where Pebble will look for it. Tables and blob
// files, which Pebble never changes, are linked: several databases may hold one.
// A table that was not downloaded only seems to be there.
func (b *builder) place(base *manifest.Base, f manifest.File, path string) error {
	switch {
	case f.Object.Key == "":
		return writeFile(b.fs, path, f.Inline)
	case b.lazy && isTable(f):
		b.fs.addRemote(path, remoteFileOf(base, f))
		return nil
	case isTable(f) && b.objects[f.Object.Key] == "":
		b.fs.addAbsent(path, f.Object.Size)
		return nil
	case immutable(f.Name):
		return vfs.LinkOrCopy(b.fs, b.objects[f.Object.Key], path)
	default:
		return vfs.Copy(b.fs, b.objects[f.Object.Key], path)
	}
}

// isTable tells a table that is an object of its own.
func isTable(f manifest.File) bool { return f.Object.Key != "" && strings.HasSuffix(f.Name, ".sst") }

func writeFile(fs vfs.FS, path string, content []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	// A copy, for writing may change the slice.
	_, err = f.Write(slices.Clone(content))
	return errors.Join(err, f.Close())
}

// ingest lays deltas over a database. One call takes one delta: Pebble refuses
// tables that overlap in one call, and each call is newer than the one before.
// It removes its source, which other pieces may need: so it gets a link.
func (b *builder) ingest(ctx context.Context, db *database, deltas []manifest.Delta) error {
	for _, d := range deltas {
		b.links++
		path := b.work.file("link-%d", b.links)
		if err := vfs.LinkOrCopy(b.fs, b.objects[d.Object.Key], path); err != nil {
			return err
		}
		if err := db.Ingest(ctx, []string{path}); err != nil {
			if pebble.IsCorruptionError(err) {
				err = &manifest.CorruptError{Key: d.Object.Key, Err: err}
			}
			return fmt.Errorf("ingest delta: %w", err)
		}
	}
	return nil
}

// merge makes the database of a piece and copies its key groups into db.
func (b *builder) merge(ctx context.Context, db *database, p manifest.Piece, i int) (err error) {
	dir := b.work.file("piece-%d", i)
	if err := b.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	from, err := b.open(dir, p.Base)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close(), b.fs.RemoveAll(dir)) }()
	if err := b.lay(ctx, from, p); err != nil {
		return err
	}
	paths, err := b.copyRange(ctx, from, p.KeyGroups)
	if err != nil || len(paths) == 0 {
		return err
	}
	return db.Ingest(ctx, paths)
}

// copyRange writes what a database holds in a range to tables.
func (b *builder) copyRange(ctx context.Context, from *database, r manifest.KeyGroupRange) (paths []string, err error) {
	it, err := from.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: groupKey(r.First), UpperBound: afterKey(r)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for more := it.First(); more; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.links++
		path := b.work.file("table-%d", b.links)
		if _, err := writeTable(b.fs, path, tableFrom(it, &more), tableOptions()); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, it.Error()
}

// tableFrom yields what fits in one table, from where the iterator stands.
func tableFrom(it *pebble.Iterator, more *bool) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for size := 0; *more && size < mergeTableSize; *more = it.Next() {
			size += len(it.Key()) + len(it.Value())
			if !yield(Entry{Key: it.Key(), Value: it.Value()}) {
				return
			}
		}
	}
}

// mergeTableSize bounds the tables of copyRange, by their content.
const mergeTableSize = 2 * tableSize

// groupKey is the first key of a key group.
func groupKey(kg uint16) []byte { return binary.BigEndian.AppendUint16(nil, kg) }

// afterKey is above every key of a range, and not above any key past it. The
// largest key group, which no operator has, has no key after it.
func afterKey(r manifest.KeyGroupRange) []byte {
	if r.Last == 1<<16-1 {
		return lastKey
	}
	return groupKey(r.Last + 1)
}

var lastKey = []byte(strings.Repeat("\xff", 64))
