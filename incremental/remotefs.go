package incremental

import (
	"context"
	"fmt"
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
// store. Restore puts those of a base there. They are listed, have a size and
// can be opened; a read fetches the segments it needs and keeps them in a local
// file. Hydrate fetches the rest, compares the digest, and gives the file its
// name, after which it is like any other.
//
// A range that cannot be read is asked for again for some seconds. What fails
// then, or has another size or digest than the manifest says, fails every later
// read of the table too; it never looks like a file that does not exist, which
// Pebble takes for damage. Until the digest was compared, what a table holds is
// vouched for by its object's name, which is written once, and by the checksums
// of Pebble's blocks.
//
// It may be used concurrently.
type RemoteFS struct {
	vfs.FS
	store objectstore.Store
	local *LocalObjects   // keeps tables that are whole; set by Restore
	ctx   context.Context // of every read, for files have none of their own
	pause time.Duration   // before a range is asked for again; doubled each time

	mu     sync.Mutex
	tables map[string]*remoteTable // by path; those that are not local yet
	wanted []*remoteTable          // read and not being hydrated, in that order
}

// NewRemoteFS wraps fs; nil means the operating system's. store is the job's
// part of the object store, ctx ends all reads from it.
func NewRemoteFS(ctx context.Context, fs vfs.FS, store objectstore.Store) *RemoteFS {
	if fs == nil {
		fs = vfs.Default
	}
	return &RemoteFS{
		FS: fs, store: store, ctx: ctx, pause: 100 * time.Millisecond,
		tables: make(map[string]*remoteTable),
	}
}

// add puts a table at a path.
func (fs *RemoteFS) add(path string, o manifest.Object) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	path = fs.PathJoin(path)
	fs.tables[path] = newRemoteTable(fs, path, o)
}

// Objects are those that are not local yet: they must not be deleted.
func (fs *RemoteFS) Objects() []manifest.Object {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	out := make([]manifest.Object, 0, len(fs.tables))
	for _, t := range fs.tables {
		out = append(out, t.object)
	}
	return out
}

// object is the one that a file at a path is to be fetched from.
func (fs *RemoteFS) object(path string) (manifest.Object, bool) {
	if t := fs.table(path); t != nil {
		return t.object, true
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

// Link implements vfs.FS. A table that is not local cannot be linked; with this
// error nobody copies it instead.
func (fs *RemoteFS) Link(oldname, newname string) error {
	if fs.table(oldname) != nil {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: os.ErrPermission}
	}
	return fs.FS.Link(oldname, newname)
}

// Remove implements vfs.FS.
func (fs *RemoteFS) Remove(name string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	t := fs.tables[fs.PathJoin(name)]
	if t == nil {
		return fs.FS.Remove(name)
	}
	delete(fs.tables, t.path)
	err := fs.FS.Remove(t.partial())
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// RemoveAll implements vfs.FS.
func (fs *RemoteFS) RemoveAll(name string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for path := range fs.tables {
		if _, ok := fs.below(path, name); ok {
			delete(fs.tables, path)
		}
	}
	return fs.FS.RemoveAll(name)
}

// Rename implements vfs.FS. A directory takes its tables along. They are not
// open meanwhile, nor are they hydrated.
func (fs *RemoteFS) Rename(oldname, newname string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if err := fs.FS.Rename(oldname, newname); err != nil {
		return err
	}
	for path, t := range fs.tables {
		if rest, ok := fs.below(path, oldname); ok {
			delete(fs.tables, path)
			t.path = fs.PathJoin(newname, rest)
			fs.tables[t.path] = t
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
