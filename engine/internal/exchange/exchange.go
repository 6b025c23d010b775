// Package exchange carries batches of records and barriers from tasks to the
// tasks after them, in order and with bounded memory. What is in a batch, and
// which receiver gets it, is left to package engine.
//
// The interfaces are the seam for jobs of more than one process: a task does
// not know which side of it its neighbours are on. [Local] is the exchange of
// one process.
package exchange

import (
	"context"
	"errors"

	"github.com/ckpt-io/ckpt/coordinator"
)

// ErrWoken is returned by a Recv that was interrupted by Wake.
var ErrWoken = errors.New("woken")

// Records are the typed records of one batch.
type Records interface {
	// Len is the number of records.
	Len() int
	// Size is about how many bytes they take.
	Size() int64
	// Release gives the batch back to be used again. The receiver calls it
	// when it is done with the records.
	Release()
}

// Barrier separates the records before a checkpoint from those after it.
type Barrier struct {
	Trigger coordinator.Trigger
	// Cancelled marks the place of a barrier that will not come: the sender
	// skipped the checkpoint.
	Cancelled bool
}

// Batch is one element of a channel: records or a barrier. It is handed over
// with all it refers to.
type Batch struct {
	Records Records // nil: a barrier
	Barrier Barrier
}

// Gate is the receiving end of all input channels of one task. Its methods
// belong to the task's goroutine, except Wake.
type Gate interface {
	// Recv waits for the next batch of any channel that is not blocked. It
	// returns the channel's number, ErrWoken, or the context's error. A
	// pending Wake comes before any batch.
	Recv(ctx context.Context) (from int, b Batch, err error)
	// Pending reports whether Recv would return at once.
	Pending() bool
	// Block stops receiving from a channel until UnblockAll: its senders run
	// out of credit.
	Block(from int)
	UnblockAll()
	// Wake makes a Recv that waits, or else the next one, return ErrWoken. It
	// may be called from anywhere.
	Wake()
}

// Partitions is the sending end of one edge of one task: a channel to each
// receiving subtask. It belongs to the task's goroutine.
type Partitions interface {
	// Send hands b to the receiver with index to. It waits for credit, which
	// barriers do not need. After an error b is still the caller's.
	Send(ctx context.Context, to int, b Batch) error
}

// Edge says where an edge of the graph arrives: its sender with index i has the
// channel First+i at every subtask of the task To.
type Edge struct {
	To    string
	First int
}

// Exchange connects the tasks of one run of a job.
type Exchange interface {
	// Gate returns the receiving end of a subtask with the given number of
	// channels. It is called once for each, before any Partitions to it.
	Gate(task string, subtask, channels int) Gate
	// Partitions returns the sending end of an edge for one sender.
	Partitions(e Edge, from int) Partitions
}
