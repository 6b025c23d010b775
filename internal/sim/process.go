package sim

import (
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine/keygroup"
	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
	"github.com/ckpt-io/ckpt/retention"
)

const maxParallelism = 6

func digest(data []byte) manifest.Digest { return sha256.Sum256(data) }

// process is one life of the job: it takes the job over, restores the newest
// checkpoint at a parallelism of its own, and runs until it is fenced, killed
// or done.
type process struct {
	w     *world
	raw   *storetest.Faulty
	store objectstore.Store // raw, of this job
	cat   *catalog.Catalog
	owner *catalog.Owner
	gc    *retention.Collector
	tasks []*task
	coord *coordinator.Coordinator
	rng   *rand.Rand // the coordinator's side

	collect chan struct{}
	wg      sync.WaitGroup
}

// newProcess makes a process with a store of its own, whose answers are slow
// and sometimes lost, and whose writes sometimes land late.
func newProcess(w *world, faults bool) *process {
	p := &process{w: w, rng: w.rng(), collect: make(chan struct{}, 1)}
	p.raw = storetest.NewFaulty(w.store, w.rng().Uint64())
	delays, mu := w.rng(), sync.Mutex{}
	p.raw.Hook = func(ctx context.Context, c storetest.Call) error {
		mu.Lock()
		d := time.Duration(delays.Int64N(int64(60*time.Millisecond)) + 1)
		switch data := strings.Contains(c.Key, manifest.DataPrefix); {
		case delays.IntN(40) == 0:
			d *= 20
		case data && c.Op == storetest.Put && delays.IntN(10) == 0:
			d *= 40 // so that a base can be ready before a delta
		}
		mu.Unlock()
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			if c.Phase == storetest.Before {
				return ctx.Err()
			}
		}
		return nil
	}
	if faults {
		p.raw.Add(
			storetest.Rule{Op: storetest.Put, Chance: 0.03, Do: storetest.LoseAnswer()},
			storetest.Rule{Op: storetest.Put, Chance: 0.02, Do: storetest.LoseRequest()},
			storetest.Rule{Op: storetest.Put, Key: "HEAD$", Chance: 0.04, Do: storetest.LandLater()},
			storetest.Rule{Op: storetest.Get, Chance: 0.01, Do: storetest.Fail(objectstore.ErrUnavailable)},
		)
	}
	p.store = objectstore.Prefix(p.raw, jobName)
	p.cat = catalog.New(p.store, jobName)
	return p
}

// run is the life of the process. kind is what its last checkpoint shall be,
// asked for when finish is closed.
func (p *process) run(ctx context.Context, finish <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer p.wg.Wait()
	defer cancel()
	var err error
	if p.owner, err = p.cat.TakeOver(ctx, catalog.TakeOverOptions{Parts: p.w.opts.parts()}); err != nil {
		return err
	}
	p.w.count(func(s *Stats) { s.Takeovers++ })
	head := p.owner.Head()
	restored, err := p.restore(ctx, head)
	if err != nil {
		return err
	}
	p.gc = retention.NewCollector(p.cat, p.store, retention.CollectorOptions{Epoch: p.owner.Epoch()})
	cfg := coordinator.Config{
		Interval: 700 * time.Millisecond, Timeout: 4 * time.Second, MaxConcurrent: p.w.opts.MaxPending,
		Keep: max(p.w.opts.Keep, p.w.opts.MaxPending), Tolerable: 1 << 30,
	}
	job := coordinator.Job{
		Name: jobName, UUID: head.UUID, Epoch: p.owner.Epoch(), NextID: head.NextID, Restored: restored,
		Operators: []manifest.Operator{{UID: "op", Parallelism: len(p.tasks), MaxParallelism: maxParallelism, Hasher: "sim"}},
	}
	listener := coordinator.Listener{
		Aborted: func(coordinator.Aborted) { p.w.count(func(s *Stats) { s.Aborted++ }) },
	}
	if p.coord, err = coordinator.New(cfg, job, p, p, listener); err != nil {
		return err
	}
	p.start(ctx)
	p.wg.Go(func() {
		select {
		case <-finish:
			p.coord.SourcesFinished()
		case <-ctx.Done():
		}
	})
	return p.coord.Run(ctx)
}

// start begins the goroutines of the tasks and of retention.
func (p *process) start(ctx context.Context) {
	for _, t := range p.tasks {
		background, bases := p.w.rng(), p.w.rng()
		p.wg.Go(func() { t.run(ctx) })
		p.wg.Go(func() { t.background(ctx, background) })
		p.wg.Go(func() { t.materialize(ctx, bases) })
	}
	p.wg.Go(func() { p.retain(ctx) })
}

// restore makes the tasks from the newest checkpoint.
func (p *process) restore(ctx context.Context, head catalog.Head) (manifest.ID, error) {
	var parents []manifest.Task
	var id manifest.ID
	if e, ok := head.Newest(); ok {
		m, err := p.manifest(ctx, e)
		if err != nil {
			return 0, err
		}
		parents, id = m.Operators[0].Tasks, m.ID
	}
	parallelism := 1 + p.rng.IntN(3)
	if len(parents) > 0 && p.rng.IntN(2) == 0 {
		parallelism = len(parents)
	}
	for i := range parallelism {
		t, err := p.newTask(ctx, i, parallelism, head.NextID, parents)
		if err != nil {
			return 0, err
		}
		p.tasks = append(p.tasks, t)
	}
	return id, nil
}

