package incremental

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// RestoreOptions are the arguments of Restore.
type RestoreOptions struct {
	Store objectstore.Store // of the job: keys are relative to it
	State manifest.KeyedState
	// Dir is the directory to make. It must not exist or be empty; its parent
	// is made if need be. <Dir>.restoring is used meanwhile.
	Dir string
	// FS holds Dir; nil means the operating system's. The result is synced,
	// unless it is a RecordFS. A database that will be opened with a RecordFS
	// is restored with the same one. If that is over a RemoteFS, tables stay in
	// the store where they can (see Restore).
	FS vfs.FS
	// Parallel is the number of downloads at a time; 0 means 8.
	Parallel int
	// FileCache bounds the table files that are open at a time; nil means a
	// thousand for each piece of the state.
	FileCache *pebble.FileCache
	// Local, if not nil, has copies of objects, which are used instead of the
	// store's if their digests are right, and keeps those that are fetched. It
	// is on the same file system as Dir.
	Local *LocalObjects
	// Progress, if not nil, is called as bytes arrive, never twice at a time.
	// The total rises once, when it is known which tables are needed.
	Progress func(done, total int64)
}

// RestoreStats say what a restore did.
type RestoreStats struct {
	Objects, Bytes int64 // downloaded
	LocalObjects   int64 // that there are copies of on this machine, see LocalObjects
	LocalBytes     int64
	LocalDamaged   int64 // copies that were not what they should be; an eager restore finds out
	RemoteObjects  int64 // left in the store, to be hydrated; nor are copies local before that
	RemoteBytes    int64
	Fetch          time.Duration // until all objects were there
	Open           time.Duration // of the largest piece's base
	Ingest         time.Duration // of deltas and other pieces
	// Copied is why the state of several pieces was copied although it was to
	// be left in the store; nil if it was not.
	Copied error
}

// Restore makes a Pebble database of a state in Dir. Nothing outside the
// state's key groups is in it, and it opens with Pebble's default options. An
// empty state gives an empty database. The exception is a database that a
// Snapshotter copied: it is restored as it was, without Pebble having opened
// it, and opens with the options it had.
//
// Nothing that was not checked is seen by Pebble: every object is read whole, and
// its size and digest are compared; tables of a base that have no keys of the
// state's are not read at all. The database is built beside Dir and renamed when
// it is complete: after an error there is none (or a whole one, on a disk that fails
// to remove it again), and what was left by a process that died is removed by
// the next Restore of the same Dir. A Dir that holds anything is ErrDirNotEmpty.
// An object that is missing or damaged is a *manifest.CorruptError, a base made
// by a newer Pebble a *manifest.NewerFormatError.
//
// Over a RemoteFS a state of one piece is restored lazily: its tables are only
// put there, and Hydrate fetches them. Of the deltas' tables, which are ingested,
// the ends are read, of the base's as a rule nothing. A state of several pieces
// is put together from parts of tables that stay in the store: Hydrate, which
// needs the database for it, copies these parts, and before that CaptureBase
// refuses the database. This takes tables with at most one version of each key:
// of databases that change by Ingest alone and have no snapshots. A state that
// shows anything else is restored as above (see RestoreStats.Copied).
func Restore(ctx context.Context, opts RestoreOptions) (RestoreStats, error) {
	var stats RestoreStats
	fs, disposable := opts.FS.(*RecordFS)
	if !disposable {
		fs = NewRecordFS(opts.FS)
	}
	if opts.Parallel <= 0 {
		opts.Parallel = 8
	}
	if err := checkState(opts.State); err != nil {
		return stats, fmt.Errorf("restore %s: %w", opts.Dir, err)
	}
	w, err := openWorkDir(fs, opts.Dir)
	if err != nil {
		return stats, fmt.Errorf("restore %s: %w", opts.Dir, err)
	}
	defer w.close()
	err = restore(ctx, opts, w, &stats)
	if err == nil {
		err = w.commit(!disposable)
	}
	if err != nil {
		return stats, fmt.Errorf("restore %s: %w", opts.Dir, err)
	}
	return stats, nil
}

func restore(ctx context.Context, opts RestoreOptions, w *workDir, stats *RestoreStats) (err error) {
	d := newDownload(opts, w)
	b := &builder{fs: w.fs, work: w, objects: d.paths, stats: stats, files: opts.FileCache}
	defer stats.count(d)
	s, remote := opts.State, w.fs.remote != nil
	if remote {
		w.fs.remote.useLocal(opts.Local)
	}
	if s.Whole() {
		if err := d.run(ctx, s.ContentObjects(), nil); err != nil {
			return err
		}
		return b.whole(ctx, s.Pieces[0].Base)
	}
	var deltas []*remoteTable
	if b.lazy = remote && onePiece(s); b.lazy {
		deltas = d.deltas(s)
	}
	if err := d.run(ctx, otherFiles(s), deltas); err != nil {
		return err
	}
	if remote && !b.lazy {
		err := b.compose(ctx, s)
		if !errors.Is(err, errNotComposable) {
			return err
		}
		stats.Copied = err
	}
	if !b.lazy {
		tables, err := b.tables(s)
		if err != nil {
			return err
		}
		if err := d.run(ctx, slices.Values(tables), nil); err != nil {
			return err
		}
	}
	return b.build(ctx, s)
}

