package incremental

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// RemoteFS is a file system in which tables exist that are still in the object
// store. Restore puts them there. They are listed, have a size and can be
// opened and linked; a read fetches the segments it needs and keeps them in a
// local file. Hydrate fetches the rest, compares the digest, and gives the file
// its name, after which it is like any other.
//
// No byte is seen by a reader before it was checked: each segment against its
// digest, which the manifest or a pack has, or else the whole table against its
// own. One that does not match is asked for once more, a range that cannot be
// read for some seconds. What fails then fails every later read of the table
// too; it never looks like a file that does not exist, which Pebble takes for
// damage.
//
// It may be used concurrently.
type RemoteFS struct {
	vfs.FS
	from  ranges
	local *LocalObjects   // read before the store, and kept; set by Restore
	ctx   context.Context // of every read, for files have none of their own
	pause time.Duration   // before a range is asked for again; doubled each time

	mu     sync.Mutex
	tables map[string]*remoteTable // by path; those that are not local yet
	wanted []*remoteTable          // read and not being hydrated, in that order
	// externals are those of tables that Pebble knows by their object's key.
	externals map[string]*externalTable
}

// NewRemoteFS wraps fs; nil means the operating system's. store is the job's
// part of the object store, ctx ends all reads from it.
func NewRemoteFS(ctx context.Context, fs vfs.FS, store objectstore.Store) *RemoteFS {
	if fs == nil {
		fs = vfs.Default
	}
	return &RemoteFS{
		FS: fs, from: storeRanges(store), ctx: ctx, pause: 100 * time.Millisecond,
		tables: make(map[string]*remoteTable), externals: make(map[string]*externalTable),
	}
}

// useLocal reads copies of objects before the store, and keeps tables there that
// are whole.
func (fs *RemoteFS) useLocal(l *LocalObjects) {
	fs.local, fs.from = l, l.ranges(fs.from)
}

// add puts a table at a path.
func (fs *RemoteFS) add(path string, o remoteObject) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	path = fs.PathJoin(path)
	fs.tables[path] = newRemoteTable(fs, path, o)
}

// Objects are those that something is still to be read from: they must not be
// deleted.
func (fs *RemoteFS) Objects() []manifest.Object {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var out []manifest.Object
	packs := make(map[string]bool)
	for _, t := range fs.left() {
		out = append(out, t.object.Object)
		if p := t.object.pack; p.Key != "" && !packs[p.Key] {
			packs[p.Key] = true
			out = append(out, p)
		}
	}
	return out
}

// Left is how many tables are not local, and their bytes.
func (fs *RemoteFS) Left() (tables, bytes int64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, t := range fs.left() {
		tables++
		bytes += t.object.Size
	}
	return tables, bytes
}

// left are the tables that are not local, each once, with fs.mu held.
func (fs *RemoteFS) left() []*remoteTable {
	out := make([]*remoteTable, 0, len(fs.tables))
	for path, t := range fs.tables {
		if path == t.path {
			out = append(out, t)
		}
	}
	return out
}

// namesOf are the paths of a table, with fs.mu held.
func (fs *RemoteFS) namesOf(t *remoteTable) []string {
	if t.names == 1 {
		return []string{t.path}
	}
	var out []string
	for path, other := range fs.tables {
		if other == t {
			out = append(out, path)
		}
	}
	return out
}

// object is the one that a file at a path is to be fetched from.
func (fs *RemoteFS) object(path string) (manifest.Object, bool) {
	if t := fs.table(path); t != nil {
		return t.object.Object, true
	}
	return manifest.Object{}, false
}

func (fs *RemoteFS) table(path string) *remoteTable {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.tables[fs.PathJoin(path)]
}

// Open implements vfs.FS.
func (fs *RemoteFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	t := fs.table(name)
	if t == nil {
		return fs.FS.Open(name, opts...)
	}
	if err := t.acquire(); err != nil {
		return nil, err
	}
	return &remoteFile{table: t}, nil
}

// Stat implements vfs.FS.
func (fs *RemoteFS) Stat(name string) (vfs.FileInfo, error) {
	if t := fs.table(name); t != nil {
		return remoteInfo{name: fs.PathBase(name), size: t.object.Size}, nil
	}
	return fs.FS.Stat(name)
}

// List implements vfs.FS.
func (fs *RemoteFS) List(dir string) ([]string, error) {
	fs.mu.Lock() // or a table might become local in between
	defer fs.mu.Unlock()
	names, err := fs.FS.List(dir)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, partialSuffix) })
	dir = fs.PathJoin(dir)
	for path := range fs.tables {
		if fs.PathDir(path) == dir {
			names = append(names, fs.PathBase(path))
		}
	}
	return names, nil
}

// Link implements vfs.FS. A table that is not local is the same table under
// both names.
func (fs *RemoteFS) Link(oldname, newname string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	t := fs.tables[fs.PathJoin(oldname)]
	if t == nil {
		return fs.FS.Link(oldname, newname)
	}
	newname = fs.PathJoin(newname)
	if _, err := fs.FS.Stat(newname); err == nil || fs.tables[newname] != nil {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: os.ErrExist}
	}
	fs.tables[newname] = t
	t.names++
	return nil
}

// Remove implements vfs.FS.
func (fs *RemoteFS) Remove(name string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	path := fs.PathJoin(name)
	if fs.tables[path] == nil {
		return fs.FS.Remove(name)
	}
	if err := fs.unlink(path); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// unlink takes a name from its table. The local file goes with the last one.
func (fs *RemoteFS) unlink(path string) error {
	t := fs.tables[path]
	delete(fs.tables, path)
	t.names--
	if t.names == 0 {
		err := fs.FS.Remove(t.partial())
		if os.IsNotExist(err) {
			return nil
		}
		return err
	}
	if path != t.path {
		return nil
	}
	for other, have := range fs.tables {
		if have == t {
			return t.moved(other)
		}
	}
	return nil
}

// RemoveAll implements vfs.FS.
func (fs *RemoteFS) RemoveAll(name string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var errs []error
	for key, t := range fs.externals {
		if _, ok := fs.below(t.path, name); ok {
			errs = append(errs, fs.dropExternal(key))
		}
	}
	for path := range fs.tables {
		if _, ok := fs.below(path, name); ok {
			errs = append(errs, fs.unlink(path))
		}
	}
	return errors.Join(append(errs, fs.FS.RemoveAll(name))...)
}

// Rename implements vfs.FS. A directory takes its tables along. They are not
// open meanwhile, nor are they hydrated.
func (fs *RemoteFS) Rename(oldname, newname string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if err := fs.FS.Rename(oldname, newname); err != nil {
		return err
	}
	moved := make(map[string]*remoteTable)
	for path, t := range fs.tables {
		if rest, ok := fs.below(path, oldname); ok {
			delete(fs.tables, path)
			to := fs.PathJoin(newname, rest)
			moved[to] = t
			if t.path == path {
				t.path = to
			}
		}
	}
	maps.Copy(fs.tables, moved)
	for _, t := range fs.externals {
		if rest, ok := fs.below(t.path, oldname); ok { // one that is local
			t.path = fs.PathJoin(newname, rest)
		}
	}
	return nil
}

// below gives the part of a path under a directory.
func (fs *RemoteFS) below(path, dir string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, fs.PathJoin(dir))
	return rest, ok && rest != "" && os.IsPathSeparator(rest[0])
}

// Unwrap implements vfs.FS.
func (fs *RemoteFS) Unwrap() vfs.FS { return fs.FS }
