package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// pollWait is how long Poll waits for something to read.
const pollWait = 50 * time.Millisecond

type reader struct {
	source *Source
	logger *slog.Logger
	splits []manifest.Split // the one, or none
	conn   net.Conn         // nil: nothing to read
	buf    []byte           // received and not emitted
	eof    bool             // the peer has closed
}

// Restore connects, if the split is this reader's and has not ended.
func (r *reader) Restore(ctx context.Context, splits []manifest.Split) error {
	for _, s := range splits {
		position := string(s.Position)
		if s.ID != splitID || position != open && position != ended || len(r.splits) > 0 {
			return fmt.Errorf("restore split %q at %q: not of a socket", s.ID, s.Position)
		}
		r.splits = append(r.splits, s)
		if position == ended {
			continue
		}
		if r.logger != nil {
			r.logger.Warn("exactly once does not hold: input from a socket cannot be replayed", "address", r.source.address)
		}
		conn, err := r.source.dial(ctx)
		if err != nil {
			return err
		}
		r.conn = conn
	}
	return nil
}

// Poll emits the lines that are there, or waits a little for some.
func (r *reader) Poll(_ context.Context, emit func(string)) error {
	if r.conn == nil {
		return io.EOF
	}
	if !r.eof && bytes.IndexByte(r.buf, '\n') < 0 {
		if err := r.checkLength(len(r.buf) - len("\r")); err != nil {
			return err
		}
		if err := r.receive(); err != nil {
			return fmt.Errorf("read input from %s: %w", r.source.address, err)
		}
	}
	for range r.source.opts.BatchLines {
		line, rest, whole := bytes.Cut(r.buf, []byte("\n"))
		if !whole && (!r.eof || len(line) == 0) {
			break
		}
		line = bytes.TrimSuffix(line, []byte("\r"))
		if err := r.checkLength(len(line)); err != nil {
			return err
		}
		r.buf = rest
		emit(string(line))
	}
	if r.eof && len(r.buf) == 0 {
		return r.end()
	}
	return nil
}

// receive reads what has come, if anything comes within pollWait.
func (r *reader) receive() error {
	const block = 64 << 10
	if cap(r.buf)-len(r.buf) < block {
		r.buf = append(make([]byte, 0, 2*len(r.buf)+2*block), r.buf...)
	}
	if err := r.conn.SetReadDeadline(time.Now().Add(pollWait)); err != nil {
		return err
	}
	n, err := r.conn.Read(r.buf[len(r.buf) : len(r.buf)+block])
	r.buf = r.buf[:len(r.buf)+n]
	switch {
	case errors.Is(err, io.EOF):
		r.eof = true
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return err
}

func (r *reader) checkLength(n int) error {
	if n > r.source.opts.MaxLineBytes {
		return fmt.Errorf("read input from %s: a line is longer than %d bytes", r.source.address, r.source.opts.MaxLineBytes)
	}
	return nil
}

func (r *reader) end() error {
	r.splits = []manifest.Split{{ID: splitID, Position: []byte(ended)}}
	err := r.conn.Close()
	r.conn = nil
	if err != nil {
		return fmt.Errorf("close connection to %s: %w", r.source.address, err)
	}
	return io.EOF
}

// Snapshot says only whether the connection has ended.
func (r *reader) Snapshot(manifest.ID) ([]manifest.Split, error) {
	return append([]manifest.Split(nil), r.splits...), nil
}

// Committed is of no interest: nothing can be acknowledged.
func (r *reader) Committed(manifest.ID) {}

// Close ends the connection.
func (r *reader) Close() error {
	if r.conn == nil {
		return nil
	}
	return r.conn.Close()
}
