package incremental

import (
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// remoteFile is a table of a RemoteFS as it was opened. It stays valid when the
// table becomes local.
type remoteFile struct {
	table *remoteTable
	pos   int64 // of Read
}

// ReadAt implements vfs.File.
func (f *remoteFile) ReadAt(p []byte, off int64) (int, error) {
	t := f.table
	if !t.local.Load() {
		t.want() // before it looks what is there: see forget
		if err := t.need(off, min(int64(len(p)), t.object.Size-off)); err != nil {
			return 0, err
		}
	}
	return t.ReadAt(p, off)
}

// Read implements vfs.File.
func (f *remoteFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// Prefetch implements vfs.File: the table will be read.
func (f *remoteFile) Prefetch(int64, int64) error {
	f.table.want()
	return nil
}

// Stat implements vfs.File.
func (f *remoteFile) Stat() (vfs.FileInfo, error) {
	return remoteInfo{size: f.table.object.Size}, nil
}

// Close implements vfs.File.
func (f *remoteFile) Close() error { return f.table.release() }

// Fd implements vfs.File.
func (f *remoteFile) Fd() uintptr { return vfs.InvalidFd }

// Write implements vfs.File.
func (f *remoteFile) Write([]byte) (int, error) { return 0, os.ErrPermission }

// WriteAt implements vfs.File.
func (f *remoteFile) WriteAt([]byte, int64) (int, error) { return 0, os.ErrPermission }

// Preallocate implements vfs.File.
func (f *remoteFile) Preallocate(int64, int64) error { return os.ErrPermission }

// Sync implements vfs.File.
func (f *remoteFile) Sync() error { return nil }

// SyncTo implements vfs.File.
func (f *remoteFile) SyncTo(int64) (fullSync bool, err error) { return false, nil }

// SyncData implements vfs.File.
func (f *remoteFile) SyncData() error { return nil }

// remoteInfo describes a table that is not local.
type remoteInfo struct {
	name string
	size int64
}

func (i remoteInfo) Name() string           { return i.name }
func (i remoteInfo) Size() int64            { return i.size }
func (i remoteInfo) Mode() os.FileMode      { return 0o444 }
func (i remoteInfo) ModTime() time.Time     { return time.Time{} }
func (i remoteInfo) IsDir() bool            { return false }
func (i remoteInfo) Sys() any               { return nil }
func (i remoteInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
