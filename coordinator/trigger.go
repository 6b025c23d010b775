package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

func isLast(k manifest.Kind) bool { return k == manifest.Final || k == manifest.Stop }

func (m *Machine) start() {
	if m.started {
		return
	}
	m.started = true
	if m.cfg.Interval > 0 {
		m.periodicAt = m.now.Add(m.cfg.Interval)
	}
}

func (m *Machine) request(r Requested) {
	refuse := func(reason, cause error) {
		m.emit(Answer{Ticket: r.Ticket, Err: &AbortError{Reason: reason, Cause: cause}})
	}
	switch {
	case m.last != nil && m.last.done != 0 && isLast(r.Kind):
		m.emit(Answer{Ticket: r.Ticket, ID: m.last.done})
	case m.closed:
		refuse(ErrShutdown, nil)
	case isLast(r.Kind):
		m.requestLast(r)
	case r.Kind != manifest.Periodic && r.Kind != manifest.Savepoint:
		refuse(ErrTrigger, fmt.Errorf("unknown kind %q", r.Kind))
	case m.last != nil:
		refuse(ErrShutdown, errLastRequested)
	default:
		m.queue = append(m.queue, r)
		m.shedQueue()
	}
}

var errLastRequested = errors.New("the last checkpoint of the run is requested")

func (m *Machine) requestLast(r Requested) {
	if m.last == nil {
		m.last = &last{kind: r.Kind, retryAt: m.now}
		m.dropQueue(errLastRequested)
	}
	m.last.tickets = append(m.last.tickets, r.Ticket)
}

// shedQueue refuses the least important request, the youngest of them, when too
// many wait.
func (m *Machine) shedQueue() {
	if len(m.queue) <= maxQueued {
		return
	}
	victim := 0
	for i, r := range m.queue {
		if r.Kind == manifest.Periodic || m.queue[victim].Kind == manifest.Savepoint {
			victim = i
		}
	}
	m.emit(Answer{Ticket: m.queue[victim].Ticket, Err: &AbortError{Reason: ErrTooManyRequests}})
	m.queue = slices.Delete(m.queue, victim, victim+1)
}

// dropQueue refuses every request that waits: nothing more is triggered for it.
func (m *Machine) dropQueue(cause error) {
	for _, r := range m.queue {
		m.emit(Answer{Ticket: r.Ticket, Err: &AbortError{Reason: ErrShutdown, Cause: cause}})
	}
	m.queue = nil
}

// nextTrigger returns when a checkpoint may be triggered though nothing else
// happens; false if something must happen first.
func (m *Machine) nextTrigger() (time.Time, bool) {
	switch {
	case !m.started:
	case m.last != nil:
		return m.last.retryAt, m.last.pending == nil && m.last.done == 0 && m.room(m.last.kind)
	case m.cfg.Interval > 0 && m.room(manifest.Periodic):
		if m.periodicAt.Before(m.pauseUntil) {
			return m.pauseUntil, true
		}
		return m.periodicAt, true
	}
	return time.Time{}, false
}

// triggerDue triggers what is due and has room: the last checkpoint, if it is
// requested, and nothing else; or savepoints, then requested checkpoints, each
// by age, then the periodic one.
func (m *Machine) triggerDue() {
	for m.started && m.last == nil && m.ending == nil {
		i := slices.IndexFunc(m.queue, func(r Requested) bool { return r.Kind == manifest.Savepoint })
		i = max(i, 0)
		if i >= len(m.queue) || !m.room(m.queue[i].Kind) {
			break
		}
		if p := m.trigger(m.queue[i].Kind); p != nil {
			p.tickets = append(p.tickets, m.queue[i].Ticket)
			m.queue = slices.Delete(m.queue, i, i+1)
		}
	}
	due, ok := m.nextTrigger()
	switch {
	case m.ending != nil || !ok || m.now.Before(due):
	case m.last != nil:
		m.last.pending = m.trigger(m.last.kind)
	default:
		m.trigger(manifest.Periodic)
		m.periodicAt = m.now.Add(m.cfg.Interval)
	}
}

// room reports whether a checkpoint of this kind may be triggered beside the
// pending ones.
func (m *Machine) room(kind manifest.Kind) bool {
	limit := m.cfg.MaxConcurrent
	if isLast(kind) || kind == manifest.Savepoint {
		limit = m.cfg.Keep
	}
	if len(m.pending) >= limit || m.held && !isLast(kind) {
		return false
	}
	return !slices.ContainsFunc(m.pending, func(p *pending) bool { return m.endangers(kind, p) })
}

// endangers reports whether one more checkpoint of this kind could, if all
// committed that can before p, push p's base out of those that are kept.
func (m *Machine) endangers(kind manifest.Kind, p *pending) bool {
	if p.Kind != manifest.Savepoint || kind == manifest.Savepoint {
		return false // its commit subsumes p, or retires nothing
	}
	commits := p.overtaken + 1
	for _, q := range m.pending {
		if q.Kind != manifest.Savepoint {
			commits++
		}
	}
	return commits >= m.cfg.Keep
}

// trigger starts the next checkpoint, or ends the run and returns nil if there
// is no id left for it.
func (m *Machine) trigger(kind manifest.Kind) *pending {
	if m.next > manifest.MaxID {
		m.stop(fmt.Errorf("trigger checkpoint %d: %w", m.next, manifest.ErrOverflow))
		return nil
	}
	t := Trigger{
		ID: m.next, Epoch: m.job.Epoch, Kind: kind,
		Base: m.newest, OldestBase: m.newest,
		Time: m.now.Round(0).UTC(), // no monotonic reading: it crosses processes
	}
	for _, p := range m.pending {
		t.OldestBase = min(t.OldestBase, p.Base)
	}
	m.next++
	p := newPending(t, &m.job, m.now, m.cfg.Timeout)
	m.pending = append(m.pending, p)
	m.emit(SendTrigger{t})
	return p
}
