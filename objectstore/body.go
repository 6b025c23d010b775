package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Bytes is a Body that reads b, which must not change until the Put returns.
func Bytes(b []byte) Body { return bytes.NewReader(b) }

// FileBody is a Body that reads the first size bytes of r, an open file as a
// rule. Closing r is the caller's, after the Put.
func FileBody(r io.ReaderAt, size int64) Body { return io.NewSectionReader(r, 0, size) }

// ErrTooLarge is ReadAll's refusal of an object above its limit.
var ErrTooLarge = errors.New("object is larger than expected")

// ReadAll reads a whole object of at most limit bytes. A larger one is
// refused with [ErrTooLarge] before anything is allocated for it.
func ReadAll(ctx context.Context, s Store, key string, limit int64) ([]byte, Info, error) {
	r, info, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, Info{}, err
	}
	defer r.Close()
	if info.Size > limit {
		return nil, info, fmt.Errorf("read %q: %w: %d bytes, limit %d", key, ErrTooLarge, info.Size, limit)
	}
	b := make([]byte, info.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: body is shorter than its stated %d bytes", ErrUnavailable, info.Size)
		}
		return nil, info, fmt.Errorf("read %q: %w", key, err)
	}
	return b, info, nil
}
