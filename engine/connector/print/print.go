// Package print is a sink that writes records to an io.Writer at once, to look
// at. What was written cannot be taken back, so that it is at least once: after
// a failure, records since the newest checkpoint come again. For output that is
// exactly once see package filesink.
package print

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest"
)

// Sink writes each record by one call of the writer's Write. All subtasks
// share the writer, one record at a time.
type Sink[T any] struct {
	format func(dst []byte, record T) []byte

	mu sync.Mutex
	w  io.Writer
}

// New makes a sink that writes to w. format appends a record to dst as it shall
// be written, with its line end if it has one; it is called by all subtasks at
// once.
func New[T any](w io.Writer, format func(dst []byte, record T) []byte) *Sink[T] {
	return &Sink[T]{w: w, format: format}
}

// Writer makes the writer of one subtask.
func (s *Sink[T]) Writer(engine.SinkContext) (engine.SinkWriter[T], error) {
	return &writer[T]{sink: s}, nil
}

type writer[T any] struct {
	sink *Sink[T]
	buf  []byte
}

func (w *writer[T]) Recover(context.Context, [][]byte) error { return nil }

func (w *writer[T]) Write(record T) error {
	w.buf = w.sink.format(w.buf[:0], record)
	w.sink.mu.Lock()
	defer w.sink.mu.Unlock()
	if _, err := w.sink.w.Write(w.buf); err != nil {
		return fmt.Errorf("print record: %w", err)
	}
	return nil
}

// Prepare has nothing to hold back: all of it is visible.
func (w *writer[T]) Prepare(context.Context, manifest.ID) ([][]byte, error) { return nil, nil }

func (w *writer[T]) Commit(context.Context, [][]byte) error { return nil }

func (w *writer[T]) Close() error { return nil }
