package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
)

// errChanged is an object that was replaced while it was read.
var errChanged = errors.New("object was replaced while it was read")

// enoughProgress is what a resumed body must give to start counting failures
// anew: a server that sends a byte at a time is given up all the same.
const enoughProgress = 64 << 10

// reader reads a range over as many requests as it takes.
type reader struct {
	store *Store
	ctx   context.Context // of the Get that the reader is part of
	key   string
	etag  string
	// pos is the next byte of the object to read, end the one not to.
	pos, end int64

	body     body // none if its ReadCloser is nil
	used     time.Duration
	got      int64 // by this request
	failures int
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.pos < r.end {
		if r.body.ReadCloser == nil {
			if err := r.reopen(); err != nil {
				return 0, fmt.Errorf("get %q: resume at %d: %w", r.key, r.pos, err)
			}
		}
		n, err := r.readBody(p[:min(int64(len(p)), r.end-r.pos)])
		r.pos += int64(n)
		if err != nil {
			r.drop()
		}
		if n > 0 {
			return n, nil
		}
		if err == nil {
			continue
		}
		if r.ctx.Err() != nil {
			return 0, fmt.Errorf("get %q: %w", r.key, r.ctx.Err())
		}
		if r.failures++; r.failures >= r.store.opts.MaxAttempts {
			return 0, fmt.Errorf("get %q: %w: body broke off %d times, at last at %d: %v", r.key, objectstore.ErrUnavailable, r.failures, r.pos, err)
		}
		if err := sleep(r.ctx, r.store.delay(r.failures)); err != nil {
			return 0, fmt.Errorf("get %q: %w", r.key, err)
		}
	}
	return 0, io.EOF
}

// readBody reads once, within the time the request has left. Only the time
// spent in here counts, not that of a slow caller.
func (r *reader) readBody(p []byte) (int, error) {
	start := time.Now()
	timer := time.AfterFunc(r.store.allowance(r.got)-r.used, r.body.cancel)
	n, err := r.body.Read(p)
	timer.Stop()
	r.used += time.Since(start)
	r.got += int64(n)
	if r.got >= enoughProgress {
		r.failures = 0
	}
	if err == io.EOF && r.pos+int64(n) < r.end {
		err = io.ErrUnexpectedEOF
	}
	if err == io.EOF {
		err = nil // Read ends by position
	}
	return n, err
}

func (r *reader) reopen() error {
	err := r.store.try(r.ctx, request{do: func(ctx context.Context) (err error) {
		r.body, err = r.store.open(ctx, r.key, r.pos, r.end, r.etag)
		return err
	}})
	if errors.Is(err, objectstore.ErrPrecondition) || errors.Is(err, errRange) || errors.Is(err, errChanged) {
		err = unavailable(errChanged)
	}
	return err
}

// drop ends the request under way.
func (r *reader) drop() {
	if r.body.ReadCloser != nil {
		r.body.close()
	}
	r.body, r.used, r.got = body{}, 0, 0
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.drop()
	r.pos = r.end
	return nil
}
