package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/retention"
)

// Run plays one seed, in a synctest bubble. Its error lists every violation.
func Run(opts Options) (Stats, error) {
	w := newWorld(opts)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()

	bystanders, stop := context.WithCancel(ctx)
	var around sync.WaitGroup
	for _, f := range []func(context.Context, *process){
		func(ctx context.Context, p *process) { latePlanner(ctx, p, w.rng()) },
		func(ctx context.Context, p *process) { latePlanner(ctx, p, w.rng()) },
		func(ctx context.Context, p *process) { unlinker(ctx, p, w.rng()) },
		func(ctx context.Context, p *process) { pinnedReader(ctx, p, w.rng()) },
		func(ctx context.Context, p *process) { pinnedReader(ctx, p, w.rng()) },
	} {
		p := newProcess(w, false)
		around.Go(func() { f(bystanders, p) })
	}
	r := w.rng()
	around.Go(func() { checker(bystanders, w, r) })

	w.lives(ctx)
	stop()
	around.Wait()
	w.settle(ctx)

	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, v := range w.wrong {
		errs = append(errs, errors.New(v))
	}
	return w.stats, errors.Join(errs...)
}

// lives starts one process after the other. Some are killed before the next
// one starts, others live on as zombies until they notice; the last one ends
// with a final checkpoint.
func (w *world) lives(ctx context.Context) {
	r := w.rng()
	var zombies sync.WaitGroup
	all, killAll := context.WithCancel(ctx)
	defer zombies.Wait()
	defer killAll()
	for n := 2 + r.IntN(4); n > 0; n-- {
		p := newProcess(w, true)
		life, kill := context.WithCancel(all)
		late := w.rng()
		zombies.Go(func() { lander(all, p, late) })
		if n == 1 {
			w.last(life, p)
			kill()
			continue
		}
		zombies.Go(func() {
			defer kill()
			w.ended(life, p, p.run(life, nil))
		})
		if pause(ctx, r, 12*time.Second) != nil {
			kill()
			return
		}
		if r.IntN(2) == 0 {
			p.raw.Cut(true)
			kill()
		}
	}
}

// last runs a process to the end of the job.
func (w *world) last(ctx context.Context, p *process) {
	for {
		finish := make(chan struct{})
		time.AfterFunc(6*time.Second, func() { close(finish) })
		err := p.run(ctx, finish)
		switch {
		case err == nil:
			return
		case errors.Is(err, coordinator.ErrFenced):
			// An earlier process was slower in taking over than this one.
			p = newProcess(w, true)
		default:
			w.violation("the last process ended with: %v", err)
			return
		}
	}
}

// ended checks how a process that did not finish may end: replaced, killed, or,
// while it restored a checkpoint that its successor has retired since, without
// an object of it.
func (w *world) ended(ctx context.Context, p *process, err error) {
	for _, ok := range []error{coordinator.ErrFenced, coordinator.ErrUnresolved, coordinator.ErrShutdown, context.Canceled} {
		if errors.Is(err, ok) {
			return
		}
	}
	if errors.Is(err, objectstore.ErrNotExist) || errors.Is(err, manifest.ErrCorrupt) {
		head, headErr := catalog.New(objectstore.Prefix(w.store, jobName), jobName).Head(ctx)
		if headErr == nil && head.Epoch > p.owner.Epoch() {
			return
		}
	}
	w.violation("a process ended with: %v", err)
}

// settle deletes what is left when everybody is gone, and looks for what
// should not be there.
func (w *world) settle(ctx context.Context) {
	p := newProcess(w, false)
	// Pins of readers that went away expire by the store's clock.
	time.Sleep(5 * time.Minute)
	for range 2 {
		plan, err := retention.NewPlan(ctx, p.cat, p.store)
		if err == nil {
			_, err = retention.Apply(ctx, p.cat, p.store, plan, retention.ApplyOptions{})
		}
		if err != nil {
			w.violation("clean up: %v", err)
			return
		}
	}
	w.check(ctx)
	left, err := w.orphans(ctx)
	if err != nil {
		w.violation("list orphans: %v", err)
	}
	for _, key := range left {
		w.violation("%s", fmt.Sprintf("orphan %s", key))
	}
}
