package incremental

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
)

const (
	// segmentSize is what a read of a remote table fetches at least.
	segmentSize = manifest.SegmentSize

	partialSuffix = ".partial"
)

// remoteObject is an object that a table stands in, and how parts of it are
// checked: by the digests of its segments, which are known or in a pack. Without
// either it can only be checked as a whole.
type remoteObject struct {
	manifest.Object
	segments manifest.SegmentDigests
	data     int64 // see manifest.Delta
	pack     manifest.Object
	ref      manifest.PackRef
}

// remoteFileOf is the object of a base's file.
func remoteFileOf(b *manifest.Base, f manifest.File) remoteObject {
	o := remoteObject{Object: f.Object, ref: f.Pack}
	if f.Pack.Pack > 0 {
		o.pack = b.Packs[f.Pack.Pack-1]
	}
	return o
}

func remoteDelta(d manifest.Delta) remoteObject {
	return remoteObject{Object: d.Object, segments: d.Segments, data: d.Data}
}

// remoteTable is a table whose bytes are in the object store, and those that
// were read and checked in a local file of the same layout.
type remoteTable struct {
	fs     *RemoteFS
	object remoteObject
	local  atomic.Bool // whole, compared, and under its name
	read   atomic.Bool // by somebody else than hydration

	// These are guarded by the file system's lock.
	path  string // its first name, which its local file is called after
	names int
	taken bool // by hydration

	// handle is locked to change the two below; reading and writing the file
	// takes its read lock.
	handle sync.RWMutex
	file   vfs.File // open while there are users
	users  int

	completing sync.Mutex // held to fetch all of it

	mu       sync.Mutex
	came     sync.Cond               // one of the following changed
	digests  manifest.SegmentDigests // empty: not known
	learning bool                    // somebody fetches them
	opaque   bool                    // nobody can
	tail     int64                   // what is from here on is there
	segments []segmentState
	err      error // the first; no read succeeds after it
}

type segmentState uint8

const (
	segmentMissing  segmentState = iota
	segmentFetching              // by a reader; hydration does not tell
	segmentThere
)

func newRemoteTable(fs *RemoteFS, path string, o remoteObject) *remoteTable {
	t := &remoteTable{fs: fs, path: path, names: 1, object: o, digests: o.segments, tail: o.Size}
	t.opaque = t.digests == "" && o.ref.Pack == 0
	t.segments = make([]segmentState, o.Segments())
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
	case t.names == 0:
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

// writeLocal writes what was checked. A table that has its name needs nothing
// any more.
func (t *remoteTable) writeLocal(p []byte, off int64) error {
	t.handle.RLock()
	defer t.handle.RUnlock()
	if t.local.Load() {
		return nil
	}
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
	t.mu.Lock()
	defer t.mu.Unlock()
	t.learn()
	if t.err == nil && t.opaque {
		t.mu.Unlock()
		err := t.complete(demand(t.fs))
		t.mu.Lock()
		return err
	}
	end := min(off+n, t.tail)
	if t.err != nil || end <= off {
		return t.err
	}
	first, last := int(off/segmentSize), int((end-1)/segmentSize)
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
// held but for the time it waits.
func (t *remoteTable) claimed(i, last int) {
	end := i
	for end <= last && t.segments[end] == segmentMissing {
		t.segments[end] = segmentFetching
		end++
	}
	t.mu.Unlock()
	err := demand(t.fs).fetch(t, i, end)
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

// there enters a segment that was written.
func (t *remoteTable) there(i int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.segments[i] = segmentThere
	t.came.Broadcast()
}

// have reports whether the segments from i up to end are there.
func (t *remoteTable) have(i, end int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; i < end && t.segments[i] == segmentThere; i++ {
	}
	return i == end && !t.opaque
}

// missing finds the first run of segments among those from one up to another
// that are not there, no longer than limit. i == end means there is none.
func (t *remoteTable) missing(from, to, limit int) (i, end int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i = from; i < to && t.segments[i] == segmentThere; i++ {
	}
	for end = i; end < to && end-i < limit && t.segments[end] != segmentThere; end++ {
	}
	return i, end
}

// fail makes err the outcome of every later read.
func (t *remoteTable) fail(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	t.came.Broadcast()
	return t.err
}

// settle gives a table that is whole its names. It is opened anew, for the sake
// of systems that do not rename an open file.
func (t *remoteTable) settle() error {
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	if t.names == 0 {
		return nil // removed meanwhile
	}
	t.handle.Lock()
	defer t.handle.Unlock()
	err := t.file.Close()
	t.file = nil
	if err == nil {
		err = t.fs.FS.Rename(t.partial(), t.path)
	}
	for _, other := range t.fs.namesOf(t) {
		if err == nil && other != t.path {
			err = t.fs.FS.Link(t.path, other)
		}
	}
	if err == nil {
		t.file, err = t.fs.FS.Open(t.path, vfs.RandomReadsOption)
	}
	if err != nil {
		return err
	}
	t.local.Store(true)
	for _, name := range t.fs.namesOf(t) {
		delete(t.fs.tables, name)
	}
	return nil
}

// moved gives the local file the name of another path, if there is a file, with
// the lock of the file system held.
func (t *remoteTable) moved(path string) error {
	err := t.fs.FS.Rename(t.partial(), path+partialSuffix)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	t.path = path
	return nil
}
