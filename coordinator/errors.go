package coordinator

import (
	"errors"
	"fmt"

	"github.com/ckpt-io/ckpt/manifest"
)

// Why a checkpoint was aborted or a request refused. The comments give the
// names that Apache Flink uses for the same.
var (
	ErrExpired         = errors.New("checkpoint expired before it was complete")                // CHECKPOINT_EXPIRED
	ErrSubsumed        = errors.New("checkpoint was subsumed by a later one")                   // CHECKPOINT_SUBSUMED
	ErrDeclined        = errors.New("checkpoint was declined by a task")                        // CHECKPOINT_DECLINED
	ErrTrigger         = errors.New("checkpoint could not be triggered")                        // TRIGGER_CHECKPOINT_FAILURE
	ErrNotReady        = errors.New("not all tasks are running")                                // NOT_ALL_REQUIRED_TASKS_RUNNING
	ErrFinalize        = errors.New("checkpoint could not be committed")                        // FINALIZE_CHECKPOINT_FAILURE
	ErrShutdown        = errors.New("coordinator is shut down")                                 // CHECKPOINT_COORDINATOR_SHUTDOWN
	ErrTooManyRequests = errors.New("too many checkpoints are requested and not triggered yet") // TOO_MANY_CHECKPOINT_REQUESTS
)

// What ends a run. A Committer returns the first two.
var (
	// ErrFenced says that another owner took the job over. It is final: this
	// process must not go on with the job.
	ErrFenced = errors.New("another owner took the job over")
	// ErrUnresolved says that it is not known whether a commit happened. The
	// next owner of the job finds out.
	ErrUnresolved = errors.New("outcome of the commit is not known")
)

// AbortError says why one checkpoint was aborted. It matches its Reason and its
// Cause.
type AbortError struct {
	ID     manifest.ID // 0: it was not triggered
	Reason error       // one of the errors above
	Cause  error       // what lies behind it, or nil
}

func (e *AbortError) Error() string {
	what := "take checkpoint"
	if e.ID != 0 {
		what = fmt.Sprintf("take checkpoint %d", e.ID)
	}
	switch {
	case e.Cause == nil:
		return fmt.Sprintf("%s: %v", what, e.Reason)
	case errors.Is(e.Cause, e.Reason): // and says so itself
		return fmt.Sprintf("%s: %v", what, e.Cause)
	}
	return fmt.Sprintf("%s: %v: %v", what, e.Reason, e.Cause)
}

func (e *AbortError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Cause}
}

// counted reports whether the abort is a failure in the sense of
// Config.Tolerable: something went wrong, not merely came at a bad moment.
func (e *AbortError) counted() bool {
	for _, not := range []error{ErrNotReady, ErrSubsumed, ErrShutdown, ErrFenced, ErrUnresolved} {
		if errors.Is(e, not) {
			return false
		}
	}
	return true
}

// FailureError ends a run in which more consecutive checkpoints failed than
// Config.Tolerable allows.
type FailureError struct {
	Failures int   // consecutive, all counted
	Last     error // the *AbortError of the last
}

func (e *FailureError) Error() string {
	return fmt.Sprintf("%d consecutive checkpoints failed, the last: %v", e.Failures, e.Last)
}

func (e *FailureError) Unwrap() error { return e.Last }
