package incremental

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

const (
	// segmentSize is what a read of a remote table fetches at least.
	segmentSize = 128 << 10
	// partSize is what hydration fetches by one request.
	partSize = 4 << 20
	// remoteTries is how often a range is asked for without any progress.
	remoteTries = 6

	partialSuffix = ".partial"
)

// remoteTable is a table whose bytes are in the object store, and those that
// were read in a local file of the same layout.
type remoteTable struct {
	fs     *RemoteFS
	object manifest.Object
	local  atomic.Bool // whole, compared, and under its name
	read   atomic.Bool // by somebody else than hydration

	// These two are guarded by the file system's lock.
	path  string
	taken bool // by hydration

	// handle is locked to change the two below; reading and writing the file
	// takes its read lock.
	handle sync.RWMutex
	file   vfs.File // open while there are users
	users  int

	mu       sync.Mutex
	came     sync.Cond // a segment came, or will not
	segments []segmentState
	err      error // the first; no read succeeds after it
}

type segmentState uint8

const (
	segmentMissing segmentState = iota
	segmentFetching
	segmentThere
)

func newRemoteTable(fs *RemoteFS, path string, o manifest.Object) *remoteTable {
	t := &remoteTable{fs: fs, path: path, object: o}
	t.segments = make([]segmentState, (o.Size+segmentSize-1)/segmentSize)
	t.came.L = &t.mu
	return t
}

func (t *remoteTable) partial() string { return t.path + partialSuffix }

// acquire opens the local file for one more user.
func (t *remoteTable) acquire() (err error) {
	t.fs.mu.Lock() // or the file might change its name
	defer t.fs.mu.Unlock()
	t.handle.Lock()
	defer t.handle.Unlock()
	switch {
	case t.file != nil:
	case t.local.Load():
		t.file, err = t.fs.FS.Open(t.path)
	case t.fs.tables[t.path] != t:
		err = errRemoved // and what was there of it
	default:
		t.file, err = t.fs.FS.OpenReadWrite(t.partial(), vfs.WriteCategoryUnspecified)
	}
	if err == nil {
		t.users++
	}
	return err
}

func (t *remoteTable) release() error {
	t.handle.Lock()
	defer t.handle.Unlock()
	t.users--
	if t.users > 0 || t.file == nil {
		return nil
	}
	f := t.file
	t.file = nil
	return f.Close()
}

var (
	errNoLocalFile = errors.New("local file of the table could not be opened")
	errRemoved     = errors.New("table was removed")
)

// ReadAt reads what is there.
func (t *remoteTable) ReadAt(p []byte, off int64) (int, error) {
	t.handle.RLock()
	defer t.handle.RUnlock()
	if t.file == nil {
		return 0, errNoLocalFile
	}
	return t.file.ReadAt(p, off)
}

func (t *remoteTable) writeLocal(p []byte, off int64) error {
	t.handle.RLock()
	defer t.handle.RUnlock()
	if t.file == nil {
		return errNoLocalFile
	}
	_, err := t.file.WriteAt(p, off)
	return err
}

// need returns when the n bytes from off on are local.
func (t *remoteTable) need(off, n int64) error {
	if n <= 0 || t.local.Load() {
		return nil
	}
	first, last := int(off/segmentSize), int((off+n-1)/segmentSize)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := first; i <= last; {
		switch {
		case t.err != nil:
			return t.err
		case t.segments[i] == segmentThere:
			i++
		case t.segments[i] == segmentFetching:
			t.came.Wait()
		default:
			t.claimed(i, last)
		}
	}
	return t.err
}

// claimed fetches the missing segments from i on, at most to last, with t.mu
// held but for the time it waits. What is at the end of a table is small and
// read together: the segment before the last comes with it.
func (t *remoteTable) claimed(i, last int) {
	if end := len(t.segments) - 1; i == end && i > 0 && t.segments[i-1] == segmentMissing {
		i--
	}
	end := i
	for end <= last && t.segments[end] == segmentMissing {
		t.segments[end] = segmentFetching
		end++
	}
	t.mu.Unlock()
	err := t.fetch(i, end)
	t.mu.Lock()
	for ; i < end; i++ {
		if t.segments[i] == segmentFetching {
			t.segments[i] = segmentMissing
		}
	}
	if t.err == nil {
		t.err = err
	}
	t.came.Broadcast()
}

// fetch brings the segments from i up to end, asking again for what does not
// come as long as there is hope.
func (t *remoteTable) fetch(i, end int) error {
	pause := t.fs.pause
	for try := 1; ; try++ {
		next, err := t.stream(i, end)
		if err == nil || !errors.As(err, new(*rangeError)) {
			return err
		}
		if next > i {
			i, try, pause = next, 1, t.fs.pause
		}
		if try == remoteTries {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-t.fs.ctx.Done():
			timer.Stop()
			return context.Cause(t.fs.ctx)
		case <-timer.C:
		}
		pause *= 2
	}
}

// rangeError is a range that may come when asked for again.
type rangeError struct {
	key string
	err error
}

func (e *rangeError) Error() string { return fmt.Sprintf("read object %q: %v", e.key, e.err) }
func (e *rangeError) Unwrap() error { return e.err }

// stream asks once for segments and returns the first that did not come.
func (t *remoteTable) stream(i, end int) (next int, err error) {
	off := int64(i) * segmentSize
	r, info, err := t.fs.store.Get(t.fs.ctx, t.object.Key, off, min(int64(end)*segmentSize, t.object.Size)-off)
	if err != nil {
		return i, t.readError(err)
	}
	defer r.Close()
	if info.Size != t.object.Size {
		return i, &manifest.CorruptError{Key: t.object.Key, Err: fmt.Errorf("size is %d, want %d", info.Size, t.object.Size)}
	}
	buf := segmentBuffers.Get().(*[segmentSize]byte)
	defer segmentBuffers.Put(buf)
	for ; i < end; i++ {
		off := int64(i) * segmentSize
		p := buf[:min(segmentSize, t.object.Size-off)]
		if _, err := io.ReadFull(r, p); err != nil {
			return i, t.readError(err)
		}
		if err := t.writeLocal(p, off); err != nil {
			return i, err
		}
		t.mu.Lock()
		t.segments[i] = segmentThere
		t.came.Broadcast()
		t.mu.Unlock()
	}
	return i, nil
}

// readError says what an error of the store means.
func (t *remoteTable) readError(err error) error {
	switch {
	case t.fs.ctx.Err() != nil:
		return context.Cause(t.fs.ctx)
	case errors.Is(err, objectstore.ErrNotExist):
		return t.hide(&manifest.CorruptError{Key: t.object.Key, Err: err})
	case damaged(err): // or spoiled on its way
		return &rangeError{t.object.Key, &manifest.CorruptError{Key: t.object.Key, Err: err}}
	}
	return &rangeError{t.object.Key, err}
}

// hide takes away from an error that it matches fs.ErrNotExist: Pebble takes a
// file that does not exist for one that somebody removed.
func (t *remoteTable) hide(err error) error {
	var corrupt *manifest.CorruptError
	if errors.As(err, &corrupt) && errors.Is(err, objectstore.ErrNotExist) {
		return &manifest.CorruptError{Key: t.object.Key, Err: errors.New(corrupt.Err.Error())}
	}
	return err
}

var segmentBuffers = sync.Pool{New: func() any { return new([segmentSize]byte) }}
