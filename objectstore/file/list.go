package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
)

// List implements objectstore.Store. ETags are left empty. It reads one
// directory at a time; objects that come or go meanwhile may be seen or not.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		dir, deep := parentOf(prefix)
		if deep && (reserved(dir) || objectstore.ValidKey(dir) != nil) {
			return // no key begins so
		}
		w := walk{store: s, ctx: ctx, prefix: prefix, after: after, yield: yield}
		if _, err := w.dir(dir); err != nil {
			yield(objectstore.Info{}, fmt.Errorf("list %q: %w", prefix, classify(err)))
		}
	}
}

// parentOf is the directory in which all keys with a prefix lie; deep says that
// it is not the root.
func parentOf(prefix string) (dir string, deep bool) {
	i := strings.LastIndexByte(prefix, '/')
	if i < 0 {
		return "", false
	}
	return prefix[:i], true
}

// walk is one listing under way.
type walk struct {
	store         *Store
	ctx           context.Context // of the List call that the walk is part of
	prefix, after string
	yield         func(objectstore.Info, error) bool
}

// dir yields the objects below a directory ("" is the root) and reports
// whether the caller wants more.
func (w *walk) dir(dir string) (more bool, err error) {
	if err := w.ctx.Err(); err != nil {
		return false, err
	}
	entries, err := fs.ReadDir(w.store.root.FS(), nameOf(dir))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	// In the order of full keys a directory stands where its slash sorts.
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	for _, e := range entries {
		key := e.Name()
		if dir != "" {
			key = dir + "/" + key
		}
		if reserved(key) || objectstore.ValidKey(key) != nil {
			continue
		}
		if e.IsDir() {
			more, err = w.subdir(key)
		} else {
			more, err = w.file(key, e)
		}
		if err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// subdir descends where keys in the range can be.
func (w *walk) subdir(key string) (more bool, err error) {
	below := key + "/"
	if !strings.HasPrefix(below, w.prefix) && !strings.HasPrefix(w.prefix, below) {
		return true, nil
	}
	if below <= w.after && !strings.HasPrefix(w.after, below) {
		return true, nil
	}
	return w.dir(key)
}

func (w *walk) file(key string, e fs.DirEntry) (more bool, err error) {
	if !strings.HasPrefix(key, w.prefix) || key <= w.after || !e.Type().IsRegular() {
		return true, nil
	}
	st, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // deleted meanwhile
	}
	if err != nil {
		return false, err
	}
	return w.yield(objectstore.Info{Key: key, Size: st.Size(), LastModified: st.ModTime(), Date: time.Now()}, nil), nil
}

func sortName(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

// nameOf is a directory's name in the root's FS.
func nameOf(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}

// Delete implements objectstore.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	paths := make([]string, len(keys))
	for i, key := range keys {
		var err error
		if paths[i], err = s.path(ctx, key); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	failed := make(map[string]error)
	for i, path := range paths {
		if err := s.remove(ctx, path); err != nil {
			failed[keys[i]] = fmt.Errorf("delete %q: %w", keys[i], classify(err))
		}
	}
	if len(failed) > 0 {
		return &objectstore.DeleteError{Failed: failed}
	}
	return nil
}

// remove removes an object under the lock, so that it does not vanish between
// another process' check of its ETag and the rename.
func (s *Store) remove(ctx context.Context, path string) error {
	st, err := s.root.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !st.Mode().IsRegular() {
		return nil
	}
	if err != nil {
		return err
	}
	unlock, err := s.lock.acquire(ctx, s.root)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.root.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
