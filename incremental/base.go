package incremental

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// BaseCapture is the files of a database at one moment, held until Release.
type BaseCapture struct {
	FormatMajorVersion uint64
	Files              []CapturedFile // ordered by Name

	fs      *RecordFS
	dir     string
	release sync.Once
}

// CapturedFile is one file of a capture. A table is in the database's
// directory; anything else was copied to memory.
type CapturedFile struct {
	Name string

	path    string // of a table
	content []byte // of any other file
}

// CaptureBase notes which files make up a database as it is now. It takes
// milliseconds, never holds writers back, and copies no table. fs is the one
// the database was opened with. What is in memtables is not captured, nor is
// the WAL. The caller must Release the capture. A database that still reads
// parts of other states' tables is ErrRemoteTables: no base can name them.
func CaptureBase(db *pebble.DB, fs *RecordFS) (*BaseCapture, error) {
	if fs.composed() {
		return nil, fmt.Errorf("capture base: %w", ErrRemoteTables)
	}
	dir, err := fs.begin()
	if err != nil {
		return nil, fmt.Errorf("capture base: %w", err)
	}
	c := &BaseCapture{fs: fs, dir: dir}
	if err := c.fill(db); err != nil {
		return nil, errors.Join(fmt.Errorf("capture base: %w", err), c.Release())
	}
	return c, nil
}

func (c *BaseCapture) fill(db *pebble.DB) error {
	// Pebble writes the version of this moment to the copy; ours may be read
	// later, for it only rises.
	if err := db.Checkpoint(c.dir); err != nil {
		return err
	}
	if err := c.fs.failed(); err != nil {
		return fmt.Errorf("database has failed: %w", err)
	}
	c.FormatMajorVersion = uint64(db.FormatMajorVersion())
	for _, l := range c.fs.linked(c.dir) {
		c.Files = append(c.Files, CapturedFile{Name: l.name, path: l.path})
	}
	names, err := c.fs.List(c.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".log") || isCatalog(name) && c.fs.remote != nil {
			continue // and no table is in the catalog of remote ones
		}
		content, err := readFile(c.fs, c.fs.PathJoin(c.dir, name))
		if err != nil {
			return err
		}
		c.Files = append(c.Files, CapturedFile{Name: name, content: content})
	}
	slices.SortFunc(c.Files, func(a, b CapturedFile) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

func readFile(fs vfs.FS, path string) (content []byte, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	content = make([]byte, info.Size())
	if len(content) > 0 {
		_, err = f.ReadAt(content, 0)
	}
	return content, err
}

// Release lets go of the captured files. Only the first call does anything.
func (c *BaseCapture) Release() (err error) {
	c.release.Do(func() { err = c.fs.release(c.dir) })
	return err
}

// digest gives the size and digest of a table that is open; the latter is
// computed once for all captures, and with it, if they are asked for, those of
// the table's segments.
func (c *BaseCapture) digest(path string, table vfs.File, segments bool) (fileDigest, error) {
	if d, ok := c.fs.digest(path); ok {
		return d, nil
	}
	info, err := table.Stat()
	if err != nil {
		return fileDigest{}, err
	}
	d, err := digestFile(table, info.Size(), segments)
	if err == nil {
		c.fs.remember(path, d)
	}
	return d, err
}
