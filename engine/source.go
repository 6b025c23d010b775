package engine

import (
	"context"
	"log/slog"

	"github.com/ckpt-io/ckpt/manifest"
)

// Source is replayable input, divided into splits. Its methods may be called
// from several goroutines.
type Source[T any] interface {
	// Splits returns all splits of the input at their start positions. It is
	// called once, when a job starts without a checkpoint to go on from.
	Splits(ctx context.Context) ([]manifest.Split, error)
	// Reader makes the reader of one subtask. It does no I/O.
	Reader(SourceContext) (SourceReader[T], error)
}

// SourceReader reads the splits of one subtask. Its methods are called by one
// goroutine at a time.
type SourceReader[T any] interface {
	// Restore is called once, before anything else, with the splits this
	// subtask reads from now on and where each goes on; there may be none.
	Restore(ctx context.Context, splits []manifest.Split) error

	// Poll emits what can be read now: at best some hundred records, at most
	// a few thousand. Checkpoints begin between two calls, so that it returns
	// within 100 ms or so, also when there is nothing to emit; the engine
	// calls again (after a short pause if nothing was emitted). Records are
	// passed on before the next Poll when fewer than a full batch came.
	// When all splits are exhausted it returns io.EOF, having emitted
	// records or not, and is not called again. emit does not block for ever:
	// when ctx ends it drops what it is given.
	Poll(ctx context.Context, emit func(T)) error

	// Snapshot returns all splits of this subtask with their positions
	// (exhausted ones included) after the records emitted so far. The engine
	// keeps the slice and the positions' bytes.
	Snapshot(id manifest.ID) ([]manifest.Split, error)

	// Committed says that the checkpoint id, and with it all of lower ids, is
	// complete: the source may drop or acknowledge what lies before it.
	// Notices of some checkpoints may be missing.
	Committed(id manifest.ID)

	// Close releases everything. It is called once, also after a failure.
	Close() error
}

// SourceContext says which subtask of which run a reader is for.
type SourceContext struct {
	Job         string
	Operator    string // uid
	Subtask     int    // 0 to Parallelism-1
	Parallelism int
	Epoch       manifest.Epoch
	Logger      *slog.Logger
}
