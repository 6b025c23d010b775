package manifest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"github.com/ckpt-io/ckpt/manifest/internal/pb"
)

// maxPack bounds the stored size of a pack, which its reader takes into memory
// whole.
const maxPack = 1 << 30

// packBuilder puts parts together to one pack.
type packBuilder struct {
	zstd *zstd.Encoder
	data []byte // parts without the frame
	buf  []byte
}

// add appends a task's encoding and returns where it is in the stored pack.
func (b *packBuilder) add(body []byte) (offset, size int64, err error) {
	if b.zstd == nil {
		if b.zstd, err = newEncoder(); err != nil {
			return 0, 0, err
		}
	}
	start := len(b.data)
	b.buf = b.zstd.EncodeAll(body, b.buf[:0])
	// As for a whole manifest: no honest part may look like a bomb.
	if n := len(b.buf); n < len(body) && int64(len(body)) <= maxPartBody(n) && checkPartElements(body, maxPartElements(n)) == nil {
		b.data = append(append(b.data, codecZstd), b.buf...)
	} else {
		b.data = append(append(b.data, codecStored), body...)
	}
	return int64(headerSize + start), int64(len(b.data) - start), nil
}

// take returns the stored form of the pack and begins a new one.
func (b *packBuilder) take() []byte {
	out := frame(packMagic, codecStored, b.data)
	b.data = b.data[:0]
	return out
}

// checkPack makes sure that data is the stored form of the pack that is meant.
func checkPack(data []byte, want Object) error {
	if int64(len(data)) != want.Size {
		return fmt.Errorf("has %d bytes, want %d", len(data), want.Size)
	}
	if sum := Digest(sha256.Sum256(data)); sum != want.SHA256 {
		return fmt.Errorf("SHA-256 is %s, want %s", sum, want.SHA256)
	}
	if len(data) < minimumSize || !bytes.HasPrefix(data, []byte(packMagic)) {
		return errors.New("is not a pack of parts")
	}
	codec, _, err := parseFrame(packMagic, data[:len(data)-sha256.Size])
	if err == nil && codec != codecStored {
		err = unknownCodec(codec)
	}
	return err
}

// partDecoder reads parts one after the other. The zero value is ready.
type partDecoder struct {
	zstd *zstd.Decoder
	buf  []byte
}

// decode reads the part at r, which has been cut out of its pack. The task has
// no figures.
func (d *partDecoder) decode(stored []byte, r ref) (*Task, error) {
	body, err := d.body(stored)
	if err != nil {
		return nil, fmt.Errorf("part of subtask %d: %w", r.index, err)
	}
	if sum := Digest(sha256.Sum256(body)); sum != r.digest {
		return nil, fmt.Errorf("part of subtask %d: digest is %s, want %s", r.index, sum, r.digest)
	}
	if err := checkPartElements(body, maxPartElements(len(stored))); err != nil {
		return nil, fmt.Errorf("part of subtask %d: %w", r.index, err)
	}
	var p pb.Task
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, &p); err != nil {
		return nil, fmt.Errorf("part of subtask %d: %w", r.index, err)
	}
	var c decoder
	t := c.task(&p)
	switch {
	case c.err != nil:
		return nil, fmt.Errorf("part of subtask %d: %w", r.index, c.err)
	case t.Index != r.index:
		return nil, fmt.Errorf("part of subtask %d is that of %d", r.index, t.Index)
	case t.Stats != (TaskStats{}):
		return nil, fmt.Errorf("part of subtask %d has figures", r.index)
	}
	return &t, nil
}

// body decompresses a part. The result is valid until the next call.
func (d *partDecoder) body(stored []byte) (_ []byte, err error) {
	if len(stored) == 0 {
		return nil, errors.New("is empty")
	}
	codec, stored := uint16(stored[0]), stored[1:]
	switch codec {
	case codecStored:
		return stored, nil
	case codecZstd:
	default:
		return nil, unknownCodec(codec)
	}
	if d.zstd == nil {
		if d.zstd, err = newDecoder(math.MaxInt32); err != nil { // inflate bounds each part
			return nil, err
		}
	}
	d.buf, err = inflate(d.zstd, d.buf, stored, maxPartBody(len(stored)))
	return d.buf, err
}
