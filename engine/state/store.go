package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/objectstore"
)

// Store is the keyed state of one subtask. SetKey, Get, Put, Delete, Scan,
// Capture and the typed handles belong to the task's goroutine; the other
// methods may be called from anywhere.
type Store struct {
	opts     Options
	fs       *incremental.RecordFS
	db       *pebble.DB
	restored incremental.RestoreStats
	uploader incremental.Uploader

	local     *incremental.LocalTask
	remote    *incremental.RemoteFS // under fs, if the restore is lazy
	compactor *incremental.Compactor
	hydrated  chan struct{}

	// Only the task's goroutine touches these.
	active *overlay
	group  uint16 // of the current key
	key    []byte
	keySet bool
	read   []byte // the value last read from the database

	// frozen are the overlays that are not in the database yet, oldest first.
	// The slice is replaced, never changed.
	frozen      atomic.Pointer[[]*frozen]
	frozenBytes atomic.Int64
	// clean are those that went into the database last. A key that is updated
	// again and again is read here, not there, although every capture takes the
	// active overlay away.
	clean      atomic.Pointer[[]*frozen]
	cleanBytes atomic.Int64
	failure    atomic.Pointer[error]

	cancel   context.CancelFunc // of all background work
	work     sync.WaitGroup
	ingested uint64        // the position the database is at; the worker's
	wake     chan struct{} // tells the worker to look at queue and unsent
	uploads  chan struct{} // a token for each upload under way

	mu      sync.Mutex
	room    *sync.Cond // frozenBytes went down, or the store failed
	ledger  *incremental.Ledger
	queue   []*frozen       // to be ingested, in order
	unsent  []*delta        // written and not durable, in order
	pending []*Pending      // captured and not reported, in order
	sent    []*delta        // durable and not counted in a report
	last    uint64          // position of the newest frozen overlay
	changed int64           // bytes frozen since the last capture
	base    materialization // the base under way
	closed  bool
}

// frozen is an overlay on its way into the database.
type frozen struct {
	*overlay
	position uint64
	memory   int64
	capture  *Pending // the capture that froze it; nil if it was spilled
}

// Open restores the state from the object store into the local directory and
// opens it. It may take long; ctx ends it. A missing or damaged object is an
// *manifest.CorruptError: of Open or, after a lazy restore, of the store when
// the object is read or hydrated.
func Open(ctx context.Context, opts Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	s := &Store{
		opts:     o,
		uploader: incremental.Uploader{Store: o.limited(objectstore.Urgent)},
		active:   newOverlay(),
		hydrated: make(chan struct{}),
		wake:     make(chan struct{}, 1),
		uploads:  make(chan struct{}, parallelUploads),
		ledger: incremental.NewLedger(incremental.LedgerOptions{
			Operator: o.Operator, Subtask: o.Subtask, Epoch: o.Epoch, NextID: o.NextID,
			KeyGroups: o.KeyGroups, Restored: o.Restored, Reserved: o.Reserved,
		}),
	}
	s.local = o.Local.Task(s.restorable())
	s.room = sync.NewCond(&s.mu)
	s.frozen.Store(new([]*frozen))
	s.clean.Store(new([]*frozen))
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	stop := context.AfterFunc(ctx, cancel) // reads of remote tables have this context
	err = s.openDB(ctx, background)
	if !stop() && err == nil {
		err = errors.Join(context.Cause(ctx), s.db.Close(), os.RemoveAll(o.Dir))
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open state of %s/%d: %w", o.Operator, o.Subtask, err)
	}
	s.ingested = s.ledger.Position()
	s.work.Go(func() { s.background(background) })
	if s.isRemote() {
		s.ledger.SetRemote(s.remote.Objects())
		s.work.Go(func() { s.hydrate(background) })
	} else {
		close(s.hydrated)
	}
	return s, nil
}

func (s *Store) dbDir() string    { return filepath.Join(s.opts.Dir, "db") }
func (s *Store) deltaDir() string { return filepath.Join(s.opts.Dir, "deltas") }

// RestoreStats say what it took to restore the state in Open.
func (s *Store) RestoreStats() incremental.RestoreStats { return s.restored }

// err is what every call returns once the store failed or was closed.
func (s *Store) err() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// fail makes err the outcome of everything that is pending and of every later
// call. Pebble calls it with its locks held: it calls nothing of Pebble's.
func (s *Store) fail(err error) {
	err = fmt.Errorf("state of %s/%d: %w", s.opts.Operator, s.opts.Subtask, err)
	if s.stop(err) && s.opts.OnFailure != nil {
		s.opts.OnFailure(err)
	}
}

// stop reports whether err is the first reason for which the store stops.
func (s *Store) stop(err error) bool {
	if !s.failure.CompareAndSwap(nil, &err) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pending {
		p.finish(err)
	}
	s.pending = nil
	s.room.Broadcast()
	s.cancel()
	return true
}

// Close ends the background work, fails what is pending with ErrClosed and
// removes the local directory. The task's goroutine must make no more calls,
// but one that is held back in Put is let go.
func (s *Store) Close() error {
	s.stop(ErrClosed)
	s.work.Wait()
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		return nil
	}
	if err := errors.Join(s.db.Close(), os.RemoveAll(s.opts.Dir)); err != nil {
		return fmt.Errorf("close state of %s/%d: %w", s.opts.Operator, s.opts.Subtask, err)
	}
	return nil
}
