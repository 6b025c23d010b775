// Package filesink writes records to files, exactly once: the file
// part-<subtask>-<checkpoint> appears in the output directory, whole, when the
// checkpoint is committed, and never before. How a record becomes bytes is left
// to the caller's format.
//
// What is not committed lies in the directory .pending below it, under a name
// that begins with the epoch of the run that writes it, so that a process that
// was replaced never touches its successor's files. The output of a checkpoint
// that was aborted appears together with that of the next one that is
// committed, in a file of its own under the aborted one's number.
//
// Whoever consumes the parts may move them away, but for those of the newest
// checkpoint: a job that is restored commits them once more and must find them.
package filesink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest"
)

var (
	// ErrConflict is a part that another job, or a former life of this one,
	// left in the output directory under a name this job needs. It is never
	// overwritten.
	ErrConflict = engine.Permanent("part exists already and is not this job's")
	// ErrLost is output of the checkpoint to go on from that is neither
	// prepared nor visible: somebody removed it.
	ErrLost = engine.Permanent("prepared output is gone")
)

// Sink writes records of T to part files in one directory. All subtasks of
// one job may share the directory, but not two jobs.
type Sink[T any] struct {
	dir    string
	format func(dst []byte, record T) []byte
}

// New makes a sink that writes to dir, which is created when a job starts.
// format appends a record to dst as it shall stand in the file, with its line
// end if it has one.
func New[T any](dir string, format func(dst []byte, record T) []byte) *Sink[T] {
	return &Sink[T]{dir: dir, format: format}
}

// Writer makes the writer of one subtask.
func (s *Sink[T]) Writer(sc engine.SinkContext) (engine.SinkWriter[T], error) {
	return &writer[T]{sink: s, subtask: sc.Subtask, epoch: sc.Epoch}, nil
}

// bufferBytes is how much a writer collects before it writes to its file.
const bufferBytes = 64 << 10

type writer[T any] struct {
	sink    *Sink[T]
	subtask int
	epoch   manifest.Epoch
	root    *os.Root // the output directory

	// The current transaction; file is nil until something is written.
	file   *os.File
	name   string
	buf    *bufio.Writer
	record []byte
	bytes  int64
	files  int // names given out
}

// Recover creates the directories and makes the parts of handles visible.
func (w *writer[T]) Recover(ctx context.Context, handles [][]byte) error {
	if err := w.open(); err != nil {
		return fmt.Errorf("open output directory: %w", err)
	}
	return w.Commit(ctx, handles)
}

func (w *writer[T]) open() error {
	if err := os.MkdirAll(w.sink.dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(w.sink.dir)
	if err != nil {
		return err
	}
	w.root = root
	if err := root.Mkdir(pendingDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// The directories' own names must outlast a power cut, as what is in them.
	parent, err := os.OpenRoot(filepath.Dir(filepath.Clean(w.sink.dir)))
	if err != nil {
		return err
	}
	defer parent.Close()
	return errors.Join(syncDir(parent, "."), syncDir(root, "."))
}

// AbortLeftovers removes what earlier epochs wrote and did not commit. The
// first subtask does it for all.
func (w *writer[T]) AbortLeftovers(ctx context.Context) error {
	if w.subtask != 0 {
		return nil
	}
	entries, err := fs.ReadDir(w.root.FS(), pendingDir)
	if err != nil {
		return fmt.Errorf("list uncommitted output: %w", err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		epoch, err := parsePendingName(e.Name())
		if err != nil || epoch >= w.epoch {
			continue // not ours to remove
		}
		if err := w.root.Remove(filepath.Join(pendingDir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove uncommitted output: %w", err)
		}
	}
	return nil
}

// Write adds a record to the current file.
func (w *writer[T]) Write(record T) error {
	if w.file == nil {
		if err := w.begin(); err != nil {
			return fmt.Errorf("begin output file: %w", err)
		}
	}
	w.record = w.sink.format(w.record[:0], record)
	w.bytes += int64(len(w.record))
	if _, err := w.buf.Write(w.record); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func (w *writer[T]) begin() error {
	name := pendingName(w.epoch, w.subtask, w.files)
	file, err := w.root.OpenFile(filepath.Join(pendingDir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	w.files++
	w.file, w.name, w.bytes = file, name, 0
	if w.buf == nil {
		w.buf = bufio.NewWriterSize(file, bufferBytes)
	} else {
		w.buf.Reset(file)
	}
	return nil
}

// Prepare makes the current file durable under its uncommitted name. Records
// that came to no bytes make no file.
func (w *writer[T]) Prepare(_ context.Context, id manifest.ID) ([][]byte, error) {
	if w.file == nil {
		return nil, nil
	}
	if w.bytes == 0 {
		return nil, w.discard()
	}
	err := w.buf.Flush()
	if err == nil {
		err = w.file.Sync()
	}
	err = errors.Join(err, w.file.Close())
	w.file = nil
	if err == nil {
		err = syncDir(w.root, pendingDir)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare output of checkpoint %d: %w", id, err)
	}
	h := handle{Pending: w.name, Part: partName(w.subtask, id), Bytes: w.bytes}
	encoded, err := h.encode()
	if err != nil {
		return nil, fmt.Errorf("prepare output of checkpoint %d: %w", id, err)
	}
	return [][]byte{encoded}, nil
}

// Commit moves prepared files to where they are visible.
func (w *writer[T]) Commit(ctx context.Context, handles [][]byte) error {
	if len(handles) == 0 {
		return nil
	}
	for _, encoded := range handles {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := parseHandle(encoded)
		if err != nil {
			return err
		}
		if err := publish(w.root, h); err != nil {
			return fmt.Errorf("commit output %s: %w", filepath.Join(w.sink.dir, h.Part), err)
		}
	}
	// The new names first: a cut between the two must not lose both.
	err := syncDir(w.root, ".")
	if err == nil {
		err = syncDir(w.root, pendingDir)
	}
	if err != nil {
		return fmt.Errorf("commit output: %w", err)
	}
	return nil
}

// Close removes the file of the current transaction, which nothing can commit
// any more. Prepared ones stay.
func (w *writer[T]) Close() error {
	var errs []error
	if w.file != nil {
		errs = append(errs, w.discard())
	}
	if w.root != nil {
		errs = append(errs, w.root.Close())
	}
	return errors.Join(errs...)
}

func (w *writer[T]) discard() error {
	err := errors.Join(w.file.Close(), w.root.Remove(filepath.Join(pendingDir, w.name)))
	w.file = nil
	if err != nil {
		return fmt.Errorf("remove uncommitted output: %w", err)
	}
	return nil
}
