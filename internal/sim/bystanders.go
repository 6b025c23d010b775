package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/retention"
)

// latePlanner is somebody at the command line: it plans a deletion, thinks
// about it for a long time, and applies the plan.
func latePlanner(ctx context.Context, p *process, r *rand.Rand) {
	for pause(ctx, r, 10*time.Second) == nil {
		plan, err := retention.NewPlan(ctx, p.cat, p.store)
		if err != nil {
			continue
		}
		if pause(ctx, r, 15*time.Second) != nil {
			return
		}
		if res, err := retention.Apply(ctx, p.cat, p.store, plan, retention.ApplyOptions{Batch: 2}); err == nil {
			p.w.count(func(s *Stats) { s.LatePlans++; s.Deleted += res.Deleted })
		}
	}
}

// unlinker is somebody at the command line who drops a checkpoint.
func unlinker(ctx context.Context, p *process, r *rand.Rand) {
	for pause(ctx, r, 20*time.Second) == nil {
		head, err := p.cat.Head(ctx)
		if err != nil || len(head.Checkpoints) < 2 {
			continue
		}
		victim := head.Checkpoints[r.IntN(len(head.Checkpoints)-1)]
		// Refused or lost, it is as if nobody had asked.
		_, _ = p.cat.Unlink(ctx, victim.ID)
	}
}

// pinnedReader reads old checkpoints slowly, under a pin. Once the pin holds,
// everything must be there.
func pinnedReader(ctx context.Context, p *process, r *rand.Rand) {
	for pause(ctx, r, 10*time.Second) == nil {
		head, err := p.cat.Head(ctx)
		if err != nil || len(head.Checkpoints) == 0 {
			continue
		}
		e := head.Checkpoints[r.IntN(len(head.Checkpoints))]
		pin, err := p.cat.Pin(ctx, e, time.Minute)
		if err != nil {
			continue // unlinked before the pin held, or the store gave way
		}
		read(ctx, p, r, e, pin)
		_ = pin.Release(ctx) // a pin that stays expires
	}
}

func read(ctx context.Context, p *process, r *rand.Rand, e catalog.Entry, pin *catalog.Pin) {
	ctx = pin.Keep(ctx)
	if pause(ctx, r, 8*time.Second) != nil {
		return
	}
	for {
		err := p.w.restores(ctx, p.cat, p.store, e)
		switch {
		case err == nil:
			p.w.count(func(s *Stats) { s.PinnedReads++ })
			return
		case ctx.Err() != nil, errors.Is(err, catalog.ErrPinLost):
			return
		case errors.Is(err, objectstore.ErrUnavailable):
		default:
			p.w.violation("pinned checkpoint %d of epoch %d: %v", e.ID, e.Epoch, err)
			return
		}
	}
}

// lander lets writes land that were under way long after their writer gave up.
func lander(ctx context.Context, p *process, r *rand.Rand) {
	for pause(ctx, r, 5*time.Second) == nil {
		p.raw.Land(ctx)
	}
}

// checker looks at all listed checkpoints again and again.
func checker(ctx context.Context, w *world, r *rand.Rand) {
	for pause(ctx, r, 5*time.Second) == nil {
		w.check(ctx)
	}
}
