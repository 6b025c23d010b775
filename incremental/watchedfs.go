package incremental

import (
	"errors"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// watchedFS is the RecordFS as one database sees it. It reports what makes the
// database unfit for use, where Pebble would do worse:
//
//   - When the MANIFEST cannot be written, Pebble means to end the process, and
//     is not consistent in memory if it goes on: it panics in the background
//     now and then. So such a write seems to succeed here, and the failure is
//     reported. The MANIFEST of a disposable directory is of no use afterwards.
//   - Of a table that it fails to read, Excise drops all keys and returns no
//     error. So every error of reading is reported.
type watchedFS struct {
	*RecordFS
	failed func(error)
}

func (fs *watchedFS) fail(err error) {
	fs.RecordFS.fail(err)
	fs.failed(err)
}

// Create implements vfs.FS.
func (fs *watchedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.RecordFS.Create(name, c)
	if captured(name) || !isManifest(fs.PathBase(name)) {
		return f, err
	}
	if err != nil {
		fs.fail(err)
		if f, err = vfs.NewMem().Create("lost", c); err != nil {
			return nil, err
		}
	}
	return &manifestFile{f, fs}, nil
}

// isManifest tells a MANIFEST, or the file whose name says which one counts.
func isManifest(base string) bool {
	return strings.HasPrefix(base, "MANIFEST-") || strings.HasPrefix(base, "marker.manifest.")
}

// Open implements vfs.FS.
func (fs *watchedFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.RecordFS.Open(name, opts...)
	if err != nil {
		if errors.Is(err, errAbsent) {
			fs.fail(err)
		}
		return nil, err
	}
	return &watchedFile{f, fs}, nil
}

type manifestFile struct {
	vfs.File
	fs *watchedFS
}

// Write implements vfs.File.
func (f *manifestFile) Write(p []byte) (int, error) {
	if _, err := f.File.Write(p); err != nil {
		f.fs.fail(err)
	}
	return len(p), nil
}

// Close implements vfs.File.
func (f *manifestFile) Close() error {
	if err := f.File.Close(); err != nil {
		f.fs.fail(err)
	}
	return nil
}

type watchedFile struct {
	vfs.File
	fs *watchedFS
}

// Read implements vfs.File.
func (f *watchedFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.check(err)
	return n, err
}

// ReadAt implements vfs.File.
func (f *watchedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.check(err)
	return n, err
}

func (f *watchedFile) check(err error) {
	if err != nil && err != io.EOF {
		f.fs.fail(err)
	}
}
