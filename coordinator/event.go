package coordinator

import (
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// Event is something that happened to a Machine. Report and Decline are events
// too.
type Event interface{ event() }

// The events.
type (
	// Start begins the run: the first interval counts from here.
	Start struct{}
	// Tick says that time has passed, Machine.Deadline or more.
	Tick struct{}
	// Requested asks for a checkpoint. It is answered once by an Answer with
	// the same Ticket. Requests for a Final or Stop checkpoint share one.
	Requested struct {
		Ticket uint64
		Kind   manifest.Kind
	}
	// TriggerFailed says that a SendTrigger came to nothing, at least in part.
	TriggerFailed struct {
		ID  manifest.ID
		Err error
	}
	// CommitDone gives the outcome of a StartCommit, as a Committer's Commit.
	CommitDone struct {
		ID  manifest.ID
		Err error
	}
	// Hold holds back (On) or lets go of all triggers, save that of the last
	// checkpoint: deletion of old checkpoints lags behind.
	Hold struct{ On bool }
	// Shutdown ends the run from outside, for the reason Err.
	Shutdown struct{ Err error }
)

func (Start) event()         {}
func (Tick) event()          {}
func (Requested) event()     {}
func (Report) event()        {}
func (Decline) event()       {}
func (TriggerFailed) event() {}
func (CommitDone) event()    {}
func (Hold) event()          {}
func (Shutdown) event()      {}

// Effect is something a Machine wants done, or has to tell. Effects are to be
// carried out in order.
type Effect interface{ effect() }

// The effects that are to be carried out.
type (
	// SendTrigger goes to the sources. If it fails, TriggerFailed comes back.
	SendTrigger struct{ Trigger }
	// SendCompleted goes to all tasks; see Tasks.Completed.
	SendCompleted struct {
		ID manifest.ID
		At time.Time
	}
	// SendAborted goes to all tasks; see Tasks.Aborted.
	SendAborted struct{ ID, Latest manifest.ID }
	// StartCommit has the manifest committed; a CommitDone must come back,
	// also after End. No other StartCommit comes before it.
	StartCommit struct{ Manifest *manifest.Manifest }
	// Answer is the outcome of a request: Err is nil if checkpoint ID was
	// committed, otherwise an *AbortError.
	Answer struct {
		Ticket uint64
		ID     manifest.ID
		Err    error
	}
	// End ends the run. Err is nil after the commit of a Final or Stop
	// checkpoint. Only an open commit is still of interest.
	End struct{ Err error }
)

// The effects that only tell: a driver hands them to its Listener.
type (
	// Reported is a report that counted.
	Reported struct {
		ID      manifest.ID
		Task    TaskID
		Stats   manifest.TaskStats
		Age     time.Duration // trigger → this report
		Missing int           // tasks that have not reported yet
	}
	// Completed is a committed checkpoint.
	Completed struct {
		ID        manifest.ID
		Kind      manifest.Kind
		Base      manifest.ID
		Triggered time.Time
		Stats     manifest.Stats
		Queue     time.Duration // all reports in → commit begun
		Commit    time.Duration // commit begun → settled
	}
	// Aborted is a checkpoint that ended without a commit, unless Err matches
	// ErrUnresolved: then only the next owner learns whether it is committed.
	Aborted struct {
		ID       manifest.ID
		Kind     manifest.Kind
		Err      *AbortError
		Age      time.Duration // since its trigger
		Missing  []TaskID      // those that had not reported
		Counted  bool          // it counts against Config.Tolerable
		Failures int           // counted since the last success, this one included
	}
	// Ignored is a report or a decline without effect: it came late or twice,
	// from another epoch, or from no task of the job.
	Ignored struct {
		ID     manifest.ID
		Epoch  manifest.Epoch
		Task   TaskID
		Reason string
	}
)

func (SendTrigger) effect()   {}
func (SendCompleted) effect() {}
func (SendAborted) effect()   {}
func (StartCommit) effect()   {}
func (Answer) effect()        {}
func (End) effect()           {}
func (Reported) effect()      {}
func (Completed) effect()     {}
func (Aborted) effect()       {}
func (Ignored) effect()       {}

// Listener is told what happens, for logs, metrics and tests. Its functions are
// called one at a time, from the goroutine of Run, and must not block; nil ones
// are skipped.
type Listener struct {
	Triggered func(Trigger)
	Reported  func(Reported)
	Completed func(Completed)
	Aborted   func(Aborted)
	Ignored   func(Ignored)
}
