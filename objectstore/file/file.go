// Package file is an object store in a directory, the embedded default. What
// a write costs on a real disk it pays: an object is durable when Put returns.
//
// An object lies in the file of its key's name. A Put writes a temporary file
// in <root>/.tmp, syncs it and then gives it its name in one step: link(2) for
// IfAbsent, which fails if the name is taken; rename(2) under a lock that also
// holds between processes for the others. So several processes may share a
// directory, and a crash leaves a temporary file, never half an object. The
// file system needs hard links. Reads create nothing.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ckpt-io/ckpt/objectstore"
)

// Options are the settings of a Store.
type Options struct {
	// Create makes Open create the directory if it does not exist.
	Create bool
}

// Store is an object store in a directory. The local clock is its clock.
type Store struct {
	dir  string
	root *os.Root
	lock lock

	mu    sync.Mutex
	known map[string]bool // directories that are known to exist, durably
}

// Open opens the store in a directory. A directory that does not exist is
// [objectstore.ErrNoBucket] unless opts.Create is set, and so is something else
// of that name. Opening an existing
// store writes nothing.
func Open(dir string, opts Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open file store: %w", err)
	}
	if opts.Create {
		if err := createDir(dir); err != nil {
			return nil, fmt.Errorf("create file store: %w", classify(err))
		}
	}
	root, err := os.OpenRoot(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open file store: %w: directory %q does not exist", objectstore.ErrNoBucket, dir)
	case err != nil && isFile(dir):
		return nil, fmt.Errorf("open file store: %w: %q is not a directory", objectstore.ErrNoBucket, dir)
	case err != nil:
		return nil, fmt.Errorf("open file store: %w", classify(err))
	}
	return &Store{dir: dir, root: root, lock: newLock(), known: make(map[string]bool)}, nil
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && !info.IsDir()
}

// Close releases the directory. No call may be under way.
func (s *Store) Close() error {
	return s.root.Close()
}

// Dir is the absolute path of the store's directory.
func (s *Store) Dir() string { return s.dir }

// createDir is os.MkdirAll with durable entries.
func createDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := createDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(func() (*os.File, error) { return os.Open(parent) })
}

// path is the file of a key, relative to the root.
func (s *Store) path(ctx context.Context, key string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("%q: %w", key, err)
	}
	if err := objectstore.ValidKey(key); err != nil {
		return "", err
	}
	if reserved(key) {
		return "", fmt.Errorf("%w %q: %s is the store's own", objectstore.ErrBadKey, key, tmpDir)
	}
	path, err := filepath.Localize(key)
	if err != nil {
		return "", fmt.Errorf("%w %q: not a file name on this system", objectstore.ErrBadKey, key)
	}
	return path, nil
}

// reserved tells the keys that would name our own files.
func reserved(key string) bool { return key == tmpDir || strings.HasPrefix(key, tmpDir+"/") }
