package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
)

// subtask is one parallel instance of an operator: its place in the job, and
// what it is restored from.
type subtask struct {
	node           *node
	job            string
	index          int
	parallelism    int
	maxParallelism int
	keyGroups      manifest.KeyGroupRange // of a keyed operator
	epoch          manifest.Epoch
	logger         *slog.Logger
	restored       manifest.Task
	dropState      bool // of restored, what nobody takes
	// openState opens the keyed state; it is called by open.
	openState func(ctx context.Context) (*state.Store, error)
	// active is the subtask of the same task whose user code runs, so that a
	// panic can be blamed on it.
	active **subtask
}

// enter says that user code of the operator runs from here to leave. Code
// that an emit calls in between belongs to the operators after it.
func (s *subtask) enter() (previous *subtask) {
	previous = *s.active
	*s.active = s
	return previous
}

func (s *subtask) leave(previous *subtask) { *s.active = previous }

// fail wraps an error of the operator, unless it names its place already.
func (s *subtask) fail(doing string, err error) error {
	var te *TaskError
	if errors.As(err, &te) {
		return err
	}
	return &TaskError{Operator: s.node.uid, Subtask: s.index, Epoch: s.epoch, Err: fmt.Errorf("%s: %w", doing, err)}
}

// guard runs a call of user code outside the flow of records and blames its
// error or panic on the subtask.
func (s *subtask) guard(doing string, f func() error) error {
	if err := protect(f); err != nil {
		return s.fail(doing, err)
	}
	return nil
}

// protect turns a panic of user code into an error.
func protect(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return f()
}

// userContext is the subtask as sources and sinks see it: SourceContext and
// SinkContext have the same fields.
func (s *subtask) userContext() SourceContext {
	return SourceContext{
		Job: s.job, Operator: s.node.uid, Subtask: s.index, Parallelism: s.parallelism,
		Epoch: s.epoch, Logger: s.logger,
	}
}

func (s *subtask) taskID() coordinator.TaskID {
	return coordinator.TaskID{Operator: s.node.uid, Subtask: s.index}
}
