package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine/internal/exchange"
	"github.com/ckpt-io/ckpt/engine/keygroup"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
)

// parallelOpens bounds the subtasks that restore their state at a time.
const parallelOpens = 8

// errDone ends an execution whose tasks have all ended well.
var errDone = errors.New("job is done")

// execution is the life of a job in one epoch.
type execution struct {
	*runner
	*ownership
	epoch   manifest.Epoch
	dir     string        // local state of this epoch
	took    time.Duration // to become the owner
	running time.Time     // since when records are processed; zero: not yet

	fail      context.CancelCauseFunc
	coord     *coordinator.Coordinator
	committer *committer
	tasks     []*task
	sources   []*task
	unread    atomic.Int64 // sources that are not exhausted

	mu       sync.Mutex
	restored incremental.RestoreStats // see Started.State
}

// run executes the job until its last checkpoint is complete and all output is
// committed (nil), or until the first failure.
func (x *execution) run(ctx context.Context) (err error) {
	ctx, x.fail = context.WithCancelCause(ctx)
	defer x.fail(nil)
	began := time.Now()
	defer func() { err = errors.Join(err, os.RemoveAll(x.dir)) }()
	if err := x.build(ctx); err != nil {
		return errors.Join(err, x.closeTasks())
	}
	if err := x.open(ctx); err != nil {
		return errors.Join(err, x.closeTasks())
	}
	x.running = time.Now()
	if x.cfg.Events.Started != nil {
		x.cfg.Events.Started(x.started(began))
	}
	return x.process(ctx)
}

func (x *execution) started(began time.Time) Started {
	s := Started{
		Job: x.job.name, Epoch: x.epoch, Parallelism: x.cfg.Parallelism,
		TakeOver: x.took, Restore: x.running.Sub(began), State: x.restored,
	}
	if x.from != nil {
		s.Restored = x.from.ID
	}
	return s
}

// process runs all goroutines of the execution and waits for them.
func (x *execution) process(ctx context.Context) error {
	var tasks, others sync.WaitGroup
	for _, t := range x.tasks {
		tasks.Go(func() {
			if err := t.run(ctx); err != nil {
				x.fail(err)
			}
		})
		others.Go(func() { t.reports.run(ctx) })
	}
	others.Go(func() {
		if err := x.coord.Run(ctx); err != nil {
			x.fail(err)
		}
	})
	others.Go(func() { x.awaitStop(ctx) })
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		x.committer.collect(ctx)
	}()

	if err := x.await(ctx, &tasks); err != nil {
		return err
	}
	cause := context.Cause(ctx)
	closed := x.closeTasks()
	if cause == nil {
		x.committer.finish()
		select {
		case <-collected:
		case <-time.After(x.cfg.StopTimeout):
		}
	}
	// A failure to close after the last checkpoint is one of the job, which
	// then recovers from that checkpoint.
	x.fail(errDone)
	<-collected
	others.Wait()
	return errors.Join(cause, closed)
}

// await waits for the tasks. Those that do not end in time when they should
// are left behind.
func (x *execution) await(ctx context.Context, tasks *sync.WaitGroup) error {
	ended := make(chan struct{})
	go func() {
		tasks.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	timer := time.NewTimer(x.cfg.CancelTimeout)
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-timer.C:
		return &StuckError{Epoch: x.epoch, Timeout: x.cfg.CancelTimeout, Err: context.Cause(ctx)}
	}
}

// awaitStop asks for the last checkpoint when the job is to stop.
func (x *execution) awaitStop(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-x.cfg.Stop:
		// Its failure ends the run, which says why.
		_, _ = x.coord.Request(ctx, manifest.Stop)
	}
}

// Trigger implements coordinator.Tasks.
func (x *execution) Trigger(t coordinator.Trigger) error {
	for _, s := range x.sources {
		s.mail.post(message{trigger: &t})
	}
	return nil
}

// Completed implements coordinator.Tasks.
func (x *execution) Completed(id manifest.ID, _ time.Time) {
	for _, t := range x.tasks {
		t.mail.post(message{completed: id})
	}
}

// Aborted implements coordinator.Tasks.
func (x *execution) Aborted(id, _ manifest.ID) {
	for _, t := range x.tasks {
		t.mail.post(message{aborted: id})
	}
}

// exhausted is called by each source task once.
func (x *execution) exhausted() {
	if x.unread.Add(-1) == 0 {
		x.coord.SourcesFinished()
	}
}

