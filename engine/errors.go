package engine

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
)

var (
	// ErrFenced says that another process has taken over the job. It is never
	// followed by a restart. It is catalog.ErrFenced.
	ErrFenced = catalog.ErrFenced
	// ErrStopTimeout says that a job asked to stop did not get its last
	// checkpoint committed in time. It goes on from the newest one that was.
	ErrStopTimeout = errors.New("job did not stop in time")
	// ErrOutputBeyond refuses Config.From: output of a newer checkpoint was
	// committed and would be written again.
	ErrOutputBeyond = errors.New("output beyond the checkpoint was committed")
)

// Permanent returns an error that a source or sink wraps in its own when a
// restart would meet the same again: the job ends instead of trying.
func Permanent(text string) error { return &permanentError{text} }

type permanentError struct{ text string }

func (e *permanentError) Error() string { return e.text }

// GraphError lists everything that is wrong with a graph.
type GraphError struct {
	Job     string
	Reasons []string
}

func (e *GraphError) Error() string {
	return fmt.Sprintf("graph of job %q: %s", e.Job, strings.Join(e.Reasons, "; "))
}

// IncompatibleError lists why a graph cannot go on from the state that the job
// has. Nothing was changed.
type IncompatibleError struct {
	Job     string
	Reasons []string
}

func (e *IncompatibleError) Error() string {
	return fmt.Sprintf("job %q cannot go on with this graph: %s", e.Job, strings.Join(e.Reasons, "; "))
}

// TaskError is a failure of one subtask, as a rule in user code.
type TaskError struct {
	Operator string // uid
	Subtask  int
	Epoch    manifest.Epoch
	Err      error
}

func (e *TaskError) Error() string {
	return fmt.Sprintf("run %s/%d in epoch %d: %v", e.Operator, e.Subtask, uint64(e.Epoch), e.Err)
}

func (e *TaskError) Unwrap() error { return e.Err }

// StuckError is user code that did not return when its run had failed. Its
// goroutine and what it holds are left behind; the process should end.
type StuckError struct {
	Epoch   manifest.Epoch
	Timeout time.Duration
	Err     error // the failure
}

func (e *StuckError) Error() string {
	return fmt.Sprintf("end epoch %d: user code did not return within %v after: %v", uint64(e.Epoch), e.Timeout, e.Err)
}

func (e *StuckError) Unwrap() error { return e.Err }

// PanicError is a panic in user code.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Unwrap gives the value of the panic if it was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
