package state

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// materialization is the base under way, if any, and what bases cost.
type materialization struct {
	cancel    context.CancelFunc // nil: none is under way
	run       int                // counts them, so that a cancelled one is known
	ended     bool               // no more: the last checkpoint was captured
	sentBytes int64              // uploaded since the last report
	urgent    bool               // it does not give way to checkpoints
	report    Materialization    // of the one under way

	waiting     bool // an upload gives way to checkpoints
	compacting  bool // all tables are
	compactedAt int  // how many deltas there were at the last time since a base
}

// Materialization describes a base that was begun: why, and what it cost. It is
// off the path of the checkpoints, which go on meanwhile.
type Materialization struct {
	// Reason is one of the Reason constants.
	Reason string
	// Deltas and DeltaBytes, as stored, are what it replaces.
	Deltas     int
	DeltaBytes int64
	// SavedBytes are those that a restore need not read any more.
	SavedBytes int64
	// Objects and Bytes were uploaded. ReusedBytes are those of tables that the
	// store had already.
	Objects, Bytes, ReusedBytes int64
	// Duration is that of the whole; for Waited of it, counted once for each
	// table, checkpoints went first.
	Duration, Waited time.Duration
	// Err is why there is no base after all; nil if it is complete.
	Err error

	begun time.Time
}

var errBaseCancelled = errors.New("materialization was cancelled")

// materialize begins a new base if one is worth it. The worker calls it between
// two ingests: what is captured is exactly the state at s.ingested.
func (s *Store) materialize(ctx context.Context) {
	if ctx, run := s.beginBase(ctx); run != 0 {
		s.sendBase(ctx, run)
	}
}

// sendBase captures the base that was begun, and uploads it beside the worker.
func (s *Store) sendBase(ctx context.Context, run int) {
	files, err := incremental.CaptureBase(s.db, s.fs)
	if err != nil {
		s.endBase(run, manifest.Base{}, incremental.UploadStats{}, err)
		return
	}
	position := s.ingested
	s.work.Go(func() {
		defer files.Release()
		base, stats, err := incremental.UploadBase(ctx, files, incremental.UploadBaseOptions{
			Uploader: incremental.Uploader{Store: s.opts.limited(objectstore.Materializing)},
			Ledger:   baseLedger{s, run}, Position: position, Wait: s.giveWay, Local: s.opts.Local,
		})
		s.endBase(run, base, stats, err)
	})
}

// beginBase returns the context and number of a new base, or 0 if there is to
// be none now.
func (s *Store) beginBase(ctx context.Context) (context.Context, int) {
	if !s.mayBegin() {
		return nil, 0
	}
	// Without s.mu: Pebble calls fail, which takes it, with its own locks held.
	cost, err := incremental.CostOfBase(s.db, s.fs, s.dbDir(), s.isStored)
	if err != nil {
		s.opts.Logger.Warn("no new base of the state", "err", err)
		return nil, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base.cancel != nil || s.base.ended {
		return nil, 0
	}
	chain := s.ledger.Chain()
	p := plan{
		chain: chain, cost: cost, behind: s.behind(),
		compacting: s.base.compacting, compacted: chain.Deltas < 2*s.base.compactedAt || !s.isHydrated(),
	}
	v := s.opts.Materialize.decide(p)
	s.logPlan(p, v)
	if v.compact {
		s.base.compactedAt = p.chain.Deltas
		s.compact(ctx)
	}
	if !v.begin {
		return nil, 0
	}
	s.base.compactedAt = 0
	if err := s.ledger.StartBase(s.ingested); err != nil {
		s.opts.Logger.Warn("no new base of the state", "err", err)
		return nil, 0
	}
	ctx, s.base.cancel = context.WithCancel(ctx)
	s.base.run++
	s.base.urgent = s.opts.Materialize.overdue(p.chain)
	s.base.report = Materialization{
		Reason: v.reason, Deltas: p.chain.Deltas, DeltaBytes: p.chain.DeltaBytes, SavedBytes: p.saved(),
		begun: time.Now(),
	}
	return ctx, s.base.run
}

// mayBegin tells without looking at the tables when there is to be no base.
func (s *Store) mayBegin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base.cancel != nil || s.base.ended || s.err() != nil || s.composed() {
		return false
	}
	c := s.ledger.Chain()
	return c.Deltas > 0 || c.Pieces > 1
}

