package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
)

// hashLimit is the largest object whose ETag is a hash of its content. HEAD
// and whatever else is replaced by ETag is far smaller; hashing more would
// make a Stat of the large ones as dear as reading them.
const hashLimit = 1 << 20

// Get implements objectstore.Store.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	f, info, err := s.find(ctx, key)
	if err != nil {
		return nil, objectstore.Info{}, fmt.Errorf("get: %w", err)
	}
	if offset < 0 {
		return nil, objectstore.Info{}, errors.Join(fmt.Errorf("get %q: negative offset %d", key, offset), f.Close())
	}
	n := max(0, info.Size-offset)
	if length >= 0 {
		n = min(n, length)
	}
	return &exactReader{f: f, r: io.NewSectionReader(f, offset, n), left: n}, info, nil
}

// Stat implements objectstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objectstore.Info, error) {
	f, info, err := s.find(ctx, key)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return objectstore.Info{}, fmt.Errorf("stat: %w", err)
	}
	return info, nil
}

func (s *Store) find(ctx context.Context, key string) (*os.File, objectstore.Info, error) {
	path, err := s.path(ctx, key)
	if err != nil {
		return nil, objectstore.Info{}, err
	}
	f, info, err := s.open(path)
	if err != nil {
		return nil, objectstore.Info{}, fmt.Errorf("%q: %w", key, classify(err))
	}
	info.Key = key
	return f, info, nil
}

// open opens an object and describes it. What is not a regular file, symbolic
// links included, does not exist.
func (s *Store) open(path string) (*os.File, objectstore.Info, error) {
	st, err := s.root.Lstat(path)
	if errors.Is(err, syscall.ENOTDIR) || err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, objectstore.Info{}, err
	}
	f, err := s.root.Open(path)
	if err != nil {
		return nil, objectstore.Info{}, err
	}
	info, err := describe(f)
	if err != nil {
		return nil, objectstore.Info{}, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// describe fills an Info but for its key. A file's content never changes once
// it has its name, so the hash and the rest belong together.
func describe(f *os.File) (objectstore.Info, error) {
	st, err := f.Stat()
	if err != nil {
		return objectstore.Info{}, err
	}
	info := objectstore.Info{Size: st.Size(), LastModified: st.ModTime(), Date: time.Now()}
	if info.Size > hashLimit {
		info.ETag = fmt.Sprintf("%d-%d", info.Size, st.ModTime().UnixNano())
		return info, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, info.Size)); err != nil {
		return objectstore.Info{}, err
	}
	info.ETag = hex.EncodeToString(h.Sum(nil)[:16])
	return info, nil
}

// exactReader turns an end before the expected one into an error: somebody
// truncated the file while it was read.
type exactReader struct {
	f    *os.File
	r    io.Reader
	left int64
}

func (r *exactReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = fmt.Errorf("read %q: %w: the file became shorter", r.f.Name(), objectstore.ErrUnavailable)
	}
	return n, err
}

func (r *exactReader) Close() error { return r.f.Close() }
