package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// TaskID names one subtask of an operator.
type TaskID struct {
	Operator string // its uid
	Subtask  int    // from 0
}

func (t TaskID) String() string { return fmt.Sprintf("%s/%d", t.Operator, t.Subtask) }

// Trigger starts a checkpoint at the sources and travels on with its barrier.
type Trigger struct {
	ID    manifest.ID
	Epoch manifest.Epoch
	// Base is the checkpoint whose objects this one may name besides those its
	// task uploaded in this epoch under higher ids; 0 if there is none.
	Base manifest.ID
	// OldestBase is the lowest Base of all pending checkpoints, this one
	// included. A report reserves the task's uploads with higher ids.
	OldestBase manifest.ID
	Kind       manifest.Kind
	Time       time.Time // when it was triggered, by the coordinator's wall clock
}

// Report says that a task's part of a checkpoint is durable in the store.
type Report struct {
	Task  TaskID
	ID    manifest.ID
	Epoch manifest.Epoch
	// State is the task's part of the manifest and belongs to the coordinator
	// from now on. Its Index is set from Task.
	State manifest.Task
}

// Decline says that a task cannot take part in a checkpoint.
type Decline struct {
	Task  TaskID
	ID    manifest.ID
	Epoch manifest.Epoch
	// Reason is the cause. One that matches ErrNotReady or ErrSubsumed (a later
	// barrier overtook the alignment) is not counted as a failure.
	Reason error
}

// Tasks are the running tasks of the job. Its methods are called from the
// goroutine of Coordinator.Run and must not block: they hand the signal on, and
// may call Report and Decline meanwhile, but not Request. A signal may be lost.
type Tasks interface {
	// Trigger hands t to all sources. After an error the checkpoint is aborted;
	// one that matches ErrNotReady is not counted as a failure.
	Trigger(t Trigger) error
	// Completed tells all tasks that checkpoint id, triggered at the given
	// time, is committed. Then all older ones but savepoints are settled too.
	Completed(id manifest.ID, at time.Time)
	// Aborted tells all tasks that checkpoint id will never be committed, and
	// which is the latest that was: 0 if none.
	Aborted(id, latestCompleted manifest.ID)
}

// Committer makes checkpoints durable.
type Committer interface {
	// Commit blocks until it is settled whether m is committed: nil says that it
	// is and stays so, an error that it is not and never will be. Two errors say
	// more and end the run: one matching ErrFenced that another owner took over,
	// one matching ErrUnresolved that the outcome could not be learnt, as when
	// ctx ended first. It is never called twice at once. m belongs to the
	// Committer.
	Commit(ctx context.Context, m *manifest.Manifest) error
}
