package coordinator

import (
	"errors"
	"slices"

	"github.com/ckpt-io/ckpt/manifest"
)

// commitNext begins the commit of the lowest complete checkpoint, if none is
// under way.
func (m *Machine) commitNext() {
	if m.committing != nil {
		return
	}
	for _, p := range m.pending {
		if p.missing == 0 {
			p.commit, p.stats = m.now, p.figures()
			m.committing = p
			m.emit(StartCommit{Manifest: p.manifest(&m.job)})
			return
		}
	}
}

func (m *Machine) commitDone(ev CommitDone) {
	p := m.committing
	if p == nil || p.ID != ev.ID {
		return
	}
	m.committing = nil
	switch {
	case ev.Err == nil:
		m.completed(p)
	case errors.Is(ev.Err, ErrFenced):
		m.stop(ev.Err)
		m.drop(p, ErrFenced, ev.Err)
	case errors.Is(ev.Err, ErrUnresolved):
		m.stop(ev.Err)
		m.drop(p, ErrUnresolved, ev.Err) // the tasks must not hear of an abort
	default:
		m.abort(p, ErrFinalize, ev.Err)
	}
}

func (m *Machine) completed(p *pending) {
	m.remove(p)
	m.failures = 0
	m.pauseUntil = m.now.Add(m.cfg.MinPause)
	if p.Kind != manifest.Savepoint {
		m.newest = p.ID
		m.emit(SendCompleted{ID: p.ID, At: p.Time})
	}
	m.emit(Completed{
		ID: p.ID, Kind: p.Kind, Base: p.Base, Triggered: p.Time, Stats: p.stats,
		Queue: p.commit.Sub(p.complete), Commit: m.now.Sub(p.commit),
	})
	if m.last != nil && m.last.pending == p {
		m.last.pending, m.last.done = nil, p.ID
	}
	m.answer(p, nil)
	if p.Kind != manifest.Savepoint {
		m.overtake(p)
	}
	m.endIfDone()
}

// overtake settles what the commit of p means for the checkpoints that pend.
func (m *Machine) overtake(p *pending) {
	for _, q := range slices.Clone(m.pending) {
		if q.ID < p.ID && q.Kind != manifest.Savepoint {
			m.abort(q, ErrSubsumed, nil)
		} else {
			q.overtaken++
		}
	}
}

// endIfDone ends the run after its last checkpoint, once nothing is pending.
// In a run that has ended for another reason, it is the better end.
func (m *Machine) endIfDone() {
	if m.last != nil && m.last.done != 0 && len(m.pending) == 0 {
		m.ending = &End{}
	}
}

// abort ends p, tells the tasks, and counts it if it is a failure.
func (m *Machine) abort(p *pending, reason, cause error) {
	m.emit(SendAborted{ID: p.ID, Latest: m.newest})
	m.drop(p, reason, cause)
}

// drop ends p without a word to the tasks.
func (m *Machine) drop(p *pending, reason, cause error) {
	m.remove(p)
	err := &AbortError{ID: p.ID, Reason: reason, Cause: cause}
	counted := p.Kind != manifest.Savepoint && err.counted()
	if counted {
		m.failures++
	}
	m.emit(Aborted{
		ID: p.ID, Kind: p.Kind, Err: err, Age: m.now.Sub(p.started),
		Missing: p.missingTasks(&m.job), Counted: counted, Failures: m.failures,
	})
	if m.last != nil && m.last.pending == p && !m.closed {
		m.last.pending, m.last.retryAt = nil, m.now.Add(retryPause)
	} else {
		m.answer(p, err)
	}
	if m.failures > m.cfg.Tolerable {
		m.stop(&FailureError{Failures: m.failures, Last: err})
	}
	m.endIfDone()
}

func (m *Machine) remove(p *pending) {
	m.pending = slices.DeleteFunc(m.pending, func(q *pending) bool { return q == p })
}

// answer answers the requests that led to p.
func (m *Machine) answer(p *pending, err error) {
	if m.last != nil && isLast(p.Kind) {
		p.tickets, m.last.tickets = append(p.tickets, m.last.tickets...), nil
	}
	for _, t := range p.tickets {
		m.emit(Answer{Ticket: t, ID: p.ID, Err: err})
	}
}

// stop has the run end with this Step. The first reason counts.
func (m *Machine) stop(err error) {
	if m.ending == nil && !m.closed {
		m.ending = &End{Err: err}
	}
}

// end closes the machine: every pending checkpoint but the one that is being
// committed is aborted, and every request that does not wait for that one is
// answered.
func (m *Machine) end() {
	end := *m.ending
	m.ending = nil
	if !m.closed {
		m.closed = true
		for _, p := range slices.Clone(m.pending) {
			if p != m.committing {
				m.abort(p, ErrShutdown, end.Err)
			}
		}
		m.dropQueue(end.Err)
		if m.last != nil && m.last.pending == nil {
			for _, t := range m.last.tickets {
				m.emit(Answer{Ticket: t, Err: &AbortError{Reason: ErrShutdown, Cause: end.Err}})
			}
			m.last.tickets = nil
		}
	}
	if m.ending != nil { // the last checkpoint was committed before
		end, m.ending = *m.ending, nil
	}
	m.emit(end)
}