// count enters what was downloaded and what stays in the store or in copies.
func (s *RestoreStats) count(d *download) {
	s.LocalObjects, s.LocalBytes, s.LocalDamaged = d.copied.objects, d.copied.bytes, d.copied.damaged
	s.Objects, s.Bytes, s.Fetch = d.files-d.copied.objects, d.done-d.copied.bytes, d.took
	for _, o := range d.work.fs.remoteTables() {
		if d.opts.Local.has(o.Key) {
			s.LocalObjects++
			s.LocalBytes += o.Size
		} else {
			s.RemoteObjects++
			s.RemoteBytes += o.Size
		}
	}
}

// otherFiles yields the objects of a state that are no tables: they say which
// of the tables are needed.
func otherFiles(s manifest.KeyedState) iter.Seq[manifest.Object] {
	return func(yield func(manifest.Object) bool) {
		for _, p := range s.Pieces {
			if p.Base == nil {
				continue
			}
			for _, f := range p.Base.Files {
				if f.Object.Key != "" && !isTable(f) && !yield(f.Object) {
					return
				}
			}
		}
	}
}

// tables are the objects to download: tables of the bases that may hold keys of
// their piece's key groups, and the deltas.
func (b *builder) tables(s manifest.KeyedState) (out []manifest.Object, err error) {
	for _, p := range s.Pieces {
		if p.Base != nil {
			tables, err := b.baseTables(p.Base, p.KeyGroups)
			if err != nil {
				return nil, err
			}
			for _, t := range tables {
				if t.object.Key != "" {
					out = append(out, t.object.Object)
				}
			}
		}
		for _, d := range p.Deltas {
			out = append(out, d.Object)
		}
	}
	for _, d := range s.Deltas {
		out = append(out, d.Object)
	}
	return out, nil
}

// onePiece reports whether a state is one base, or none, with deltas over it.
// Opening it reads no table, ingesting the deltas the ends of theirs, and cutting
// what others have of it few blocks. A whole database of somebody else's is
// copied as it is.
func onePiece(s manifest.KeyedState) bool { return len(s.Pieces) <= 1 && !s.Whole() }

// checkState refuses what a manifest that was decoded cannot hold, and bases
// that this Pebble cannot read.
func checkState(s manifest.KeyedState) error {
	if s.KeyGroups.Last < s.KeyGroups.First {
		return fmt.Errorf("key groups %s: %w", s.KeyGroups, manifest.ErrInvalid)
	}
	for _, p := range s.Pieces {
		if !s.KeyGroups.Covers(p.KeyGroups) {
			return fmt.Errorf("piece %s is not in key groups %s: %w", p.KeyGroups, s.KeyGroups, manifest.ErrInvalid)
		}
		if p.Base == nil {
			continue
		}
		if err := checkFormat(p.Base); err != nil {
			return err
		}
		if p.Base.Whole && !s.Whole() {
			return fmt.Errorf("%w: a whole database cannot be divided, joined with others or have deltas laid over it", ErrIncompatible)
		}
		for _, f := range p.Base.Files {
			if !manifest.ValidFileName(f.Name) {
				return fmt.Errorf("file name %q: %w", f.Name, manifest.ErrInvalid)
			}
		}
	}
	return nil
}

// workDir is the directory in which a restore builds, beside the one it makes.
type workDir struct {
	fs     *RecordFS
	path   string
	target string
	lock   io.Closer
}

func openWorkDir(fs *RecordFS, target string) (*workDir, error) {
	if err := checkEmpty(fs, target); err != nil {
		return nil, err
	}
	w := &workDir{fs: fs, path: fs.PathJoin(target) + ".restoring", target: target}
	if err := fs.MkdirAll(w.path, 0o700); err != nil {
		return nil, err
	}
	var err error
	if w.lock, err = fs.Lock(fs.PathJoin(w.path, "LOCK")); err != nil {
		return nil, fmt.Errorf("another restore is under way: %w", err)
	}
	for _, sub := range []string{w.database(), w.scratch()} {
		if err := errors.Join(fs.RemoveAll(sub), fs.MkdirAll(sub, 0o700)); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func checkEmpty(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err == nil && len(names) > 0:
		return ErrDirNotEmpty
	}
	return err
}

func (w *workDir) database() string { return w.fs.PathJoin(w.path, "db") }
func (w *workDir) scratch() string  { return w.fs.PathJoin(w.path, "scratch") }

// file is the path of a scratch file.
func (w *workDir) file(format string, args ...any) string {
	return w.fs.PathJoin(w.scratch(), fmt.Sprintf(format, args...))
}

// sync makes the finished database durable. It is done once at the end, not
// by Pebble as it goes along, which panics when the sync of a directory fails.
func (w *workDir) sync() error {
	fs := w.fs.Unwrap()
	names, err := fs.List(w.database())
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := fs.OpenReadWrite(fs.PathJoin(w.database(), name), vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return syncDir(fs, w.database())
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// commit gives the finished database its name.
func (w *workDir) commit(durable bool) error {
	if durable {
		if err := w.sync(); err != nil {
			return err
		}
	}
	if err := checkEmpty(w.fs, w.target); err != nil {
		return err
	}
	if err := w.fs.Remove(w.target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := w.fs.Rename(w.database(), w.target); err != nil {
		return err
	}
	if !durable {
		return nil
	}
	err := syncDir(w.fs.Unwrap(), w.fs.PathDir(w.fs.PathJoin(w.target)))
	if err != nil {
		err = errors.Join(err, w.fs.RemoveAll(w.target))
	}
	return err
}

// close removes what is left and lets go of the lock. If that fails nothing
// is lost: the next restore of the same directory tries again.
func (w *workDir) close() {
	_ = w.fs.RemoveAll(w.path)
	_ = w.lock.Close()
}
