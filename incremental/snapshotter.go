package incremental

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// WholeHasher stands in a manifest where the hash function of an operator
// does: the keys of a whole database are in no key groups. No job takes such
// state for its own.
const WholeHasher = "none"

// wholeGroups is the one key group of a whole database, so that there is
// nothing to divide.
var wholeGroups = manifest.KeyGroupRange{}

// SnapshotterOptions say where the snapshots of a database go.
type SnapshotterOptions struct {
	Store objectstore.Store // of the job
	// Operator names the database within the job: its uid in manifests.
	Operator string
	// Epoch is that of the owner, and NextID the first id a snapshot of it can
	// have (catalog.Owner: Epoch and Head().NextID). Every start is a takeover
	// with a new epoch, which keeps two lives of one database apart.
	Epoch  manifest.Epoch
	NextID manifest.ID
	// Previous is the operator in the newest committed checkpoint, nil if there
	// is none: what that holds is not uploaded again, whether the database was
	// restored from it or has just been opened again.
	Previous *manifest.Operator
	// FS is the file system the database was opened with; nil means the
	// operating system's. With a RecordFS a snapshot links and copies nothing.
	// With any other one it needs Dir.
	FS vfs.FS
	// Dir is where a snapshot is linked together while it is uploaded: a
	// directory of the database's disk, outside the database's own. It is made
	// if need be. <Dir>/<Operator>.snapshot is the Snapshotter's.
	Dir string
	// Parallel is the number of uploads at a time; 0 means 4.
	Parallel int
	// Wait, if not nil, is called before each upload with its size and holds
	// it back as long as it likes.
	Wait func(ctx context.Context, size int64) error
}

// Snapshotter copies one Pebble database, which may be anybody's, to an object
// store, file by file, and each file once. It may be used concurrently;
// snapshots are taken one at a time. The database stays its user's: the
// Snapshotter never closes it and must not be used after it was closed.
type Snapshotter struct {
	db     *pebble.DB
	opts   SnapshotterOptions
	source source
	turn   chan struct{} // holds one token while a snapshot is taken

	ledger lockedLedger
	last   manifest.ID // the highest one snapshotted
}

// NewSnapshotter begins the account of a database in one epoch. It does no I/O.
func NewSnapshotter(db *pebble.DB, opts SnapshotterOptions) (*Snapshotter, error) {
	if err := opts.check(db); err != nil {
		return nil, fmt.Errorf("snapshotter of %q: %w", opts.Operator, err)
	}
	s := &Snapshotter{
		db: db, opts: opts, source: newSource(opts), turn: make(chan struct{}, 1), last: opts.NextID - 1,
	}
	begin := LedgerOptions{
		Operator: opts.Operator, Epoch: opts.Epoch, NextID: opts.NextID, KeyGroups: wholeGroups,
	}
	if p := opts.Previous; p != nil {
		begin.Restored, begin.Reserved = p.Tasks[0].Keyed, p.Tasks[0].Reserved
	}
	s.ledger.Ledger = NewLedger(begin)
	return s, nil
}

func (o *SnapshotterOptions) check(db *pebble.DB) error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if db == nil {
		refuse("no database")
	}
	if o.Store == nil {
		refuse("no store")
	}
	if !manifest.ValidUID(o.Operator) {
		refuse("invalid operator uid")
	}
	if o.Epoch == 0 || o.NextID == 0 {
		refuse("epoch %d and next id %d are not those of an owner", o.Epoch, o.NextID)
	}
	if _, recorded := o.FS.(*RecordFS); !recorded && o.Dir == "" {
		refuse("no directory to link a snapshot together in")
	}
	if p := o.Previous; p != nil && (p.UID != o.Operator || len(p.Tasks) != 1 || p.Tasks[0].Keyed == nil || !p.Tasks[0].Keyed.Whole()) {
		refuse("previous checkpoint: %w", ErrIncompatible)
	}
	return errors.Join(errs...)
}

