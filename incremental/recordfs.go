package incremental

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
)

// RecordFS is the file system of state databases. It differs from the one it
// wraps in three things. Nothing is synced, for the directories are disposable:
// the object store is the durability. A capture of a base (CaptureBase) links
// and copies nothing: it records which tables it would link, and these are held
// back from removal until its release. And it remembers the digests of tables
// whose content is known, through links and renames.
//
// Each database has its own; its restore and the deltas it ingests use the same
// one. It may be used concurrently. After a failure of the database it is done.
type RecordFS struct {
	vfs.FS
	remote *RemoteFS  // FS, if it is one
	small  *vfs.MemFS // the files that captures write

	mu       sync.Mutex
	captures int
	links    map[string][]link // by capture directory
	pinned   map[string]*pin   // by path
	known    map[string]fileDigest
	absent   map[string]int64 // size by path of tables that only seem to be there
	failure  error            // the first that made the database unfit
}

type link struct{ name, path string }

// pin counts the captures that hold a file.
type pin struct {
	n       int
	removed bool // once the last of them is released
}

// fileDigest is the size and digest of a local file, and the digests of its
// segments if they are known.
type fileDigest struct {
	size     int64
	sha256   manifest.Digest
	segments manifest.SegmentDigests
}

// captureRoot begins every path of a capture. No file system has such a name.
const captureRoot = "\x00capture"

// NewRecordFS wraps fs; nil means the operating system's.
func NewRecordFS(fs vfs.FS) *RecordFS {
	if fs == nil {
		fs = vfs.Default
	}
	r := &RecordFS{
		FS:     fs,
		small:  vfs.NewMem(),
		links:  make(map[string][]link),
		pinned: make(map[string]*pin),
		known:  make(map[string]fileDigest),
		absent: make(map[string]int64),
	}
	r.remote, _ = fs.(*RemoteFS)
	return r
}

func captured(path string) bool { return strings.HasPrefix(path, captureRoot) }

// at is the file system that holds a path.
func (fs *RecordFS) at(path string) vfs.FS {
	if captured(path) {
		return fs.small
	}
	return fs.FS
}

func (fs *RecordFS) clean(path string) string { return fs.FS.PathJoin(path) }

// Create implements vfs.FS.
func (fs *RecordFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	fs.forget(name)
	return noSync(fs.at(name).Create(name, c))
}

// OpenReadWrite implements vfs.FS.
func (fs *RecordFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	fs.forget(name)
	return noSync(fs.at(name).OpenReadWrite(name, c, opts...))
}

// ReuseForWrite implements vfs.FS.
func (fs *RecordFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	fs.forget(oldname)
	fs.forget(newname)
	return noSync(fs.FS.ReuseForWrite(oldname, newname, c))
}

// Open implements vfs.FS.
func (fs *RecordFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if _, ok := fs.isAbsent(name); ok {
		return nil, fmt.Errorf("open %s: %w", name, errAbsent)
	}
	return fs.at(name).Open(name, opts...)
}

// OpenDir implements vfs.FS.
func (fs *RecordFS) OpenDir(name string) (vfs.File, error) {
	return noSync(fs.at(name).OpenDir(name))
}

// Stat implements vfs.FS.
func (fs *RecordFS) Stat(name string) (vfs.FileInfo, error) {
	if size, ok := fs.isAbsent(name); ok {
		return remoteInfo{name: fs.PathBase(name), size: size}, nil
	}
	return fs.at(name).Stat(name)
}

// List implements vfs.FS.
func (fs *RecordFS) List(dir string) ([]string, error) {
	names, err := fs.at(dir).List(dir)
	if err != nil {
		return nil, err
	}
	return append(names, fs.absentIn(dir)...), nil
}

// MkdirAll implements vfs.FS.
func (fs *RecordFS) MkdirAll(dir string, perm os.FileMode) error {
	return fs.at(dir).MkdirAll(dir, perm)
}

// Unwrap implements vfs.FS.
func (fs *RecordFS) Unwrap() vfs.FS { return fs.FS }

