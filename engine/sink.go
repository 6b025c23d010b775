package engine

import (
	"context"
	"log/slog"

	"github.com/ckpt-io/ckpt/manifest"
)

// Sink is output in two phases: what is written becomes visible when the
// checkpoint that covers it is committed, and never before. Its methods may be
// called from several goroutines.
type Sink[T any] interface {
	// Writer makes the writer of one subtask. It does no I/O.
	Writer(SinkContext) (SinkWriter[T], error)
}

// SinkWriter writes the output of one subtask. Its methods are called by one
// goroutine at a time. A handle is the sink's own description of a prepared
// transaction; it is stored in the checkpoint and may come back to another
// subtask, another process and another parallelism.
type SinkWriter[T any] interface {
	// Recover is called once, before anything else, and commits the prepared
	// transactions of the checkpoint that the job goes on from; there may be
	// none. All of a sink's handles are dealt out over its subtasks, each to
	// one. It leaves alone everything else: other subtasks may not have
	// recovered theirs. A writer that wants to remove what no checkpoint
	// covers implements [LeftoverAborter].
	Recover(ctx context.Context, handles [][]byte) error

	// Write adds a record to the current transaction.
	Write(T) error

	// Prepare ends the current transaction: when it returns, all that was
	// written is durable but invisible, and Commit of the handles will
	// succeed in any process. Nothing written gives no handles. The engine
	// keeps the slice.
	Prepare(ctx context.Context, id manifest.ID) (handles [][]byte, err error)

	// Commit makes prepared transactions visible. It is idempotent: handles
	// may have been committed before, by this or another process.
	Commit(ctx context.Context, handles [][]byte) error

	// Close releases everything without committing. It is called once, also
	// after a failure.
	Close() error
}

// LeftoverAborter is a SinkWriter that cleans up. AbortLeftovers is called
// once on every subtask, after all subtasks of the sink have recovered and
// before the first Write: what epochs before this one have not committed by
// now never will be.
type LeftoverAborter interface {
	AbortLeftovers(ctx context.Context) error
}

// SinkContext says which subtask of which run a writer is for. Epoch tells
// the output of this run from what a process that was replaced still writes.
type SinkContext struct {
	Job         string
	Operator    string // uid
	Subtask     int    // 0 to Parallelism-1
	Parallelism int
	Epoch       manifest.Epoch
	Logger      *slog.Logger
}