// build makes the tasks and connects them.
func (x *execution) build(ctx context.Context) error {
	job := coordinator.Job{
		Name: x.job.name, UUID: x.owner.Head().UUID, Epoch: x.epoch,
		NextID: x.owner.Head().NextID, Operators: x.plan.operators(),
	}
	if x.from != nil {
		job.Restored = x.from.ID
	}
	x.committer = newCommitter(x.runner, x.ownership)
	var err error
	x.coord, err = coordinator.New(x.cfg.Checkpoint, job, x, x.committer, x.cfg.Events.Checkpoints)
	if err != nil {
		return err
	}
	x.committer.hold = x.coord.Hold
	assigned, err := x.assignments(ctx)
	if err != nil {
		return err
	}
	b := &builder{x: x, ctx: ctx, exchange: exchange.NewLocal(credit), assigned: assigned}
	return b.build()
}

// open opens all operators, and then starts them: what a sink cleans up at its
// start must not be what another subtask has yet to recover.
func (x *execution) open(ctx context.Context) error {
	each := func(doing string, f func(operator, context.Context) error) error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(parallelOpens)
		for _, t := range x.tasks {
			g.Go(func() error {
				for i, op := range t.operators {
					if err := t.subs[i].guard(doing, func() error { return f(op, ctx) }); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return g.Wait()
	}
	if err := each("open", operator.open); err != nil {
		return err
	}
	return each("start", operator.start)
}

// finish commits the output of a job that has ended.
func (x *execution) finish(ctx context.Context) (err error) {
	assigned, err := x.assignments(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.closeTasks()) }()
	for _, n := range x.job.nodes {
		if n.role != roleSink {
			continue
		}
		for i, restored := range assigned[n] {
			t := &task{index: i}
			x.tasks = append(x.tasks, t)
			if err := t.add(x.newSubtask(n, i, restored), nil); err != nil {
				return err
			}
		}
	}
	return x.open(ctx)
}

// newSubtask describes one subtask of an operator.
func (x *execution) newSubtask(n *node, index int, restored manifest.Task) *subtask {
	s := &subtask{
		node: n, job: x.job.name, index: index, epoch: x.epoch,
		restored: restored, dropState: x.cfg.AllowNonRestoredState,
		parallelism: x.plan.parallelism[n], maxParallelism: x.plan.maxParallelism[n],
		logger: x.cfg.Logger.With("operator", n.uid, "subtask", index),
	}
	if n.role == roleKeyed {
		s.keyGroups = keygroup.Range(s.maxParallelism, s.parallelism, index)
	}
	s.openState = func(ctx context.Context) (*state.Store, error) { return x.openState(ctx, s) }
	return s
}

func (x *execution) openState(ctx context.Context, s *subtask) (*state.Store, error) {
	hydrating := func(h state.HydrationProgress) {
		if x.cfg.Events.Hydrating != nil {
			x.cfg.Events.Hydrating(Hydrating{Operator: s.node.uid, Subtask: s.index, HydrationProgress: h})
		}
	}
	hydrated := func(h state.Hydration) {
		if x.cfg.Events.Hydrated != nil {
			x.cfg.Events.Hydrated(Hydrated{Operator: s.node.uid, Subtask: s.index, Hydration: h})
		}
	}
	materialized := func(m state.Materialization) {
		if x.cfg.Events.Materialized != nil {
			x.cfg.Events.Materialized(Materialized{Operator: s.node.uid, Subtask: s.index, Materialization: m})
		}
	}
	store, err := state.Open(ctx, state.Options{
		Operator: s.node.uid, Subtask: s.index, KeyGroups: s.keyGroups,
		Epoch: x.epoch, NextID: x.owner.Head().NextID,
		Restored: s.restored.Keyed, Reserved: s.restored.Reserved,
		KeyCodec: s.node.keyCodec, Store: x.store, Limiter: x.cfg.Limiter,
		Dir:          filepath.Join(x.dir, s.node.uid, strconv.Itoa(s.index)),
		OverlayBytes: x.cfg.OverlayBytes, Caches: x.caches, Local: x.local.objects, Materialize: x.cfg.Materialize,
		OnBase: materialized, MaxUnsentBytes: x.cfg.MaxUnsentBytes, Compression: x.cfg.Compression,
		Restore: x.cfg.Restore, OnHydrating: hydrating, OnHydrated: hydrated,
		Logger:    s.logger,
		OnFailure: func(err error) { x.fail(s.fail("keep state", err)) },
	})
	if err == nil {
		x.countRestored(store.RestoreStats())
	}
	return store, err
}

func (x *execution) closeTasks() error {
	var errs []error
	for _, t := range x.tasks {
		for i, op := range t.operators {
			errs = append(errs, t.subs[i].guard("close", op.close))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end of epoch %d: %w", uint64(x.epoch), err)
	}
	return nil
}
