package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/retention"
)

const (
	// maxWaiting is how many deletions may wait before checkpoints are held
	// back.
	maxWaiting = 100_000
	// collectRetry is the pause between two attempts to delete meanwhile: no
	// commit calls for one.
	collectRetry = 5 * time.Second
)

// committer commits checkpoints and has what they retire deleted beside them.
type committer struct {
	owner     *catalog.Owner
	collector *retention.Collector
	policy    retention.Policy
	restored  manifest.ID // protected until enough newer checkpoints exist
	hold      func(bool)
	limit     int // of waiting deletions; see maxWaiting
	logger    *slog.Logger

	wake    chan struct{} // something was committed
	closing chan struct{} // collect once more, then end
	close   sync.Once
}

func newCommitter(r *runner, own *ownership) *committer {
	c := &committer{
		owner:  own.owner,
		policy: retention.Policy{Keep: r.keep},
		collector: retention.NewCollector(r.catalog, r.store, retention.CollectorOptions{
			Epoch: own.owner.Epoch(),
		}),
		limit: maxWaiting, logger: r.cfg.Logger,
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

// collect sweeps what earlier owners left behind and then deletes what commits
// retire, until ctx ends or finish is called. Its failures hold up nothing:
// what was not deleted waits for the next time.
func (c *committer) collect(ctx context.Context) {
	if res, err := c.collector.Sweep(ctx); err != nil {
		c.report(ctx, "sweep left-over objects", err)
	} else if res.Deleted > 0 {
		c.logger.Info("left-over objects deleted", "objects", res.Deleted, "bytes", res.DeletedBytes)
	}
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-retry:
		case <-c.closing:
			c.collectOnce(ctx)
			return
		}
		retry = nil
		if c.collectOnce(ctx) {
			retry = time.After(collectRetry)
		}
	}
}

// collectOnce reports whether checkpoints are held back for what it could not
// delete.
func (c *committer) collectOnce(ctx context.Context) (held bool) {
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
