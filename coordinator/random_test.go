package coordinator

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// TestRandomRuns plays long random runs and checks the promises of the protocol
// after every step.
func TestRandomRuns(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			newWorld(t, seed).play(600)
		})
	}
}

// world is the other side of a machine in a random run, and the judge of it.
type world struct {
	t       *testing.T
	rand    *rand.Rand
	machine *Machine
	cfg     Config
	now     time.Time

	open       []Trigger // not settled yet
	messages   []Event   // reports, declines and failed triggers under way
	committing *manifest.Manifest
	kept       []manifest.ID // by retention: the newest that are no savepoints
	lastID     manifest.ID
	newest     manifest.ID
	told       manifest.ID // newest completed that the tasks heard of
	settled    map[manifest.ID]string
	tickets    uint64
	answered   map[uint64]bool
	ended      bool
}

func newWorld(t *testing.T, seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 1))
	concurrent := 1 + r.IntN(4)
	cfg := Config{
		Interval: time.Second, Timeout: 5 * time.Second, MaxConcurrent: concurrent,
		Keep: concurrent + r.IntN(3), Tolerable: 1000, MinPause: time.Duration(r.IntN(3)) * time.Second,
	}
	job := testJob(manifest.Operator{UID: "a", Parallelism: 1}, manifest.Operator{UID: "b", Parallelism: 2})
	job.NextID, job.Restored = 11, 10
	m, err := NewMachine(cfg, job)
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		t: t, rand: r, machine: m, cfg: cfg, now: time.Unix(1e9, 0),
		kept: []manifest.ID{10}, lastID: 10, newest: 10,
		settled: make(map[manifest.ID]string), answered: make(map[uint64]bool),
	}
}

func (w *world) play(steps int) {
	w.step(Start{})
	for range steps {
		w.step(w.something())
	}
	// From now on everything goes well, so that the final checkpoint ends it.
	w.request(manifest.Final)
	for range 10_000 {
		if w.ended {
			break
		}
		w.step(w.somethingGood())
	}
	w.step(Shutdown{})
	if !w.ended || len(w.open) > 0 || w.committing != nil {
		w.t.Errorf("the run did not end well: ended %v, open %v", w.ended, w.open)
	}
	if len(w.answered) != int(w.tickets) {
		w.t.Errorf("%d requests, %d answered", w.tickets, len(w.answered))
	}
}

func (w *world) something() Event {
	switch w.rand.IntN(20) {
	case 0:
		w.request(manifest.Periodic)
	case 1:
		w.request(manifest.Savepoint)
	case 2:
		return Hold{On: w.rand.IntN(4) == 0}
	case 3, 4:
		if w.committing != nil {
			return w.commitDone(w.rand.IntN(4) == 0)
		}
	case 5, 6, 7:
		w.now = w.now.Add(time.Duration(w.rand.IntN(1500)) * time.Millisecond)
	default:
		if n := len(w.messages); n > 0 {
			i := w.rand.IntN(n) // reordered
			ev := w.messages[i]
			if w.rand.IntN(8) > 0 { // or else doubled
				w.messages = slices.Delete(w.messages, i, i+1)
			}
			return ev
		}
	}
	return Tick{}
}

func (w *world) somethingGood() Event {
	if w.committing != nil {
		return w.commitDone(false)
	}
	if len(w.messages) > 0 {
		ev := w.messages[0]
		w.messages = w.messages[1:]
		return ev
	}
	if due, ok := w.machine.Deadline(); ok && due.After(w.now) {
		w.now = due
	}
	return Tick{}
}

func (w *world) request(kind manifest.Kind) {
	w.tickets++
	w.step(Requested{Ticket: w.tickets, Kind: kind})
}

// commitDone settles the commit under way as a store and retention would.
func (w *world) commitDone(fail bool) Event {
	m := w.committing
	w.committing = nil
	if fail {
		return CommitDone{ID: m.ID, Err: errors.New("certainly not")}
	}
	if m.Kind != manifest.Savepoint {
		w.kept = append(w.kept, m.ID)
		w.kept = w.kept[max(0, len(w.kept)-w.cfg.Keep):]
		if m.ID < w.newest {
			w.t.Errorf("checkpoint %d commits after %d", m.ID, w.newest)
		}
		w.newest = m.ID
	}
	w.settled[m.ID] = "committed"
	return CommitDone{ID: m.ID}
}

func (w *world) step(ev Event) {
	for _, e := range w.machine.Step(w.now, ev) {
		switch e := e.(type) {
		case SendTrigger:
			w.triggered(e.Trigger)
		case StartCommit:
			if w.committing != nil {
				w.t.Errorf("two commits at once: %d, %d", w.committing.ID, e.Manifest.ID)
			}
			w.committing = e.Manifest
		case SendCompleted:
			if w.settled[e.ID] != "committed" || e.ID <= w.told {
				w.t.Errorf("told of %d (%s) after %d", e.ID, w.settled[e.ID], w.told)
			}
			w.told = e.ID
		case SendAborted:
			if e.Latest != w.newest {
				w.t.Errorf("aborted %d: latest completed %d, want %d", e.ID, e.Latest, w.newest)
			}
		case Completed:
			w.settle(e.ID, "committed")
		case Aborted:
			if w.settled[e.ID] != "" {
				w.t.Errorf("aborted %d, which is %s", e.ID, w.settled[e.ID])
			}
			w.settled[e.ID] = "aborted"
			w.settle(e.ID, "aborted")
		case Answer:
			if w.answered[e.Ticket] || e.Err == nil && w.settled[e.ID] != "committed" {
				w.t.Errorf("wrong answer %+v", e)
			}
			w.answered[e.Ticket] = true
		case End:
			w.ended = true
		}
	}
	for _, p := range w.open {
		if !slices.Contains(w.kept, p.Base) {
			w.t.Fatalf("%s %d pends on base %d, but %d are kept", p.Kind, p.ID, p.Base, w.kept)
		}
	}
	if due, ok := w.machine.Deadline(); ok && !due.After(w.now) {
		w.t.Errorf("the deadline %v is not after now", due)
	}
}

func (w *world) settle(id manifest.ID, how string) {
	n := len(w.open)
	w.open = slices.DeleteFunc(w.open, func(p Trigger) bool { return p.ID == id })
	if len(w.open) != n-1 || w.settled[id] != how || w.committing != nil && w.committing.ID == id {
		w.t.Errorf("checkpoint %d %s: was open %v, is %s", id, how, len(w.open) != n, w.settled[id])
	}
}

func (w *world) triggered(t Trigger) {
	w.open = append(w.open, t)
	oldest := t.Base
	for _, p := range w.open {
		oldest = min(oldest, p.Base)
	}
	if t.ID != w.lastID+1 || t.Base != w.newest || t.OldestBase != oldest || len(w.open) > w.cfg.Keep || w.ended {
		w.t.Errorf("triggered %+v after %d, newest %d, open %v", t, w.lastID, w.newest, w.open)
	}
	w.lastID = t.ID
	for _, task := range []TaskID{{"a", 0}, {"b", 0}, {"b", 1}} {
		switch w.rand.IntN(30) {
		case 0: // lost
		case 1:
			w.messages = append(w.messages, Decline{Task: task, ID: t.ID, Epoch: 1})
		case 2:
			w.messages = append(w.messages, TriggerFailed{ID: t.ID, Err: errors.New("unplugged")})
		default:
			w.messages = append(w.messages, Report{Task: task, ID: t.ID, Epoch: 1})
		}
	}
}
