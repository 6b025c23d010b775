package state

import (
	"context"
	"errors"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
)

// materialization is the base under way, if any, and what bases cost.
type materialization struct {
	cancel    context.CancelFunc // nil: none is under way
	run       int                // counts them, so that a cancelled one is known
	ended     bool               // no more: the last checkpoint was captured
	sentBytes int64              // uploaded since the last report
}

var errBaseCancelled = errors.New("materialization was cancelled")

// due reports whether a new base is worth its upload.
func (m MaterializePolicy) due(c incremental.Chain) bool {
	switch {
	case c.Deltas == 0 && c.Pieces <= 1:
		return false
	case c.Pieces > 1:
		return true // until then every restore rescales
	case m.MaxDeltas > 0 && c.Deltas >= m.MaxDeltas:
		return true
	}
	return m.MaxRatio > 0 && c.DeltaBytes >= m.MinBytes && float64(c.DeltaBytes) > m.MaxRatio*float64(c.BaseBytes)
}

// materialize begins a new base if one is due. The worker calls it between two
// ingests: what is captured is exactly the state at position.
func (s *Store) materialize(ctx context.Context, position uint64) {
	ctx, run := s.beginBase(ctx, position)
	if run == 0 {
		return
	}
	files, err := incremental.CaptureBase(s.db, s.fs)
	if err != nil {
		s.endBase(run, manifest.Base{}, err)
		return
	}
	s.work.Go(func() {
		defer files.Release()
		base, stats, err := incremental.UploadBase(ctx, files, incremental.UploadBaseOptions{
			Uploader: s.uploader, Ledger: baseLedger{s, run}, Position: position,
		})
		s.mu.Lock()
		s.base.sentBytes += stats.Bytes
		s.mu.Unlock()
		s.endBase(run, base, err)
	})
}

// beginBase returns the context and number of a new base, or 0 if none is due.
func (s *Store) beginBase(ctx context.Context, position uint64) (context.Context, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base.cancel != nil || s.base.ended || s.err() != nil || !s.opts.Materialize.due(s.ledger.Chain()) {
		return nil, 0
	}
	if err := s.ledger.StartBase(position); err != nil {
		s.opts.Logger.Warn("no new base of the state", "err", err)
		return nil, 0
	}
	ctx, s.base.cancel = context.WithCancel(ctx)
	s.base.run++
	return ctx, s.base.run
}

// endBase enters the outcome of a base that was not cancelled. One that failed
// is begun anew after the next delta; what was uploaded of it is not lost.
func (s *Store) endBase(run int, base manifest.Base, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base.run != run || s.base.cancel == nil {
		return
	}
	if err == nil {
		err = s.ledger.FinishBase(base)
	}
	if err != nil {
		s.ledger.CancelBase()
		s.opts.Logger.Warn("no new base of the state", "err", err)
	}
	s.base.cancel()
	s.base.cancel = nil
}

// cancelBase ends the materialization for good, with s.mu held.
func (s *Store) cancelBase() {
	s.base.ended = true
	if s.base.cancel != nil {
		s.base.cancel()
		s.base.cancel = nil
		s.ledger.CancelBase()
	}
}

// baseLedger is the ledger as one upload of a base sees it.
type baseLedger struct {
	s   *Store
	run int
}

func (b baseLedger) FileName(ext string) manifest.DataName {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	return b.s.ledger.FileName(ext)
}

func (b baseLedger) Find(size int64, digest manifest.Digest) (manifest.Object, bool) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	return b.s.ledger.Find(size, digest)
}

func (b baseLedger) AddFile(o manifest.Object) error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if b.s.base.run != b.run || b.s.base.cancel == nil {
		return errBaseCancelled
	}
	return b.s.ledger.AddFile(o)
}