// isStored reports whether the store has an object of a content.
func (s *Store) isStored(size int64, d manifest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.ledger.Find(size, d)
	return ok
}

// compact begins to compact all tables, with s.mu held. The worker is woken when
// that is done.
func (s *Store) compact(ctx context.Context) {
	s.base.compacting = true
	s.work.Go(func() {
		all := bytes.Repeat([]byte{0xff}, 8) // no key group is as high
		if err := s.db.Compact(ctx, []byte{0}, all, false); err != nil && ctx.Err() == nil {
			s.opts.Logger.Warn("state was not compacted before its new base", "err", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.base.compacting = false
		s.wakeWorker()
	})
}

// isHydrated reports whether all of the restored state is local.
func (s *Store) isHydrated() bool {
	select {
	case <-s.hydrated:
		return true
	default:
		return false
	}
}

// behind reports whether checkpoints wait for the disk or the store, with s.mu
// held.
func (s *Store) behind() bool { return len(s.unsent) > 0 || len(s.queue) > 0 }

// giveWay holds the upload of a table back while checkpoints need the store.
func (s *Store) giveWay(ctx context.Context, _ int64) error {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.room.Broadcast()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	begin := time.Now()
	for ctx.Err() == nil && s.behind() && !s.base.urgent {
		s.base.waiting = true
		s.room.Wait()
	}
	if s.base.waiting {
		s.base.waiting = false
		s.base.report.Waited += time.Since(begin)
	}
	return ctx.Err()
}

func (s *Store) logPlan(p plan, v verdict) {
	if log := s.opts.Logger; log.Enabled(context.Background(), slog.LevelDebug) {
		log.Debug("weighed a new base of the state", "begin", v.begin, "compact", v.compact, "reason", v.reason,
			"deltas", p.chain.Deltas, "delta_bytes", p.chain.DeltaBytes, "base_bytes", p.chain.BaseBytes,
			"table_bytes", p.cost.Bytes, "new_bytes", p.cost.NewBytes, "live_bytes", p.cost.LiveBytes, "l0", p.cost.L0Tables)
	}
}

// endBase enters the outcome of a base that was not cancelled. One that failed
// is begun anew after the next delta; what was uploaded of it is not lost.
func (s *Store) endBase(run int, base manifest.Base, stats incremental.UploadStats, err error) {
	s.mu.Lock()
	s.base.sentBytes += stats.Bytes
	if s.base.run != run || s.base.cancel == nil {
		s.mu.Unlock()
		return
	}
	if err == nil {
		err = s.ledger.FinishBase(base)
	}
	if err != nil {
		s.ledger.CancelBase()
	}
	s.base.cancel()
	s.base.cancel = nil
	r := s.base.report
	s.mu.Unlock()
	r.Objects, r.Bytes, r.ReusedBytes = stats.Objects, stats.Bytes, stats.ReusedBytes
	r.Duration, r.Err = time.Since(r.begun), err
	if err != nil {
		s.opts.Logger.Warn("no new base of the state", "reason", r.Reason, "bytes", r.Bytes, "err", err)
	} else {
		s.opts.Logger.Info("new base of the state", "reason", r.Reason, "deltas", r.Deltas, "delta_bytes", r.DeltaBytes,
			"saved_bytes", r.SavedBytes, "objects", r.Objects, "bytes", r.Bytes, "reused_bytes", r.ReusedBytes, "took", r.Duration, "waited", r.Waited)
	}
	if s.opts.OnBase != nil {
		s.opts.OnBase(r)
	}
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

func (b baseLedger) BeginFile(size int64, digest manifest.Digest, ext string) (manifest.Object, error) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if b.s.base.run != b.run || b.s.base.cancel == nil {
		return manifest.Object{}, errBaseCancelled
	}
	return b.s.ledger.BeginFile(size, digest, ext)
}

func (b baseLedger) Find(size int64, digest manifest.Digest) (manifest.Object, bool) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	return b.s.ledger.Find(size, digest)
}

func (b baseLedger) FindPack(size int64, digest manifest.Digest) (manifest.Object, manifest.PackRef, bool) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	return b.s.ledger.FindPack(size, digest)
}

func (b baseLedger) AddFile(o manifest.Object) error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if b.s.base.run != b.run || b.s.base.cancel == nil {
		return errBaseCancelled
	}
	return b.s.ledger.AddFile(o)
}
