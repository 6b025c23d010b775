package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine/internal/exchange"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
)

// maxCaptures is how many captures of a task may wait to become durable before
// its next barrier waits too.
const maxCaptures = 16

// capture is what a task captured at one barrier.
type capture struct {
	trigger coordinator.Trigger
	began   time.Time // first barrier seen; a source: trigger received
	parts   []part    // by operator of the chain
	stats   []manifest.TaskStats
}

// checkpoint passes the barrier on and captures the state of all operators:
// the pause. stats hold the alignment.
func (t *task) checkpoint(ctx context.Context, trigger coordinator.Trigger, began time.Time, stats manifest.TaskStats) error {
	if err := t.broadcast(exchange.Barrier{Trigger: trigger}); err != nil {
		return err
	}
	stats.StartDelay = max(0, began.Sub(trigger.Time))
	c := capture{trigger: trigger, began: began}
	for i, op := range t.operators {
		start := time.Now()
		err := t.subs[i].guard("capture state", func() error {
			p, err := op.snapshot(ctx, trigger)
			c.parts = append(c.parts, p)
			return err
		})
		if err != nil {
			return err
		}
		stats.Capture = time.Since(start)
		c.stats = append(c.stats, stats)
	}
	if trigger.Kind == manifest.Final || trigger.Kind == manifest.Stop {
		t.last = trigger.ID
	}
	return t.reports.add(ctx, c)
}

// reporter waits until captures are durable and reports them, one after the
// other: a task reports in the order of ids (rule R6).
type reporter struct {
	subs     []*subtask
	coord    *coordinator.Coordinator
	captures chan capture

	mu      sync.Mutex
	dropped map[manifest.ID]bool // aborted: reporting them is of no use
}

func newReporter(subs []*subtask, coord *coordinator.Coordinator) *reporter {
	return &reporter{subs: subs, coord: coord, captures: make(chan capture, maxCaptures), dropped: make(map[manifest.ID]bool)}
}

func (r *reporter) add(ctx context.Context, c capture) error {
	select {
	case r.captures <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run reports until ctx ends.
func (r *reporter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-r.captures:
			r.report(ctx, c)
		}
	}
}

// report waits for all of a task's operators before it reports the first, so
// that a checkpoint is declined or reported by a chain as a whole.
func (r *reporter) report(ctx context.Context, c capture) {
	tasks := make([]manifest.Task, len(c.parts))
	for i, p := range c.parts {
		task, err := p.wait(ctx, c.stats[i])
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, state.ErrAborted) {
				r.decline(r.subs[i], c.trigger, err)
			}
			return
		}
		tasks[i] = task
	}
	if r.wasAborted(c.trigger.ID) {
		return
	}
	for i, task := range tasks {
		task.Index = r.subs[i].index
		task.Stats.Total = time.Since(c.began)
		r.coord.Report(coordinator.Report{
			Task: r.subs[i].taskID(), ID: c.trigger.ID, Epoch: c.trigger.Epoch, State: task,
		})
	}
}

// wait returns the operator's part of the checkpoint once it is durable. own
// are the figures the task measured itself.
func (p part) wait(ctx context.Context, own manifest.TaskStats) (manifest.Task, error) {
	task := manifest.Task{Splits: p.splits, Handles: p.handles, OperatorStates: p.states}
	if p.keyed != nil {
		keyed, reserved, stats, err := p.keyed.Wait(ctx)
		if err != nil {
			return task, err
		}
		task.Keyed, task.Reserved, task.Stats = keyed, reserved, stats
	}
	task.Stats.StartDelay = own.StartDelay
	task.Stats.Alignment = own.Alignment
	task.Stats.InFlightBytes = own.InFlightBytes
	task.Stats.Capture = own.Capture
	return task, nil
}

func (r *reporter) aborted(id manifest.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped[id] = true
}

// wasAborted forgets id and all before it: they are reported in order.
func (r *reporter) wasAborted(id manifest.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	aborted := r.dropped[id]
	for old := range r.dropped {
		if old <= id {
			delete(r.dropped, old)
		}
	}
	return aborted
}

func (r *reporter) decline(sub *subtask, trigger coordinator.Trigger, reason error) {
	r.coord.Decline(coordinator.Decline{Task: sub.taskID(), ID: trigger.ID, Epoch: trigger.Epoch, Reason: reason})
}
