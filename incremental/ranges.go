package incremental

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// ranges is where the bytes of objects come from: n of them from off on. An
// object that is missing or has another size is a *manifest.CorruptError. The
// bytes are not checked: whoever asks for them does that. It may be called
// concurrently.
type ranges func(ctx context.Context, o manifest.Object, off, n int64) (io.ReadCloser, error)

// storeRanges reads from an object store.
func storeRanges(s objectstore.Store) ranges {
	return func(ctx context.Context, o manifest.Object, off, n int64) (io.ReadCloser, error) {
		r, info, err := s.Get(ctx, o.Key, off, n)
		if errors.Is(err, objectstore.ErrNotExist) || damaged(err) {
			return nil, &manifest.CorruptError{Key: o.Key, Err: err}
		}
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", o.Key, err)
		}
		if info.Size != o.Size {
			err := fmt.Errorf("size is %d, want %d", info.Size, o.Size)
			return nil, errors.Join(&manifest.CorruptError{Key: o.Key, Err: err}, r.Close())
		}
		return r, nil
	}
}

// Streams bounds what is fetched in the background at a time, over all
// databases of a process. It may be used concurrently.
type Streams struct{ slots chan struct{} }

// NewStreams allows n at a time, one at least.
func NewStreams(n int) *Streams { return &Streams{make(chan struct{}, max(1, n))} }

func (s *Streams) acquire(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Streams) release() { <-s.slots }
