package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/retention"
)

const (
	// maxWaiting is how many deletions may wait before checkpoints are held
	// back.
	maxWaiting = 100_000
	// collectRetry is the pause between two attempts to delete meanwhile: no
	// commit calls for one.
	collectRetry = 5 * time.Second
	// collectEvery and collectAfter say when what commits retire is deleted:
	// after a time or a number of commits, together. Each time costs a few
	// requests, whatever there is to delete.
	collectEvery = 30 * time.Second
	collectAfter = 16
)

// committer commits checkpoints and has what they retire deleted beside them.
type committer struct {
	owner     *catalog.Owner
	collector *retention.Collector
	policy    retention.Policy
	restored  manifest.ID // protected until enough newer checkpoints exist
	hold      func(bool)
	limit     int           // of waiting deletions; see maxWaiting
	sweeps    time.Duration // from one sweep to the next; not above 0: the first alone
	commits   atomic.Int64  // not collected after yet
	logger    *slog.Logger

	wake    chan struct{} // something was committed
	closing chan struct{} // collect once more, then end
	close   sync.Once
}

func newCommitter(r *runner, own *ownership) *committer {
	store := r.limited(objectstore.Sweeping)
	c := &committer{
		owner:  own.owner,
		policy: retention.Policy{Keep: r.keep},
		collector: retention.NewCollector(catalog.New(store, own.owner.Head().Job), store, retention.CollectorOptions{
			Epoch: own.owner.Epoch(),
		}),
		limit: maxWaiting, sweeps: r.cfg.SweepInterval, logger: r.cfg.Logger,
		wake: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	if own.from != nil {
		c.restored = own.from.ID
	}
	return c
}

// Commit implements coordinator.Committer.
func (c *committer) Commit(ctx context.Context, m *manifest.Manifest) error {
	entry, err := c.owner.Commit(ctx, m, c.retire)
	switch {
	case errors.Is(err, catalog.ErrFenced):
		return fmt.Errorf("%w: %w", coordinator.ErrFenced, err)
	case errors.Is(err, catalog.ErrUnresolved):
		return fmt.Errorf("%w: %w", coordinator.ErrUnresolved, err)
	case err != nil:
		return err
	}
	c.collector.Committed(entry, m)
	c.commits.Add(1)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// retire names the checkpoints to drop. One that the job was sent back to is
// older than others, but the base of all that are pending until as many of
// ours exist as are kept.
func (c *committer) retire(head catalog.Head) []manifest.ID {
	ours := 0
	for _, e := range head.Checkpoints {
		if e.Epoch == c.owner.Epoch() {
			ours++
		}
	}
	if ours < max(c.policy.Keep, 1) {
		return c.policy.Retire(head.Checkpoints, c.restored)
	}
	return c.policy.Retire(head.Checkpoints)
}

// collect deletes beside the job: what earlier owners and aborted uploads left
// behind, at the start and now and then, and what commits retire. It ends with
// ctx or after finish is called. Its failures hold up nothing: what was not
// deleted waits for the next time.
func (c *committer) collect(ctx context.Context) {
	c.sweep(ctx)
	sweeps, stop := ticks(c.sweeps)
	defer stop()
	var next time.Time // of a collection, unless enough commits call for it
	var wait <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.closing:
			c.collectOnce(ctx)
			return
		case <-sweeps:
			c.sweep(ctx)
			continue
		case <-c.wake:
		case <-wait:
		}
		if d := time.Until(next); d > 0 && c.commits.Load() < collectAfter {
			wait = time.After(d)
			continue
		}
		next, wait = time.Now().Add(collectEvery), nil
		if c.collectOnce(ctx) {
			next = time.Now().Add(collectRetry)
			wait = time.After(collectRetry)
		}
	}
}

// ticks is a ticker that does nothing for an interval that is not above 0.
func ticks(interval time.Duration) (<-chan time.Time, func()) {
	if interval <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(interval)
	return t.C, t.Stop
}

// sweep looks at everything stored, and gives up when the job is at its end.
func (c *committer) sweep(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-c.closing:
			cancel()
		case <-ctx.Done():
		}
	})
	defer watch.Wait()
	defer cancel()
	if res, err := c.collector.Sweep(ctx); err != nil {
		c.report(ctx, "sweep left-over objects", err)
	} else if res.Deleted > 0 {
		c.logger.Info("left-over objects deleted", "objects", res.Deleted, "bytes", res.DeletedBytes)
	}
}

// collectOnce reports whether checkpoints are held back for what it could not
// delete.
func (c *committer) collectOnce(ctx context.Context) (held bool) {
	c.commits.Store(0)
	if _, err := c.collector.Collect(ctx, c.owner.Head()); err != nil {
		c.report(ctx, "delete retired objects", err)
	}
	held = c.collector.Waiting() > c.limit
	c.hold(held)
	return held
}

func (c *committer) report(ctx context.Context, doing string, err error) {
	if ctx.Err() == nil {
		c.logger.Warn(doing, "error", err)
	}
}

// finish lets collect end when it has nothing left to do.
func (c *committer) finish() { c.close.Do(func() { close(c.closing) }) }
