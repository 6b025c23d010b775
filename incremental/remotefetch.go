package incremental

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

const (
	// partSize is what hydration fetches by one request.
	partSize = 4 << 20
	// remoteTries is how often a range is asked for without any progress.
	remoteTries = 6
)

// fetcher brings parts of remote objects, for readers or for hydration.
type fetcher struct {
	ctx     context.Context
	from    ranges
	local   *LocalObjects // loses a copy that is not what it should be
	streams *Streams      // nil: without a bound
	pause   time.Duration // before a range is asked for again; doubled each time
}

// demand is the one for readers: nothing holds it back.
func demand(fs *RemoteFS) fetcher {
	return fetcher{ctx: fs.ctx, from: fs.from, local: fs.local, pause: fs.pause}
}

// rangeError is a range that may come when asked for again.
type rangeError struct {
	key string
	err error
}

func (e *rangeError) Error() string { return fmt.Sprintf("read object %q: %v", e.key, e.err) }
func (e *rangeError) Unwrap() error { return e.err }

// spoiledError is a range that came and has another digest. Asked for again it
// is right, or else the object is damaged.
type spoiledError struct {
	off int64
	got manifest.SegmentDigest
}

func (e *spoiledError) Error() string {
	return fmt.Sprintf("bytes from %d on have digest %x", e.off, e.got)
}

// again calls try until it has no error, for as long as there is hope. try
// returns how far it came.
func (f fetcher) again(key string, try func() (progress int64, err error)) error {
	pause, spoiled := f.pause, int64(-1)
	var came int64
	for n := 1; ; n++ {
		progress, err := try()
		if progress > came {
			came, n, pause = progress, 1, f.pause
		}
		var bad *spoiledError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &bad):
			if bad.off == spoiled {
				return &manifest.CorruptError{Key: key, Err: bad}
			}
			spoiled = bad.off
			f.local.Drop(key, bad)
			continue
		case !errors.As(err, new(*rangeError)) || n >= remoteTries:
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-f.ctx.Done():
			timer.Stop()
			return context.Cause(f.ctx)
		case <-timer.C:
		}
		pause *= 2
	}
}

// fetch brings the segments of a table from i up to end.
func (f fetcher) fetch(t *remoteTable, i, end int) error {
	if f.streams != nil {
		if err := f.streams.acquire(f.ctx); err != nil {
			return err
		}
		defer f.streams.release()
	}
	return f.again(t.object.Key, func() (progress int64, err error) {
		i, err = f.stream(t, i, end)
		if err != nil && t.have(i, end) {
			err = nil // somebody else brought them
		}
		return int64(i), err
	})
}

// stream asks once for segments and returns the first that did not come. What
// differs from its digest is never written.
func (f fetcher) stream(t *remoteTable, i, end int) (next int, err error) {
	o := t.object.Object
	off := int64(i) * segmentSize
	r, err := f.from(f.ctx, o, off, min(int64(end)*segmentSize, o.Size)-off)
	if err != nil {
		return i, f.readError(o.Key, err)
	}
	defer r.Close()
	buf := segmentBuffers.Get().(*[segmentSize]byte)
	defer segmentBuffers.Put(buf)
	for ; i < end; i++ {
		off := int64(i) * segmentSize
		p := buf[:min(segmentSize, o.Size-off)]
		if _, err := io.ReadFull(r, p); err != nil {
			return i, f.readError(o.Key, err)
		}
		if t.digests != "" { // does not change once it is known
			if got := manifest.SegmentDigestOf(p); got != t.digests.At(i) {
				return i, &spoiledError{off: off, got: got}
			}
		}
		if err := t.writeLocal(p, off); err != nil {
			return i, err
		}
		t.there(i)
	}
	return i, nil
}

// bytes reads a range that is to have a digest.
func (f fetcher) bytes(o manifest.Object, off, n int64, check func([]byte) error) (p []byte, err error) {
	p = make([]byte, n)
	err = f.again(o.Key, func() (int64, error) {
		r, err := f.from(f.ctx, o, off, n)
		if err != nil {
			return 0, f.readError(o.Key, err)
		}
		defer r.Close()
		if _, err := io.ReadFull(r, p); err != nil {
			return 0, f.readError(o.Key, err)
		}
		return 0, check(p)
	})
	return p, err
}

// readError says what an error of reading means.
func (f fetcher) readError(key string, err error) error {
	switch {
	case f.ctx.Err() != nil:
		return context.Cause(f.ctx)
	case damaged(err): // or spoiled on its way
		return &rangeError{key, &manifest.CorruptError{Key: key, Err: err}}
	case errors.Is(err, manifest.ErrCorrupt):
		return hide(key, err)
	}
	return &rangeError{key, err}
}

// hide takes away from an error that it matches fs.ErrNotExist: Pebble takes a
// file that does not exist for one that somebody removed.
func hide(key string, err error) error {
	var corrupt *manifest.CorruptError
	if errors.As(err, &corrupt) && errors.Is(err, objectstore.ErrNotExist) {
		return &manifest.CorruptError{Key: key, Err: errors.New(corrupt.Err.Error())}
	}
	return err
}

var segmentBuffers = sync.Pool{New: func() any { return new([segmentSize]byte) }}

// needEnds returns when what ingesting the table reads is local: its first
// block, and its end from the last one on; and what a pack will hold of it.
func (t *remoteTable) needEnds(streams *Streams) error {
	size := t.object.Size
	tail := min(max(0, t.object.data-deltaBlockSize), tailOf(size))
	if t.object.data == 0 {
		tail = size - min(size, 2*segmentSize)
	}
	if tail <= 8*segmentSize {
		tail = 0 // one request is better than two, though it brings more
	}
	group := new(errgroup.Group)
	for _, part := range [][2]int64{{tail, size}, {0, min(tail, 1)}} {
		group.Go(func() error {
			if err := streams.acquire(t.fs.ctx); err != nil {
				return err
			}
			defer streams.release()
			return t.needOpen(part[0], part[1]-part[0])
		})
	}
	return group.Wait()
}

// needOpen is need for a table that nobody has open.
func (t *remoteTable) needOpen(off, n int64) error {
	if err := t.acquire(); err != nil {
		return err
	}
	return errors.Join(t.need(off, n), t.release())
}
