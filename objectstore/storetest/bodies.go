package storetest

import (
	"fmt"
	"io"
	"sync"

	"github.com/ckpt-io/ckpt/objectstore"
)

// middleBody runs a hook once, when its first half has been read and before
// anything of the second is.
type middleBody struct {
	objectstore.Body
	hook func() error
	once sync.Once
	err  error
}

func (b *middleBody) ReadAt(p []byte, off int64) (int, error) {
	half := b.Size() / 2
	end := off + int64(len(p))
	if end <= half {
		return b.Body.ReadAt(p, off)
	}
	n := 0
	if off < half {
		var err error
		if n, err = b.Body.ReadAt(p[:half-off], off); err != nil {
			return n, err
		}
	}
	b.once.Do(func() { b.err = b.hook() })
	if b.err != nil {
		return n, b.err
	}
	m, err := b.Body.ReadAt(p[n:], off+int64(n))
	return n + m, err
}

// middleReader runs a hook when left bytes have been read.
type middleReader struct {
	r    io.Reader
	left int64
	hook func() error
}

func (r *middleReader) Read(p []byte) (int, error) {
	if r.left > 0 {
		n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
		r.left -= int64(n)
		return n, err
	}
	if r.hook != nil {
		hook := r.hook
		r.hook = nil
		if err := hook(); err != nil {
			return 0, err
		}
	}
	return r.r.Read(p)
}

// cutReader ends with an error after left bytes.
type cutReader struct {
	r    io.Reader
	left int64
}

func (r *cutReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, fmt.Errorf("read body: injected: %w", objectstore.ErrUnavailable)
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}

// flipReader inverts the byte at one position.
type flipReader struct {
	r       io.Reader
	pos, at int64
}

func (r *flipReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if i := r.at - r.pos; i >= 0 && i < int64(n) {
		p[i] ^= 0xff
	}
	r.pos += int64(n)
	return n, err
}
