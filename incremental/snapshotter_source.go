package incremental

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// source is where a Snapshotter gets the files of a database from.
type source interface {
	// capture notes the files of the database as it is now. They stay until
	// the release, which the caller calls once.
	capture(db *pebble.DB) (c *BaseCapture, release func() error, err error)
}

func newSource(o SnapshotterOptions) source {
	if fs, ok := o.FS.(*RecordFS); ok {
		return recordedSource{fs}
	}
	fs := NewRecordFS(o.FS)
	return &linkedSource{fs: fs, dir: fs.PathJoin(o.Dir, o.Operator+".snapshot")}
}

// recordedSource is a database that was opened with a RecordFS.
type recordedSource struct{ fs *RecordFS }

func (s recordedSource) capture(db *pebble.DB) (*BaseCapture, func() error, error) {
	c, err := CaptureBase(db, s.fs)
	if err != nil {
		return nil, nil, err
	}
	return c, c.Release, nil
}

// linkedSource is a database on any file system: Pebble links its files into
// a directory. That is made anew at the same path each time. So a table, whose
// number never comes back while the database is open, has the same path in
// all captures, and fs remembers the digest by it.
type linkedSource struct {
	fs  *RecordFS // only its memory: Pebble does not write through it
	dir string
}

func (s *linkedSource) capture(db *pebble.DB) (_ *BaseCapture, release func() error, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("capture base: %w", err)
		}
	}()
	disk := s.fs.Unwrap()
	if err := disk.MkdirAll(s.dir, 0o700); err != nil {
		return nil, nil, err
	}
	lock, err := disk.Lock(disk.PathJoin(s.dir, "LOCK"))
	if err != nil {
		return nil, nil, fmt.Errorf("another snapshot is under way: %w", err)
	}
	copied := disk.PathJoin(s.dir, "db")
	release = func() error { return errors.Join(disk.RemoveAll(copied), lock.Close()) }
	// A process that died may have left one.
	if err = disk.RemoveAll(copied); err == nil {
		err = db.Checkpoint(copied)
	}
	c := &BaseCapture{fs: s.fs, dir: copied}
	if err == nil {
		c.FormatMajorVersion = uint64(db.FormatMajorVersion())
		c.Files, err = s.files(copied)
	}
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	s.forgetAllBut(c.Files)
	return c, release, nil
}

func (s *linkedSource) files(dir string) (files []CapturedFile, err error) {
	names, err := s.fs.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		f := CapturedFile{Name: name}
		path := s.fs.PathJoin(dir, name)
		switch {
		case strings.HasSuffix(name, ".log"):
			continue
		case immutable(name):
			f.path = path
		default:
			if f.content, err = readFile(s.fs, path); err != nil {
				return nil, err
			}
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b CapturedFile) int { return cmp.Compare(a.Name, b.Name) })
	return files, nil
}

// forgetAllBut drops the digests of files that the database has no more.
func (s *linkedSource) forgetAllBut(files []CapturedFile) {
	stay := make(map[string]bool, len(files))
	for _, f := range files {
		stay[s.fs.clean(f.path)] = true
	}
	s.fs.mu.Lock()
	defer s.fs.mu.Unlock()
	maps.DeleteFunc(s.fs.known, func(path string, _ fileDigest) bool { return !stay[path] })
}

// immutable tells the files that Pebble never changes and never renames:
// tables, and blob files with values apart from their keys.
func immutable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// isCatalog tells the files that list a database's remote tables.
func isCatalog(name string) bool {
	return strings.HasPrefix(name, "REMOTE-OBJ-CATALOG") || strings.HasPrefix(name, "marker.remote-obj-catalog")
}

// checkLocal refuses a database of which not all files were captured.
func checkLocal(c *BaseCapture) error {
	for _, f := range c.Files {
		if isCatalog(f.Name) {
			return fmt.Errorf("capture base: %w", ErrRemoteTables)
		}
	}
	return nil
}
