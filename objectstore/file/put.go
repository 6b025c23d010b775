package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
)

const (
	// tmpDir holds what is being written, and the lock.
	tmpDir    = ".tmp"
	tmpPrefix = "put-"
	copyChunk = 256 << 10
)

// Put implements objectstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	path, err := s.path(ctx, key)
	if err != nil {
		return objectstore.Info{}, fmt.Errorf("put: %w", err)
	}
	info, err := s.put(ctx, path, body, opts)
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody removed a directory that was there.
		s.forgetDirs()
		if info, err = s.put(ctx, path, body, opts); errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: directory %q was removed: %w", objectstore.ErrNoBucket, s.dir, err)
		}
	}
	if err != nil {
		return objectstore.Info{}, fmt.Errorf("put %q: %w", key, classify(err))
	}
	info.Key = key
	return info, nil
}

func (s *Store) put(ctx context.Context, path string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	if err := s.makeDir(tmpDir); err != nil {
		return objectstore.Info{}, err
	}
	tmp := filepath.Join(tmpDir, tmpPrefix+rand.Text())
	defer s.root.Remove(tmp) // gone already after a rename; a leftover is SweepTemp's
	info, err := s.writeTemp(ctx, tmp, body)
	if err != nil {
		return objectstore.Info{}, err
	}
	dir := filepath.Dir(path)
	if err := s.makeDir(dir); err != nil {
		return objectstore.Info{}, err
	}
	if opts.IfAbsent {
		err = s.link(tmp, path)
	} else {
		err = s.replace(ctx, tmp, path, opts.IfMatch)
	}
	if err != nil {
		return objectstore.Info{}, err
	}
	// The object is visible, but a power cut may still take it.
	if err := s.syncDir(dir); err != nil {
		return objectstore.Info{}, fmt.Errorf("%w: sync directory: %w", objectstore.ErrUnknownOutcome, err)
	}
	return info, nil
}

// writeTemp writes the body durably into a new file.
func (s *Store) writeTemp(ctx context.Context, tmp string, body objectstore.Body) (info objectstore.Info, err error) {
	f, err := s.root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o666)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := make([]byte, min(copyChunk, max(1, body.Size())))
	for off := int64(0); off < body.Size(); {
		if err := ctx.Err(); err != nil {
			return info, err
		}
		n, err := body.ReadAt(buf[:min(int64(len(buf)), body.Size()-off)], off)
		if n == 0 {
			return info, fmt.Errorf("read body at %d of %d: %w", off, body.Size(), err)
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return info, err
		}
		off += int64(n)
	}
	if err := f.Sync(); err != nil {
		return info, err
	}
	return describe(f)
}

// link gives the file its name if that is free.
func (s *Store) link(tmp, path string) error {
	err := s.root.Link(tmp, path)
	if err == nil || s.same(tmp, path) {
		return nil // over a network the answer of a link that was done may be an error
	}
	if !errors.Is(err, fs.ErrExist) {
		return outcome("link", err)
	}
	if old, statErr := s.root.Lstat(path); statErr == nil && !old.Mode().IsRegular() {
		return fmt.Errorf("%w: a directory of the store has that name", objectstore.ErrBadKey)
	}
	return fmt.Errorf("%w: it exists", objectstore.ErrPrecondition)
}

func (s *Store) same(a, b string) bool {
	ia, err := s.root.Lstat(a)
	if err != nil {
		return false
	}
	ib, err := s.root.Lstat(b)
	return err == nil && os.SameFile(ia, ib)
}

// replace gives the file its name, whoever had it before, or only the object
// with the given ETag.
func (s *Store) replace(ctx context.Context, tmp, path, ifMatch string) error {
	unlock, err := s.lock.acquire(ctx, s.root)
	if err != nil {
		return err
	}
	defer unlock()
	if ifMatch != "" {
		f, old, err := s.open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: it does not exist", objectstore.ErrPrecondition)
		}
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		if old.ETag != ifMatch {
			return fmt.Errorf("%w: its ETag is %s, not %s", objectstore.ErrPrecondition, old.ETag, ifMatch)
		}
	}
	if err := s.root.Rename(tmp, path); err != nil {
		return outcome("rename", err)
	}
	return nil
}

// makeDir makes a directory of the store with durable entries.
func (s *Store) makeDir(dir string) error {
	if dir == "." {
		return nil
	}
	s.mu.Lock()
	known := s.known[dir]
	s.mu.Unlock()
	if known {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := s.makeDir(parent); err != nil {
		return err
	}
	if err := s.root.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Also if it was there: whoever made it may not have come this far.
	if err := s.syncDir(parent); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[dir] = true
	return nil
}

func (s *Store) forgetDirs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.known)
}

func (s *Store) syncDir(dir string) error {
	return syncDir(func() (*os.File, error) { return s.root.Open(dir) })
}

// SweepTemp removes the temporary files that crashed writers left, those that
// were not written to for at least olderThan, and returns how many they were.
// A writer that is only slow and loses its file so ends with an error and has
// written nothing.
func (s *Store) SweepTemp(olderThan time.Duration) (int, error) {
	entries, err := fs.ReadDir(s.root.FS(), tmpDir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("sweep temporary files: %w", classify(err))
	}
	n := 0
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !isTemp(e) || time.Since(info.ModTime()) < olderThan {
			continue
		}
		switch err := s.root.Remove(filepath.Join(tmpDir, e.Name())); {
		case err == nil:
			n++
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, classify(err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return n, fmt.Errorf("sweep temporary files: %w", err)
	}
	return n, nil
}

func isTemp(e fs.DirEntry) bool {
	return e.Type().IsRegular() && strings.HasPrefix(e.Name(), tmpPrefix)
}
