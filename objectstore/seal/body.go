package seal

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ckpt-io/ckpt/objectstore"
)

// keptChunks is how many sealed chunks a Put keeps: 4 MiB. A smaller body is
// sealed once, however often the store reads it.
const keptChunks = 64

var errBodyChanged = errors.New("body changed while it was stored")

// sealedBody is a body as it is stored. Chunks are sealed when they are read,
// in parallel and again when they are read again: nothing is spooled, and a
// body of any size takes keptChunks of memory. All reads give the same bytes;
// sealing other content under the same nonce would break the encryption, and
// so the tag of each chunk is remembered and a body that changed is an error.
type sealedBody struct {
	body   objectstore.Body
	size   int64
	header []byte
	aead   cipher.AEAD

	mu   sync.Mutex
	tags map[int64][overhead]byte
	kept map[int64]*[encChunk]byte
	turn []int64 // the chunks in kept, oldest first
}

func (k *Keys) seal(object string, body objectstore.Body) (*sealedBody, error) {
	size := body.Size()
	header, aead, err := k.keys[0].newHeader(object, size)
	if err != nil {
		return nil, err
	}
	return &sealedBody{
		body: body, size: size, header: header, aead: aead,
		tags: make(map[int64][overhead]byte), kept: make(map[int64]*[encChunk]byte),
	}, nil
}

// Size implements objectstore.Body.
func (b *sealedBody) Size() int64 { return storedSize(b.size) }

// ReadAt implements io.ReaderAt.
func (b *sealedBody) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: negative offset", off)
	}
	for n < len(p) {
		if off >= b.Size() {
			return n, io.EOF
		}
		var m int
		if off < headerSize {
			m = copy(p[n:], b.header[off:])
		} else if m, err = b.readChunk(p[n:], off-headerSize); err != nil {
			return n, err
		}
		n += m
		off += int64(m)
	}
	return n, nil
}

// readChunk copies from the chunk at an offset of the payload to its end.
func (b *sealedBody) readChunk(p []byte, off int64) (int, error) {
	i, skip := off/encChunk, int(off%encChunk)
	full := chunkLen(b.size, i) + overhead
	if skip == 0 && len(p) >= full && b.size > keptChunks*chunkSize {
		return full, b.sealChunk(p[:full], i)
	}
	if n, ok := b.copyKept(p, i, skip); ok {
		return n, nil
	}
	buf := buffers.Get().(*[encChunk]byte)
	if err := b.sealChunk(buf[:full], i); err != nil {
		buffers.Put(buf)
		return 0, err
	}
	n := copy(p, buf[skip:full])
	b.keep(i, buf)
	return n, nil
}

// copyKept copies from a chunk that is kept, which is only touched under the
// lock.
func (b *sealedBody) copyKept(p []byte, i int64, skip int) (int, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	buf := b.kept[i]
	if buf == nil {
		return 0, false
	}
	return copy(p, buf[skip:chunkLen(b.size, i)+overhead]), true
}

// sealChunk fills p, which has the chunk's length, with chunk i.
func (b *sealedBody) sealChunk(p []byte, i int64) error {
	content := p[:len(p)-overhead]
	if n, err := b.body.ReadAt(content, i*chunkSize); n < len(content) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read body at %d: %w", i*chunkSize, err)
	}
	nonce := chunkNonce(b.size, i)
	b.aead.Seal(content[:0], nonce[:], content, nil)
	tag := [overhead]byte(p[len(content):])
	b.mu.Lock()
	defer b.mu.Unlock()
	if before, ok := b.tags[i]; ok && before != tag {
		clear(p)
		return errBodyChanged
	}
	b.tags[i] = tag
	return nil
}

// keep takes over buf, which holds chunk i.
func (b *sealedBody) keep(i int64, buf *[encChunk]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept[i] != nil {
		buffers.Put(buf)
		return
	}
	if len(b.turn) == keptChunks {
		buffers.Put(b.kept[b.turn[0]])
		delete(b.kept, b.turn[0])
		b.turn = b.turn[1:]
	}
	b.kept[i] = buf
	b.turn = append(b.turn, i)
}

// release gives the memory back. Nothing reads the body any more.
func (b *sealedBody) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, buf := range b.kept {
		buffers.Put(buf)
	}
	clear(b.kept)
	b.turn = nil
}
