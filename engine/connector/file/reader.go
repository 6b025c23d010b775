package file

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ckpt-io/ckpt/manifest"
)

// blockBytes is how much is read at once.
const blockBytes = 64 << 10

// reader reads the splits of one subtask, one after the other, and all of them
// once before any of them again.
type reader struct {
	source  *Source
	root    *os.Root
	cursors []*cursor // all splits
	queue   []*cursor // those not exhausted; the first is being read
	file    *os.File  // of the first in queue; nil before it is opened
	buf     []byte
	// block holds whole lines that begin at the offset of the first in queue.
	block string
}

// Restore checks the splits and opens the input. The files of those not yet
// exhausted are opened when their turn comes.
func (r *reader) Restore(_ context.Context, splits []manifest.Split) error {
	root, only, err := r.source.open()
	if err != nil {
		return fmt.Errorf("read input: %w", err)
	}
	r.root = root
	r.buf = make([]byte, blockBytes)
	for _, s := range splits {
		c, err := parseSplit(s)
		if err != nil {
			return err
		}
		if only != "" && c.Path != only {
			return fmt.Errorf("read input %s: the job began to read %q: %w", r.source.path, c.Path, ErrChanged)
		}
		r.cursors = append(r.cursors, c)
		if c.Pass < r.source.opts.Passes {
			r.queue = append(r.queue, c)
		}
	}
	// The least advanced first: passes end together, also after a restore.
	slices.SortStableFunc(r.queue, func(a, b *cursor) int { return cmp.Compare(a.Pass, b.Pass) })
	return nil
}

// Poll emits the lines of a block, or as many of them as a batch takes.
func (r *reader) Poll(_ context.Context, emit func(string)) error {
	if len(r.queue) == 0 {
		return io.EOF
	}
	c := r.queue[0]
	if r.block == "" {
		if err := r.load(c); err != nil {
			return fmt.Errorf("read input %s: %w", locate(r.root, c.Path), err)
		}
	}
	for range r.source.opts.BatchLines {
		line, rest, _ := strings.Cut(r.block, "\n")
		line = strings.TrimSuffix(line, "\r")
		if len(line) > r.source.opts.MaxLineBytes {
			return fmt.Errorf("read input %s: %w", locate(r.root, c.Path), r.tooLong(c))
		}
		emit(line)
		c.advance(len(r.block) - len(rest))
		r.block = rest
		if c.Offset == c.Start {
			return r.turn()
		}
		if rest == "" {
			return nil
		}
	}
	return nil
}

// turn ends a pass over the split that is being read.
func (r *reader) turn() error {
	c := r.queue[0]
	r.queue = r.queue[1:]
	if c.Pass < r.source.opts.Passes {
		r.queue = append(r.queue, c)
	}
	err := r.file.Close()
	r.file, r.block = nil, ""
	if err != nil {
		return fmt.Errorf("close input %s: %w", locate(r.root, c.Path), err)
	}
	if len(r.queue) == 0 {
		return io.EOF
	}
	return nil
}

// load fills block with whole lines from the cursor's offset on.
func (r *reader) load(c *cursor) error {
	if r.file == nil {
		if err := r.openFile(c); err != nil {
			return err
		}
	}
	// A line longer than the buffer is read into larger ones, which are not
	// kept: long lines are rare.
	for buf := r.buf; ; buf = make([]byte, 2*len(buf)) {
		buf = buf[:min(int64(len(buf)), c.End-c.Offset)]
		if n, err := r.file.ReadAt(buf, c.Offset); n < len(buf) {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("it ends at byte %d of %d: %w", c.Offset+int64(n), c.Size, ErrChanged)
			}
			return err
		}
		whole := len(buf)
		if c.Offset+int64(len(buf)) < c.End {
			whole = bytes.LastIndexByte(buf, '\n') + 1
		}
		if whole > 0 {
			r.block = string(buf[:whole])
			return nil
		}
		if len(buf) > r.source.opts.MaxLineBytes+len("\r") {
			return r.tooLong(c)
		}
	}
}

func (r *reader) tooLong(c *cursor) error {
	return fmt.Errorf("the line at byte %d is longer than %d bytes", c.Offset, r.source.opts.MaxLineBytes)
}

// openFile opens the file of c and sees whether it can still be what the job
// began to read.
func (r *reader) openFile(c *cursor) error {
	file, err := r.root.Open(filepath.FromSlash(c.Path))
	if err != nil {
		return err
	}
	if err := checkUnchanged(file, c); err != nil {
		return errors.Join(err, file.Close())
	}
	r.file = file
	return nil
}

func checkUnchanged(file *os.File, c *cursor) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < c.Size {
		return fmt.Errorf("it has %d bytes and had %d: %w", info.Size(), c.Size, ErrChanged)
	}
	if c.Offset == 0 {
		return nil
	}
	var before [1]byte
	if _, err := file.ReadAt(before[:], c.Offset-1); err != nil {
		return err
	}
	if before[0] != '\n' {
		return fmt.Errorf("no line begins at byte %d any more: %w", c.Offset, ErrChanged)
	}
	return nil
}

// Snapshot returns the positions after the last line emitted.
func (r *reader) Snapshot(manifest.ID) ([]manifest.Split, error) {
	return encodeSplits(r.cursors)
}

// Committed is of no interest: nothing is dropped from files.
func (r *reader) Committed(manifest.ID) {}

// Close closes the input.
func (r *reader) Close() error {
	var errs []error
	if r.file != nil {
		errs = append(errs, r.file.Close())
	}
	if r.root != nil {
		errs = append(errs, r.root.Close())
	}
	return errors.Join(errs...)
}
