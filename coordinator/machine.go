package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

const (
	// maxQueued bounds the requests that wait for their trigger.
	maxQueued = 1000
	// retryPause is the time between the failure of the last checkpoint and its
	// next trigger.
	retryPause = time.Second
)

// Machine is the checkpoint protocol of one owner of a job: Step takes an event
// and the present time and returns what is to be done. The same events at the
// same times always give the same effects. It is not safe for concurrent use.
type Machine struct {
	cfg   Config
	job   Job            // Operators ordered by uid
	index map[string]int // operator uid → index in job.Operators

	now     time.Time // of the present Step
	effects []Effect  // of the present Step

	next       manifest.ID
	newest     manifest.ID // newest committed checkpoint that is no savepoint
	pending    []*pending  // ascending by id
	committing *pending    // one of pending, or nil

	started    bool
	held       bool
	periodicAt time.Time // when the next periodic checkpoint is due
	pauseUntil time.Time // no periodic one before this
	queue      []Requested
	last       *last

	failures int  // counted ones since the last success
	ending   *End // set during a Step that ends the run
	closed   bool
}

// last is the checkpoint that ends the run, over all its attempts.
type last struct {
	kind    manifest.Kind
	tickets []uint64
	pending *pending  // the present attempt, or nil
	retryAt time.Time // of the next
	done    manifest.ID
}

// NewMachine returns a machine that waits for Start. It keeps no reference to
// the slices of job.
func NewMachine(cfg Config, job Job) (*Machine, error) {
	cfg, cfgErr := cfg.WithDefaults()
	if err := errors.Join(cfgErr, job.check()); err != nil {
		return nil, err
	}
	job.Operators = slices.Clone(job.Operators)
	slices.SortFunc(job.Operators, func(a, b manifest.Operator) int { return strings.Compare(a.UID, b.UID) })
	index := make(map[string]int, len(job.Operators))
	for i := range job.Operators {
		index[job.Operators[i].UID] = i
	}
	return &Machine{cfg: cfg, job: job, index: index, next: job.NextID, newest: job.Restored}, nil
}

// Step lets the machine know of ev at time now, which is never before that of
// an earlier Step. What has become due by now comes first: a report that
// arrives at the very end of the timeout is late.
func (m *Machine) Step(now time.Time, ev Event) []Effect {
	m.now, m.effects = now, nil
	if !m.closed {
		m.expire()
	}
	m.handle(ev)
	if !m.closed && m.ending == nil {
		m.commitNext()
		m.triggerDue()
	}
	if m.ending != nil {
		m.end()
	}
	return m.effects
}

// Deadline returns when the machine next needs a Step though nothing happens;
// false if it does not.
func (m *Machine) Deadline() (time.Time, bool) {
	if m.closed {
		return time.Time{}, false
	}
	due, ok := m.nextTrigger()
	for _, p := range m.pending {
		if p != m.committing && (!ok || p.expires.Before(due)) {
			due, ok = p.expires, true
		}
	}
	return due, ok
}

// Newest returns the newest committed checkpoint, the base of the next; 0 if
// there is none.
func (m *Machine) Newest() manifest.ID { return m.newest }

// Pending returns the ids of the pending checkpoints in ascending order.
func (m *Machine) Pending() []manifest.ID {
	ids := make([]manifest.ID, len(m.pending))
	for i, p := range m.pending {
		ids[i] = p.ID
	}
	return ids
}

func (m *Machine) emit(e Effect) { m.effects = append(m.effects, e) }

func (m *Machine) handle(ev Event) {
	switch ev := ev.(type) {
	case Start:
		m.start()
	case Tick:
	case Requested:
		m.request(ev)
	case Report:
		m.report(ev)
	case Decline:
		m.decline(ev)
	case TriggerFailed:
		m.triggerFailed(ev)
	case CommitDone:
		m.commitDone(ev)
	case Hold:
		m.held = ev.On
	case Shutdown:
		m.stop(ev.Err)
	}
}

func (m *Machine) expire() {
	for _, p := range slices.Clone(m.pending) {
		if p != m.committing && !m.now.Before(p.expires) {
			m.abort(p, ErrExpired, nil)
		}
	}
}

// find returns the pending checkpoint that a task's message is about, or why
// there is none.
func (m *Machine) find(task TaskID, id manifest.ID, epoch manifest.Epoch) (*pending, string) {
	op, ok := m.index[task.Operator]
	switch {
	case epoch != m.job.Epoch:
		return nil, fmt.Sprintf("it is of epoch %d, this is %d", epoch, m.job.Epoch)
	case !ok || task.Subtask < 0 || task.Subtask >= m.job.Operators[op].Parallelism:
		return nil, "the job has no such task"
	}
	if p := m.byID(id); p != nil {
		return p, ""
	}
	return nil, "the checkpoint is not pending"
}

func (m *Machine) byID(id manifest.ID) *pending {
	for _, p := range m.pending {
		if p.ID == id {
			return p
		}
	}
	return nil
}

func (m *Machine) report(r Report) {
	p, why := m.find(r.Task, r.ID, r.Epoch)
	if p == nil || !p.add(m.index[r.Task.Operator], r, m.now) {
		if p != nil {
			why = "the task has reported before"
		}
		m.emit(Ignored{ID: r.ID, Epoch: r.Epoch, Task: r.Task, Reason: why})
		return
	}
	m.emit(Reported{ID: p.ID, Task: r.Task, Stats: r.State.Stats, Age: m.now.Sub(p.started), Missing: p.missing})
}

func (m *Machine) decline(d Decline) {
	p, why := m.find(d.Task, d.ID, d.Epoch)
	if p != nil && p.has(m.index[d.Task.Operator], d.Task.Subtask) {
		// Its report arrived, but not the answer to it: the state is durable.
		p, why = nil, "the task has reported before"
	}
	if p == nil {
		m.emit(Ignored{ID: d.ID, Epoch: d.Epoch, Task: d.Task, Reason: why})
		return
	}
	if d.Reason == nil {
		d.Reason = errors.New("no reason given")
	}
	m.abort(p, ErrDeclined, fmt.Errorf("task %v: %w", d.Task, d.Reason))
}

func (m *Machine) triggerFailed(ev TriggerFailed) {
	p := m.byID(ev.ID)
	switch {
	case p == nil || p.missing == 0:
		// It ended some other way, or reached everybody after all.
	case errors.Is(ev.Err, ErrNotReady):
		m.abort(p, ErrNotReady, ev.Err)
	default:
		m.abort(p, ErrTrigger, ev.Err)
	}
}
