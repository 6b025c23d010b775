package incremental

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
)

// LocalObjects is a directory of copies of a job's objects, so that a task that
// starts again on the same machine need not fetch them. It is a cache: whatever
// happens to it costs requests and nothing else, and none of its failures is
// anybody's but its own. What is in it is not synced and not trusted; a restore
// compares each copy with its digest, and takes the store's if they differ.
//
// A copy is a hard link to a file that the local database has, or had, and so
// takes no room of its own until the database has no more use for it. It is kept
// as long as one of the tasks may be restored from a checkpoint that names the
// object (see LocalTask), within a bound of bytes.
//
// One process at a time uses a directory; the caller sees to that. A nil
// *LocalObjects holds nothing and keeps nothing. Its methods may be called
// concurrently.
type LocalObjects struct {
	dir  string
	opts LocalOptions

	disk   sync.Mutex  // held to change the directory, before mu
	warned atomic.Bool // that an object could not be kept

	mu     sync.Mutex            // never held during I/O once a run has begun
	copies map[string]*localCopy // by the object's key
	order  list.List             // of them, the oldest first
	bytes  int64
	refs   map[string]int          // how many sets of names have a key
	loose  map[*localCopy]struct{} // named by no set, see LocalTask.Confirmed
}

// LocalOptions are what may be set of a LocalObjects.
type LocalOptions struct {
	// FS holds the directory and the files that are kept; nil means the
	// operating system's.
	FS vfs.FS
	// MaxBytes bounds the size of all copies, also where it is shared with a
	// database; the oldest go first. 0: as much as is named.
	MaxBytes int64
	Logger   *slog.Logger // nil: silent
}

type localCopy struct {
	key  string
	id   manifest.ID // of the checkpoint it was uploaded for
	size int64
	at   *list.Element
}

// NewLocalObjects uses a directory from Retain on, which makes it.
func NewLocalObjects(dir string, opts LocalOptions) *LocalObjects {
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &LocalObjects{
		dir: dir, opts: opts, copies: make(map[string]*localCopy),
		refs: make(map[string]int), loose: make(map[*localCopy]struct{}),
	}
}

// Retain begins a run of the job: of what is in the directory, the copies of
// these objects stay. What else is there, of other checkpoints or left by a
// crash, is removed; the tasks of an earlier run are forgotten.
func (l *LocalObjects) Retain(named iter.Seq[manifest.Object]) error {
	if l == nil {
		return nil
	}
	l.disk.Lock()
	l.mu.Lock()
	clear(l.copies)
	clear(l.refs)
	clear(l.loose)
	l.order.Init()
	l.bytes = 0
	sizes := make(map[string]int64)
	for o := range named {
		if name, ok := localName(o.Key); ok {
			sizes[name] = o.Size
		}
	}
	err := l.scan(sizes)
	excess := l.evict()
	l.mu.Unlock()
	l.disk.Unlock()
	l.unlink(excess)
	if err != nil {
		return fmt.Errorf("look for local objects: %w", err)
	}
	return nil
}

// scan enters the files that have the name and size of an object, and removes
// the others.
func (l *LocalObjects) scan(sizes map[string]int64) error {
	if err := l.opts.FS.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	names, err := l.opts.FS.List(l.dir)
	if err != nil {
		return err
	}
	written := make(map[string]time.Time)
	for _, name := range names {
		info, err := l.opts.FS.Stat(l.path(name))
		if size, ok := sizes[name]; err == nil && ok && !info.IsDir() && info.Size() == size {
			written[name] = info.ModTime()
		} else if err := l.opts.FS.RemoveAll(l.path(name)); err != nil {
			return err
		}
	}
	kept := slices.DeleteFunc(names, func(name string) bool { return written[name].IsZero() })
	slices.SortStableFunc(kept, func(a, b string) int { return written[a].Compare(written[b]) })
	for _, name := range kept {
		if key, err := url.QueryUnescape(name); err == nil {
			l.enter(key, sizes[name])
		}
	}
	return nil
}

// maxLocalName leaves room for localTemp in what file systems take.
const maxLocalName = 240

// localTemp ends the name of a file that is not whole yet.
const localTemp = ".tmp"

// localName is the name of an object's copy: one name for each key, without
// anything that a file system would understand. Keys that are too long have
// none.
func localName(key string) (string, bool) {
	name := url.QueryEscape(key)
	return name, name != "" && name[0] != '.' && len(name) <= maxLocalName
}

func (l *LocalObjects) path(name string) string { return l.opts.FS.PathJoin(l.dir, name) }

// Size is the number of copies and their bytes.
func (l *LocalObjects) Size() (objects int, bytes int64) {
	if l == nil {
		return 0, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.copies), l.bytes
}

func (l *LocalObjects) has(key string) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.copies[key] != nil
}

// Keep makes the file at a path the copy of an object. The file has its
// content, and nobody will write to it any more.
func (l *LocalObjects) Keep(o manifest.Object, path string) {
	l.keep(o, func(to string) error { return l.opts.FS.Link(path, to) })
}

