package coordinator

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// Coordinator drives a Machine for one owner of a job: it lives as long as that
// owner's epoch. Its methods may be called from any goroutine, also before Run,
// which then finds what was said; none but Run and Request waits for anything.
type Coordinator struct {
	tasks     Tasks
	committer Committer
	listener  Listener
	machine   *Machine // of the goroutine of Run

	wake chan struct{} // holds one token when inbox may have something

	mu      sync.Mutex
	running bool
	closed  bool
	inbox   []Event
	tickets uint64 // the last one given out; 0 is nobody's
	waiting map[uint64]chan<- Answer
}

// New returns a coordinator that waits for Run, or all the reasons why cfg or
// job is refused.
func New(cfg Config, job Job, tasks Tasks, committer Committer, listener Listener) (*Coordinator, error) {
	machine, err := NewMachine(cfg, job)
	if err != nil {
		return nil, err
	}
	return &Coordinator{
		tasks: tasks, committer: committer, listener: listener, machine: machine,
		wake: make(chan struct{}, 1), waiting: make(map[uint64]chan<- Answer),
	}, nil
}

// Report hands in a task's part of a checkpoint. Late, doubled and foreign
// reports are ignored.
func (c *Coordinator) Report(r Report) { c.post(r) }

// Decline says that a task cannot take part in a checkpoint.
func (c *Coordinator) Decline(d Decline) { c.post(d) }

// SourcesFinished asks for the Final checkpoint and does not wait for it: Run
// returns nil when it is committed.
func (c *Coordinator) SourcesFinished() { c.post(Requested{Kind: manifest.Final}) }

// Hold holds back all triggers, save that of the last checkpoint, until it is
// called with false: deletion of old checkpoints lags behind.
func (c *Coordinator) Hold(on bool) { c.post(Hold{On: on}) }

// Request asks for a checkpoint of the given kind and waits until it is
// committed and the tasks have been told: then it returns its id. A Periodic
// one waits for its turn (Config.MaxConcurrent) but not for Config.MinPause; a
// Savepoint, Final or Stop one is triggered at once, beside the pending ones,
// while fewer than Config.Keep are pending. Final and Stop checkpoints are
// tried again until they succeed or the run ends.
//
// The error is an *AbortError, or that of ctx: then the checkpoint goes on.
func (c *Coordinator) Request(ctx context.Context, kind manifest.Kind) (manifest.ID, error) {
	answer := make(chan Answer, 1)
	c.mu.Lock()
	c.tickets++
	ticket := c.tickets
	c.waiting[ticket] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, ticket)
		c.mu.Unlock()
	}()

	if !c.post(Requested{Ticket: ticket, Kind: kind}) {
		return 0, &AbortError{Reason: ErrShutdown}
	}
	select {
	case a := <-answer:
		return a.ID, a.Err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// post puts ev in the inbox; false if the run is over.
func (c *Coordinator) post(ev Event) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.inbox = append(c.inbox, ev)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return true
}

func (c *Coordinator) take() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	events := c.inbox
	c.inbox = nil
	return events
}

// Run takes checkpoints until the run ends, and returns why: nil after the
// commit of a Final or Stop checkpoint, a *FailureError when too many failed,
// an error matching ErrFenced or ErrUnresolved from the Committer, one matching
// manifest.ErrOverflow when there is no id left, or the cause of ctx's end. A
// commit under way is waited for, with its context ended. It runs once.
func (c *Coordinator) Run(ctx context.Context) error {
	c.mu.Lock()
	again := c.running
	c.running = true
	c.mu.Unlock()
	if again {
		return errors.New("run coordinator: it ran before")
	}

	commitCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{c: c, commits: make(chan CommitDone, 1), cancelCommit: cancel}
	r.commit = func(m *manifest.Manifest) {
		r.commits <- CommitDone{ID: m.ID, Err: c.committer.Commit(commitCtx, m)}
	}
	r.loop(ctx)

	// Whoever still asks is answered by the closed machine.
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for _, ev := range c.take() {
		r.step(ev)
	}
	return r.err
}

// run is the state of one call of Run.
type run struct {
	c            *Coordinator
	commit       func(*manifest.Manifest) // blocks; its outcome goes to commits
	commits      chan CommitDone
	cancelCommit context.CancelFunc
	committing   bool
	ended        bool
	err          error
}

func (r *run) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	done := ctx.Done()

	r.step(Start{})
	for !r.ended || r.committing {
		var due <-chan time.Time
		if at, ok := r.c.machine.Deadline(); ok {
			timer.Reset(time.Until(at))
			due = timer.C
		}
		select {
		case <-done:
			done = nil
			r.step(Shutdown{Err: context.Cause(ctx)})
		case <-r.c.wake:
			for _, ev := range r.c.take() {
				r.step(ev)
			}
		case ev := <-r.commits:
			r.committing = false
			r.step(ev)
		case <-due:
			r.step(Tick{})
		}
	}
}

// step gives the machine an event and carries the effects out. What a trigger
// has to say comes back as an event of its own.
func (r *run) step(ev Event) {
	for events := []Event{ev}; len(events) > 0; events = events[1:] {
		for _, effect := range r.c.machine.Step(time.Now(), events[0]) {
			if t, ok := effect.(SendTrigger); ok {
				call(r.c.listener.Triggered, t.Trigger)
				if err := r.c.tasks.Trigger(t.Trigger); err != nil {
					events = append(events, TriggerFailed{ID: t.ID, Err: err})
				}
				continue
			}
			r.do(effect)
		}
	}
}

func (r *run) do(effect Effect) {
	switch e := effect.(type) {
	case SendCompleted:
		r.c.tasks.Completed(e.ID, e.At)
	case SendAborted:
		r.c.tasks.Aborted(e.ID, e.Latest)
	case StartCommit:
		r.committing = true
		go r.commit(e.Manifest)
	case Answer:
		r.c.answer(e)
	case End:
		r.ended, r.err = true, e.Err
		r.cancelCommit()
	case Reported:
		call(r.c.listener.Reported, e)
	case Completed:
		call(r.c.listener.Completed, e)
	case Aborted:
		call(r.c.listener.Aborted, e)
	case Ignored:
		call(r.c.listener.Ignored, e)
	}
}

func (c *Coordinator) answer(a Answer) {
	c.mu.Lock()
	ch := c.waiting[a.Ticket]
	delete(c.waiting, a.Ticket)
	c.mu.Unlock()
	if ch != nil {
		ch <- a
	}
}

func call[T any](f func(T), arg T) {
	if f != nil {
		f(arg)
	}
}