// Snapshot copies the database and returns what stands for it in the manifest
// of checkpoint b.ID; it counts once that is committed. b.OldestBase is the
// checkpoint the manifest builds on, its Base: the newest committed one as a
// rule, 0 if there is none.
//
// In the snapshot is every write that was committed before the call, and none
// in part. Of those that are committed meanwhile it has, in the order of their
// commit, the first few; only an Ingest or Excise may be in it ahead of
// earlier writes that it does not overlap. The WAL is not in it and not needed:
// what a flush has not written out came after the call. So the database is
// flushed, which with an idle one is cheap; writers are not held back.
//
// Files that the checkpoint before had are not uploaded again. After an error
// nothing is lost but time, and the same id may be tried again; what was
// uploaded until then is used. An id that is not above those before is
// refused. ErrRemoteTables refuses a database that is not all on its disk;
// one that is open for reading only fails with pebble.ErrReadOnly. While
// Pebble cannot flush, for lack of room perhaps, Snapshot waits until ctx ends.
func (s *Snapshotter) Snapshot(ctx context.Context, b Barrier) (manifest.Operator, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return manifest.Operator{}, fmt.Errorf("snapshot %d: %w", b.ID, context.Cause(ctx))
	}
	task, err := s.snapshot(ctx, b)
	if err != nil {
		return manifest.Operator{}, fmt.Errorf("snapshot %d of %s: %w", b.ID, s.opts.Operator, err)
	}
	return manifest.Operator{
		UID: s.opts.Operator, Parallelism: 1, MaxParallelism: 1, Hasher: WholeHasher, Tasks: []manifest.Task{task},
	}, nil
}

func (s *Snapshotter) snapshot(ctx context.Context, b Barrier) (task manifest.Task, err error) {
	if b.ID <= s.last {
		return task, fmt.Errorf("id is not above the last one, %d", s.last)
	}
	begin := time.Now()
	if err := flush(ctx, s.db); err != nil {
		return task, fmt.Errorf("flush: %w", err)
	}
	c, release, err := s.source.capture(s.db)
	if err != nil {
		return task, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := checkLocal(c); err != nil {
		return task, err
	}
	task.Stats.Encode = time.Since(begin)

	stats, err := s.upload(ctx, c)
	if err != nil {
		return task, err
	}
	if err := s.ledger.Barrier(b); err != nil {
		return task, err
	}
	s.last = b.ID
	if task.Keyed, task.Reserved, err = s.ledger.Report(b.ID); err != nil {
		return task, err
	}
	task.Stats.Total = time.Since(begin)
	task.Stats.Upload = task.Stats.Total - task.Stats.Encode
	task.Stats.NewBytes, task.Stats.NewObjects = stats.Bytes, stats.Objects
	task.Stats.FullBytes, _ = needed(task.Keyed)
	return task, nil
}

// upload makes a base of a capture and enters it in the ledger.
func (s *Snapshotter) upload(ctx context.Context, c *BaseCapture) (UploadStats, error) {
	position := s.ledger.Position()
	if err := s.ledger.StartBase(position); err != nil {
		return UploadStats{}, err
	}
	base, stats, err := UploadBase(ctx, c, UploadBaseOptions{
		Uploader: Uploader{Store: s.opts.Store}, Ledger: &s.ledger, Position: position,
		Parallel: s.opts.Parallel, Wait: s.opts.Wait, Whole: true,
	})
	if err == nil {
		base.Whole = true
		err = s.ledger.FinishBase(base)
	}
	if err != nil {
		s.ledger.CancelBase()
	}
	return stats, err
}

// flush writes out what was committed before the call. With the WAL off, it is
// nowhere else: Checkpoint leaves memtables out, also under WithFlushedWAL.
func flush(ctx context.Context, db *pebble.DB) error {
	done, err := db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// needed counts the objects of a state, each once.
func needed(k *manifest.KeyedState) (size, objects int64) {
	seen := make(map[string]bool)
	for o := range k.NeededObjects() {
		if !seen[o.Key] {
			seen[o.Key] = true
			size += o.Size
			objects++
		}
	}
	return size, objects
}

// lockedLedger is the ledger as the uploads of one base see it.
type lockedLedger struct {
	mu sync.Mutex
	*Ledger
}

// BeginFile implements BaseLedger.
func (l *lockedLedger) BeginFile(size int64, digest manifest.Digest, ext string) (manifest.Object, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Ledger.BeginFile(size, digest, ext)
}

// Find implements BaseLedger.
func (l *lockedLedger) Find(size int64, digest manifest.Digest) (manifest.Object, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Ledger.Find(size, digest)
}

// FindPack implements BaseLedger.
func (l *lockedLedger) FindPack(size int64, digest manifest.Digest) (manifest.Object, manifest.PackRef, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Ledger.FindPack(size, digest)
}

// AddFile implements BaseLedger.
func (l *lockedLedger) AddFile(o manifest.Object) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Ledger.AddFile(o)
}