// renew is Keep for a file that was checked. If there is a copy, the file takes
// its place, so that the two take the room of one.
func (l *LocalObjects) renew(o manifest.Object, path string) {
	name, ok := localName(o.Key)
	if l == nil || !ok {
		return
	}
	l.disk.Lock()
	if l.has(o.Key) {
		err := l.opts.FS.Remove(l.path(name))
		if err == nil {
			err = l.opts.FS.Link(path, l.path(name))
		}
		l.disk.Unlock()
		if err != nil {
			l.Drop(o.Key, err)
		}
		return
	}
	l.disk.Unlock()
	l.Keep(o, path)
}

// keepContent is Keep for an object that no file holds.
func (l *LocalObjects) keepContent(o manifest.Object, content []byte) {
	l.keep(o, func(to string) error {
		err := writeFile(l.opts.FS, to+localTemp, content)
		if err == nil {
			err = l.opts.FS.Rename(to+localTemp, to)
		}
		if err != nil {
			_ = l.opts.FS.Remove(to + localTemp)
		}
		return err
	})
}

func (l *LocalObjects) keep(o manifest.Object, put func(path string) error) {
	name, ok := localName(o.Key)
	if l == nil || !ok || l.opts.MaxBytes > 0 && o.Size > l.opts.MaxBytes {
		return
	}
	l.disk.Lock()
	if l.has(o.Key) {
		l.disk.Unlock()
		return
	}
	err := put(l.path(name))
	if errors.Is(err, fs.ErrExist) { // about to be removed, or it could not be
		if err = l.opts.FS.Remove(l.path(name)); err == nil {
			err = put(l.path(name))
		}
	}
	var excess []string
	if err == nil {
		l.mu.Lock()
		l.enter(o.Key, o.Size)
		excess = l.evict()
		l.mu.Unlock()
	}
	l.disk.Unlock()
	l.unlink(excess)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist) || l.warned.Swap(true):
		// Compacted away meanwhile, or the directory was removed.
		l.opts.Logger.Debug("no local copy of an object is kept", "object", o.Key, "error", err)
	default:
		l.opts.Logger.Warn("no local copy of an object is kept; this is said once", "object", o.Key, "error", err)
	}
}

// enter notes a copy that is there, with l.mu held.
func (l *LocalObjects) enter(key string, size int64) {
	c := &localCopy{key: key, size: size}
	if n, err := manifest.ParseDataKey(key); err == nil {
		c.id = n.ID
	}
	c.at = l.order.PushBack(c)
	l.copies[key] = c
	l.bytes += size
	if l.refs[key] == 0 {
		l.loose[c] = struct{}{}
	}
}

// evict keeps to the bound, with l.mu held. The result is to be unlinked.
func (l *LocalObjects) evict() (keys []string) {
	for l.opts.MaxBytes > 0 && l.bytes > l.opts.MaxBytes {
		keys = append(keys, l.remove(l.order.Front().Value.(*localCopy)))
	}
	return keys
}

// remove forgets a copy, with l.mu held. The result is to be unlinked.
func (l *LocalObjects) remove(c *localCopy) (key string) {
	delete(l.copies, c.key)
	delete(l.loose, c)
	l.order.Remove(c.at)
	l.bytes -= c.size
	return c.key
}

// unlink removes the files of copies that were forgotten, each in a turn of its
// own: there may be many, and they must not keep others waiting. One that stays
// in spite of it is removed by the next Retain.
func (l *LocalObjects) unlink(keys []string) {
	for _, key := range keys {
		l.disk.Lock()
		if !l.has(key) { // kept again meanwhile
			name, _ := localName(key)
			if err := l.opts.FS.Remove(l.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				l.opts.Logger.Warn("remove local copy of an object", "object", key, "error", err)
			}
		}
		l.disk.Unlock()
	}
}

var errNoCopy = errors.New("no local copy")

// link puts the copy of an object at a path. The copy is not to be trusted.
func (l *LocalObjects) link(key, path string) error {
	if !l.has(key) {
		return errNoCopy
	}
	name, _ := localName(key)
	return vfs.LinkOrCopy(l.opts.FS, l.path(name), path)
}

// Drop removes the copy of an object, which is missing or not what it should be.
func (l *LocalObjects) Drop(key string, reason error) {
	if l == nil {
		return
	}
	l.mu.Lock()
	var keys []string
	if c := l.copies[key]; c != nil {
		keys = append(keys, l.remove(c))
	}
	l.mu.Unlock()
	if len(keys) > 0 {
		l.opts.Logger.Warn("local copy of an object is of no use", "object", key, "reason", reason)
	}
	l.unlink(keys)
}

// GiveWay removes all copies: the disk is full.
func (l *LocalObjects) GiveWay() {
	if l == nil {
		return
	}
	l.mu.Lock()
	objects, bytes := len(l.copies), l.bytes
	var keys []string
	for _, c := range l.copies {
		keys = append(keys, l.remove(c))
	}
	l.mu.Unlock()
	if objects > 0 {
		l.opts.Logger.Warn("disk is full: local copies of objects are given up", "objects", objects, "bytes", bytes)
	}
	l.unlink(keys)
}