func (p *process) manifest(ctx context.Context, e catalog.Entry) (m *manifest.Manifest, err error) {
	for range 50 {
		if m, err = p.cat.Manifest(ctx, e); err == nil || !errors.Is(err, objectstore.ErrUnavailable) {
			return m, err
		}
	}
	return m, err
}

func (p *process) newTask(ctx context.Context, i, parallelism int, next manifest.ID, parents []manifest.Task) (*task, error) {
	r := keygroup.Range(maxParallelism, parallelism, i)
	t := &task{
		p: p, index: i, kgs: r, inbox: make(chan signal, 100), rng: p.w.rng(),
		values: state{}, changes: table{}, last: next - 1, wake: make(chan struct{}, 1), ingested: state{},
	}
	opts := incremental.LedgerOptions{Operator: "op", Subtask: i, Epoch: p.owner.Epoch(), NextID: next, KeyGroups: r}
	var keyed []manifest.KeyedState
	for _, parent := range parents {
		keyed = append(keyed, *parent.Keyed)
		if len(parents) == parallelism && parent.Index == i {
			opts.Reserved = parent.Reserved
		}
	}
	if len(parents) > 0 {
		k := incremental.Rescale(keyed, r)
		opts.Restored = &k
		for {
			s, err := restoreState(ctx, p.store, &k)
			if err == nil {
				t.values, t.ingested = s, cloneState(s)
				break
			}
			if !errors.Is(err, objectstore.ErrUnavailable) {
				return nil, err
			}
		}
	}
	t.ledger = incremental.NewLedger(opts)
	t.position = t.ledger.Position()
	return t, nil
}

func cloneState(s state) state {
	out := make(state, len(s))
	for k, v := range s {
		out[k] = v
	}
	return out
}

// Trigger, Completed and Aborted are the network from the coordinator to the
// tasks: each task is told after a time of its own, twice, or never.
func (p *process) Trigger(t coordinator.Trigger) error {
	p.broadcast(signal{trigger: &t}, t.Kind == manifest.Final)
	return nil
}

// Completed tells the tasks nothing: the simulated ones have nothing to do.
func (p *process) Completed(manifest.ID, time.Time) {}

// Aborted is part of the network.
func (p *process) Aborted(id, _ manifest.ID) { p.broadcast(signal{aborted: id}, false) }

func (p *process) broadcast(s signal, sure bool) {
	for _, t := range p.tasks {
		copies := 1
		switch p.rng.IntN(30) {
		case 0:
			copies = 0
		case 1:
			copies = 2
		}
		if sure {
			copies = max(copies, 1)
		}
		for range copies {
			time.AfterFunc(time.Duration(p.rng.Int64N(int64(150*time.Millisecond))), func() {
				select {
				case t.inbox <- s:
				default: // lost
				}
			})
		}
	}
}

// send is the network from a task to the coordinator: late, twice, or, seldom,
// not at all.
func (p *process) send(ctx context.Context, r *rand.Rand, report coordinator.Report) {
	copies := 1
	switch r.IntN(40) {
	case 0:
		copies = 0
	case 1:
		copies = 2
	}
	for range copies {
		limit := 300 * time.Millisecond
		if r.IntN(10) == 0 {
			limit = 3 * time.Second
		}
		time.AfterFunc(time.Duration(r.Int64N(int64(limit))), func() {
			if ctx.Err() == nil {
				p.coord.Report(report)
			}
		})
	}
}

// Commit makes a checkpoint durable and retires old ones.
func (p *process) Commit(ctx context.Context, m *manifest.Manifest) error {
	policy := retention.Policy{Keep: p.w.opts.Keep}
	if p.w.opts.Break == KeepFewer {
		m.Base = 0 // or the catalog would see that the base is gone
	}
	e, err := p.owner.Commit(ctx, m, func(h catalog.Head) []manifest.ID { return policy.Retire(h.Checkpoints) })
	switch {
	case errors.Is(err, catalog.ErrFenced):
		return errors.Join(coordinator.ErrFenced, err)
	case errors.Is(err, catalog.ErrUnresolved):
		return errors.Join(coordinator.ErrUnresolved, err)
	case err != nil:
		return err
	}
	p.w.count(func(s *Stats) {
		s.Committed++
		s.Packs += len(m.Packs)
		s.Shared += len(m.Packs) - len(withOwnPacks(m).Packs)
	})
	if p.w.opts.Break == ForgetPacks {
		m = withOwnPacks(m)
	}
	p.gc.Committed(e, m)
	select {
	case p.collect <- struct{}{}:
	default:
	}
	return nil
}

// withOwnPacks is the control that forgets the packs which a manifest shares
// with those before it.
func withOwnPacks(m *manifest.Manifest) *manifest.Manifest {
	out := *m
	out.Packs = slices.DeleteFunc(slices.Clone(m.Packs), func(o manifest.Object) bool {
		id, _, err := manifest.WrittenFor(o.Key)
		return err != nil || id < m.ID
	})
	return &out
}

// retain sweeps once and then collects after commits.
func (p *process) retain(ctx context.Context) {
	res, _ := p.gc.Sweep(ctx)
	for {
		p.w.count(func(s *Stats) { s.Deleted += res.Deleted })
		select {
		case <-ctx.Done():
			return
		case <-p.collect:
			res, _ = p.gc.Collect(ctx, p.owner.Head())
		}
	}
}
