package incremental

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/remote"

	"github.com/ckpt-io/ckpt/manifest"
)

// externalSuffix ends the name that an external table has in the directory of
// its database. Pebble takes it for no file of its own.
const externalSuffix = ".external"

// externalTable is a table of which a database reads parts, and that Pebble
// knows by the key of its object. What is read of it is kept beside the
// database's files. It is hydrated by Pebble, which copies the parts, not as a
// file.
type externalTable struct {
	*remoteTable
	parts  []manifest.KeyGroupRange // guarded by the file system's lock until Pebble reads
	useful atomic.Pointer[[]span]   // ascending; nil: not known yet
}

// addExternal makes a part of an object readable for a database in dir.
func (fs *RemoteFS) addExternal(dir string, o remoteObject, part manifest.KeyGroupRange) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if t := fs.externals[o.Key]; t != nil {
		t.parts = append(t.parts, part)
		return
	}
	path := fs.PathJoin(dir, fs.PathBase(o.Key)+externalSuffix)
	t := newRemoteTable(fs, path, o)
	t.read.Store(true) // so that hydration is not asked for it
	t.taken = true
	fs.tables[path] = t
	fs.externals[o.Key] = &externalTable{remoteTable: t, parts: []manifest.KeyGroupRange{part}}
}

// external is the table of an object, nil if there is none.
func (fs *RemoteFS) external(key string) *externalTable {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.externals[key]
}

// Composed reports whether a database still reads parts of tables that other
// states share with it: a state of several pieces that is not hydrated yet. No
// base can be captured of it.
func (fs *RemoteFS) Composed() bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.externals) > 0
}

// dropExternals forgets the external tables after all that a database needs of
// them is in files of its own.
func (fs *RemoteFS) dropExternals() error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var errs []error
	for key := range fs.externals {
		errs = append(errs, fs.dropExternal(key))
	}
	return errors.Join(errs...)
}

// dropExternal drops one, with the lock held. The file of one that could only be
// checked as a whole has a name of its own.
func (fs *RemoteFS) dropExternal(key string) error {
	t := fs.externals[key]
	delete(fs.externals, key)
	if fs.tables[t.path] == t.remoteTable {
		return fs.unlink(t.path)
	}
	err := fs.FS.Remove(t.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// externalStorage is the external tables of a RemoteFS as Pebble reads them.
// Nothing is ever written or deleted through it.
type externalStorage struct {
	fs     *RemoteFS
	failed func(error) // called for every read that fails
}

var errReadOnly = errors.New("external tables are only read")

// ReadObject implements remote.Storage. It asks the store for nothing.
func (s *externalStorage) ReadObject(_ context.Context, key string) (remote.ObjectReader, int64, error) {
	t := s.fs.external(key)
	if t == nil {
		err := fmt.Errorf("external table %q is not of this database", key)
		s.failed(err)
		return nil, 0, err
	}
	if err := t.acquire(); err != nil {
		s.failed(err)
		return nil, 0, err
	}
	return &externalReader{t, s}, t.object.Size, nil
}

// Size implements remote.Storage.
func (s *externalStorage) Size(key string) (int64, error) {
	t := s.fs.external(key)
	if t == nil {
		return 0, fmt.Errorf("external table %q is not of this database", key)
	}
	return t.object.Size, nil
}

// IsNotExistError implements remote.Storage. A missing object is damage, which
// the error says itself.
func (s *externalStorage) IsNotExistError(error) bool { return false }

// CreateObject implements remote.Storage.
func (s *externalStorage) CreateObject(string) (io.WriteCloser, error) { return nil, errReadOnly }

// List implements remote.Storage.
func (s *externalStorage) List(string, string) ([]string, error) { return nil, errReadOnly }

// Delete implements remote.Storage.
func (s *externalStorage) Delete(string) error { return errReadOnly }

// Close implements remote.Storage.
func (s *externalStorage) Close() error { return nil }

// externalReader reads one object.
type externalReader struct {
	table *externalTable
	from  *externalStorage
}

// ReadAt implements remote.ObjectReader. The store is asked with the context
// of the file system, for what comes stays.
func (r *externalReader) ReadAt(_ context.Context, p []byte, off int64) error {
	err := r.table.readAt(p, off)
	if err != nil {
		r.from.failed(err)
	}
	return err
}

// Close implements remote.ObjectReader.
func (r *externalReader) Close() error { return r.table.release() }

// download copies what a database needs of its external tables to files of its
// own. It is rewritten key by key: to copy the blocks as they are would not
// compare their checksums, and pass damage on to a local file.
func (h *hydration) download(tables []*externalTable, parallel int) error {
	if len(tables) == 0 {
		return nil
	}
	if h.opts.DB == nil {
		return errors.New("parts of tables can be made local only by their database")
	}
	if err := h.prefetch(tables, parallel); err != nil {
		return err
	}
	all := []pebble.DownloadSpan{{StartKey: []byte{}, EndKey: lastKey}}
	if err := h.opts.DB.Download(h.fs.ctx, all); err != nil {
		return err
	}
	if err := h.awaitReaders(); err != nil {
		return err
	}
	return h.fs.dropExternals()
}

// awaitReaders returns when no iterator is left that may yet open an external
// table: one of before the download.
func (h *hydration) awaitReaders() error {
	tick := time.NewTicker(h.fs.pause)
	defer tick.Stop()
	for {
		if t := h.opts.DB.Metrics().Table; t.ZombieCount <= int64(t.Local.ZombieCount) {
			return nil
		}
		select {
		case <-tick.C:
		case <-h.fs.ctx.Done():
			return context.Cause(h.fs.ctx)
		}
	}
}