// Link implements vfs.FS. A link into a capture is only recorded.
func (fs *RecordFS) Link(oldname, newname string) error {
	if captured(newname) {
		fs.record(oldname, newname)
		return nil
	}
	if err := fs.FS.Link(oldname, newname); err != nil {
		return err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if d, ok := fs.known[fs.clean(oldname)]; ok {
		fs.known[fs.clean(newname)] = d
	}
	return nil
}

// record pins a table of a capture. Pebble keeps it from removal meanwhile.
func (fs *RecordFS) record(oldname, newname string) {
	path, dir := fs.clean(oldname), fs.FS.PathDir(newname)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	p := fs.pinned[path]
	if p == nil {
		p = new(pin)
		fs.pinned[path] = p
	}
	p.n++
	fs.links[dir] = append(fs.links[dir], link{name: fs.FS.PathBase(newname), path: path})
}

// Remove implements vfs.FS. The removal of a table that a capture holds is
// put off.
func (fs *RecordFS) Remove(name string) error {
	fs.mu.Lock()
	if p := fs.pinned[fs.clean(name)]; p != nil {
		p.removed = true
		fs.mu.Unlock()
		return nil
	}
	delete(fs.known, fs.clean(name))
	fs.mu.Unlock()
	if fs.dropAbsent(name) {
		return nil
	}
	return fs.at(name).Remove(name)
}

// RemoveAll implements vfs.FS. Files that a capture holds go too.
func (fs *RecordFS) RemoveAll(name string) error {
	fs.moveKnown(name, "")
	fs.dropAllAbsent(name)
	return fs.at(name).RemoveAll(name)
}

// Rename implements vfs.FS.
func (fs *RecordFS) Rename(oldname, newname string) error {
	if captured(newname) {
		return fs.small.Rename(oldname, newname)
	}
	if err := fs.FS.Rename(oldname, newname); err != nil {
		return err
	}
	fs.moveKnown(oldname, newname)
	return nil
}

// moveKnown renames what is remembered of a file or of a directory's files,
// or forgets it if there is no new name.
func (fs *RecordFS) moveKnown(oldname, newname string) {
	oldname = fs.clean(oldname)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	moved := make(map[string]fileDigest)
	for path, d := range fs.known {
		rest, ok := strings.CutPrefix(path, oldname)
		if !ok || rest != "" && !os.IsPathSeparator(rest[0]) {
			continue
		}
		delete(fs.known, path)
		if newname != "" {
			moved[fs.clean(newname)+rest] = d
		}
	}
	for path, d := range moved {
		fs.known[path] = d
	}
}

func (fs *RecordFS) remember(path string, d fileDigest) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.known[fs.clean(path)] = d
}

func (fs *RecordFS) forget(path string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.known, fs.clean(path))
}

func (fs *RecordFS) digest(path string) (fileDigest, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d, ok := fs.known[fs.clean(path)]
	return d, ok
}

func (fs *RecordFS) fail(err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.failure == nil {
		fs.failure = err
	}
}

func (fs *RecordFS) failed() error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.failure
}

// begin gives the directory of a new capture.
func (fs *RecordFS) begin() (dir string, err error) {
	fs.mu.Lock()
	fs.captures++
	dir = fs.FS.PathJoin(captureRoot, fmt.Sprint(fs.captures))
	fs.mu.Unlock()
	return dir, fs.small.MkdirAll(captureRoot, 0o755)
}

// linked gives what a capture has recorded.
func (fs *RecordFS) linked(dir string) []link {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.links[dir]
}

// release ends a capture and makes up for the removals it had put off.
func (fs *RecordFS) release(dir string) error {
	fs.mu.Lock()
	var due []string
	for _, l := range fs.links[dir] {
		p := fs.pinned[l.path]
		if p.n--; p.n > 0 {
			continue
		}
		delete(fs.pinned, l.path)
		if p.removed {
			delete(fs.known, l.path)
			due = append(due, l.path)
		}
	}
	delete(fs.links, dir)
	fs.mu.Unlock()
	err := fs.small.RemoveAll(dir)
	for _, path := range due {
		if e := fs.FS.Remove(path); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = e
		}
	}
	return err
}

// addRemote puts a table there that is in the store.
func (fs *RecordFS) addRemote(path string, o remoteObject) {
	fs.remote.add(path, o)
	fs.remember(path, fileDigest{o.Size, o.SHA256, o.segments})
}

// remoteTables are the objects of the tables that are not local.
func (fs *RecordFS) remoteTables() (objects []manifest.Object) {
	if fs.remote == nil {
		return nil
	}
	fs.remote.mu.Lock()
	defer fs.remote.mu.Unlock()
	for _, t := range fs.remote.left() {
		objects = append(objects, t.object.Object)
	}
	return objects
}

// remoteSegments are the digests of a table's segments, none if they have
// not come yet, and whether it is remote.
func (fs *RecordFS) remoteSegments(path string) (manifest.SegmentDigests, bool) {
	if fs.remote == nil {
		return "", false
	}
	t := fs.remote.table(path)
	if t == nil {
		return "", false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.digests, true
}

// corruption names the object of a damaged table, as long as it is remote. An
// external one has its key for a path.
func (fs *RecordFS) corruption(info pebble.DataCorruptionInfo) error {
	err := fmt.Errorf("pebble: data corruption: %s", info)
	if fs.remote == nil {
		return err
	}
	if key, ok := strings.CutPrefix(info.Path, "remote://"); ok {
		return &manifest.CorruptError{Key: key, Err: err}
	}
	if o, ok := fs.remote.object(info.Path); ok {
		return &manifest.CorruptError{Key: o.Key, Err: err}
	}
	return err
}

func (fs *RecordFS) composed() bool { return fs.remote != nil && fs.remote.Composed() }

// noSyncFile leaves it to the operating system when bytes reach the disk.
type noSyncFile struct{ vfs.File }

func noSync(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return noSyncFile{f}, nil
}

// Sync implements vfs.File.
func (noSyncFile) Sync() error { return nil }

// SyncData implements vfs.File.
func (noSyncFile) SyncData() error { return nil }

// SyncTo implements vfs.File.
func (noSyncFile) SyncTo(int64) (fullSync bool, err error) { return false, nil }
