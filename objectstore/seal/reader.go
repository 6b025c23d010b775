package seal

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ckpt-io/ckpt/objectstore"
)

var buffers = sync.Pool{New: func() any { return new([encChunk]byte) }}

// reader opens the chunks of a range, one after the other. It never returns a
// byte of a chunk that it has not authenticated.
type reader struct {
	src    io.ReadCloser // positioned at the beginning of chunk next
	object *opened
	next   int64 // chunk
	skip   int   // content of it that comes before the range
	left   int64 // content of the range that is not in unread
	buf    *[encChunk]byte
	unread []byte // in buf
	err    error
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.unread) == 0 {
		if r.err == nil {
			r.err = r.fill()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}

// fill opens the next chunk.
func (r *reader) fill() error {
	if r.left == 0 {
		return io.EOF
	}
	if r.buf == nil {
		r.buf = buffers.Get().(*[encChunk]byte)
	}
	size := r.object.size
	sealed := r.buf[:chunkLen(size, r.next)+overhead]
	if _, err := io.ReadFull(r.src, sealed); err != nil {
		return cut(err)
	}
	nonce := chunkNonce(size, r.next)
	content, err := r.object.aead.Open(sealed[:0], nonce[:], sealed, nil)
	if err != nil {
		return fmt.Errorf("%w: its chunk %d does not authenticate", objectstore.ErrDamaged, r.next)
	}
	content = content[r.skip:]
	content = content[:min(int64(len(content)), r.left)]
	r.unread, r.skip = content, 0
	r.left -= int64(len(content))
	r.next++
	return nil
}

// cut is the error of a body that ended before its stated size.
func cut(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: body is shorter than its stated size", objectstore.ErrUnavailable)
	}
	return err
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.buf != nil {
		buffers.Put(r.buf)
		r.buf, r.unread = nil, nil
	}
	if r.err == nil {
		r.err = errors.New("read of a closed body")
	}
	return r.src.Close()
}
