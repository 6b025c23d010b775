package state

import (
	"context"
	"fmt"
	"time"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
)

// Trigger is what a store needs to know of the checkpoint it is captured for.
type Trigger struct {
	ID manifest.ID
	// OldestBase is the lowest base of any pending checkpoint, this one
	// included, as the coordinator sent it.
	OldestBase manifest.ID
	// Kind is the checkpoint's. The last one of a job (final or stop)
	// reserves nothing: a materialization under way is cancelled.
	Kind manifest.Kind
}

// Pending is a capture on its way to the object store.
type Pending struct {
	id       manifest.ID
	cut      uint64 // position of the last delta it consists of, or of one before
	captured time.Time
	encoded  time.Time // when its own delta was written; captured if it has none
	done     chan struct{}

	// Written before done is closed, read after.
	keyed    *manifest.KeyedState
	reserved []manifest.Object
	stats    manifest.TaskStats
	err      error
}

// Capture takes the state as it is between the call before and the call after
// it. It only swaps a pointer: sorting, writing and uploading happen in the
// background. Captures are taken in rising order of their ids; one that is out
// of order, or of a store that has failed, ends with an error.
func (s *Store) Capture(t Trigger) *Pending {
	begin := time.Now()
	p := &Pending{id: t.ID, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.err(); err != nil {
		p.finish(err)
		return p
	}
	last := t.Kind == manifest.Final || t.Kind == manifest.Stop
	if last {
		s.cancelBase()
	}
	s.freeze(p)
	if err := s.ledger.Barrier(incremental.Barrier{ID: t.ID, OldestBase: t.OldestBase, Last: last}); err != nil {
		p.finish(fmt.Errorf("capture state: %w", err))
		s.wakeWorker()
		return p
	}
	p.cut = s.last
	p.stats.ChangedBytes, s.changed = s.changed, 0
	s.pending = append(s.pending, p)
	p.captured = time.Now()
	p.encoded = p.captured
	p.stats.Capture = p.captured.Sub(begin)
	s.wakeWorker()
	return p
}

// Wait blocks until everything the captured state consists of is durable in
// the object store and returns what the task reports: the state, the objects to
// reserve, and the figures that the store knows (Capture, Queue, Encode,
// Upload and the sizes). Captures end in the order of their ids. An upload that
// failed fails the captures that need it and is tried again for the next one.
// Wait may be called by several goroutines; what it returns is shared.
func (p *Pending) Wait(ctx context.Context) (*manifest.KeyedState, []manifest.Object, manifest.TaskStats, error) {
	select {
	case <-p.done:
		return p.keyed, p.reserved, p.stats, p.err
	case <-ctx.Done():
		return nil, nil, manifest.TaskStats{}, ctx.Err()
	}
}

func (p *Pending) finish(err error) {
	p.err = err
	close(p.done)
}

// Aborted says that a checkpoint will not be committed; a capture still on its
// way ends with ErrAborted. What was captured is uploaded all the same, for the
// next checkpoint needs it. The signal may be lost, doubled or late.
func (s *Store) Aborted(id manifest.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abort(ErrAborted, func(p *Pending) bool { return p.id == id })
	s.local.Aborted(id)
	s.settle()
}

// Completed says that a checkpoint is committed, and so that the store will not
// be restored from one before. The signal may be lost, doubled or late.
func (s *Store) Completed(id manifest.ID) {
	if s.opts.Local != nil {
		s.work.Go(func() { s.local.Confirmed(id) })
	}
}

// abort ends the captures that match with err, with s.mu held.
func (s *Store) abort(err error, match func(*Pending) bool) {
	kept := s.pending[:0]
	for _, p := range s.pending {
		if !match(p) {
			kept = append(kept, p)
			continue
		}
		s.ledger.Aborted(p.id)
		p.finish(err)
	}
	clear(s.pending[len(kept):])
	s.pending = kept
}

// settle reports the captures whose deltas are durable, in order, with s.mu
// held.
func (s *Store) settle() {
	for len(s.pending) > 0 && s.ledger.Ready(s.pending[0].id) {
		p := s.pending[0]
		s.pending = s.pending[1:]
		var err error
		if p.keyed, p.reserved, err = s.ledger.Report(p.id); err != nil {
			p.finish(fmt.Errorf("report checkpoint %d: %w", p.id, err))
			continue
		}
		s.local.Reported(p.id, named(p.keyed, p.reserved))
		s.count(p)
		p.finish(nil)
	}
}

// count fills in the figures of a capture that is about to be reported.
func (s *Store) count(p *Pending) {
	p.stats.Upload = time.Since(p.encoded)
	for o := range p.keyed.NeededObjects() {
		p.stats.FullBytes += o.Size
	}
	kept := s.sent[:0]
	for _, d := range s.sent {
		if d.Position > p.cut {
			kept = append(kept, d)
			continue
		}
		p.stats.NewBytes += d.Object.Size
		p.stats.NewObjects++
	}
	clear(s.sent[len(kept):])
	s.sent = kept
	p.stats.BaseBytes, s.base.sentBytes = s.base.sentBytes, 0
}
