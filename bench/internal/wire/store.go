package wire

import (
	"context"
	"io"
	"iter"

	"github.com/ckpt-io/ckpt/objectstore"
)

// Store counts the calls of a store that has no wire, such as a directory:
// one request each, a Delete one for each of its objects.
type Store struct {
	objectstore.Store
	counter counter
}

// NewStore counts the calls of s.
func NewStore(s objectstore.Store) *Store { return &Store{Store: s} }

// Counts returns the calls since the start.
func (s *Store) Counts() Counts { return s.counter.counts() }

// Put implements objectstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	s.counter.requests[Put].Add(1)
	s.counter.in.Add(body.Size())
	return s.Store.Put(ctx, key, body, opts)
}

// Get implements objectstore.Store.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	s.counter.requests[Get].Add(1)
	body, info, err := s.Store.Get(ctx, key, offset, length)
	if err != nil {
		return nil, info, err
	}
	return &countedReader{body, &s.counter}, info, nil
}

// Stat implements objectstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objectstore.Info, error) {
	s.counter.requests[Head].Add(1)
	return s.Store.Stat(ctx, key)
}

// List implements objectstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	s.counter.requests[List].Add(1)
	return s.Store.List(ctx, prefix, after)
}

// Delete implements objectstore.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	s.counter.requests[Delete].Add(int64(len(keys)))
	return s.Store.Delete(ctx, keys...)
}

type countedReader struct {
	io.ReadCloser
	counter *counter
}

func (r *countedReader) Read(buf []byte) (int, error) {
	n, err := r.ReadCloser.Read(buf)
	r.counter.out.Add(int64(n))
	return n, err
}
