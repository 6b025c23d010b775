package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"github.com/ckpt-io/ckpt/manifest/internal/pb"
)

// Format is the format version of manifests that this version writes, and the
// newest that it reads. manifest.proto specifies it.
const Format = 1

const (
	magic       = "ckptmfst"
	packMagic   = "ckptpart"
	headerSize  = len(magic) + 2 + 2 + 8
	minimumSize = headerSize + sha256.Size

	codecStored = 0
	codecZstd   = 1
)

// Encode validates m and returns its stored form. Equal manifests give equal
// bytes. It fails with ErrInvalid if m breaks a rule.
func Encode(m *Manifest) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("encode manifest: %w: %w", ErrInvalid, err)
	}
	data, err := encodeProto(toProto(m))
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return data, nil
}

func encodeProto(m *pb.Manifest) ([]byte, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	codec, stored, err := compress(body)
	if err != nil {
		return nil, err
	}
	return frame(magic, codec, stored), nil
}

// Decode reads what Encode wrote and validates it. Its errors match
// ErrCorrupt, or ErrNewerFormat for whole data of a later version; a manifest
// that refers to parts is for DecodeOutline, and ErrParts here. Whatever
// the data says, it takes no more memory than some tens of MiB and a multiple
// of len(data). Strings and bytes of the manifest are its own, not data's.
func Decode(data []byte) (*Manifest, error) {
	o, err := DecodeOutline(data)
	if err != nil {
		return nil, err
	}
	if len(o.packs) > 0 {
		return nil, fmt.Errorf("decode manifest: %w", ErrParts)
	}
	return &o.head, nil
}

// decodeBody reads the protobuf message of a framed manifest.
func decodeBody(data []byte) (*pb.Manifest, error) {
	codec, stored, err := unframe(magic, data)
	if err != nil {
		return nil, err
	}
	body, err := decompress(codec, stored)
	if err != nil {
		return nil, err
	}
	if err := checkElements(body, maxElements(len(stored))); err != nil {
		return nil, err
	}
	p := new(pb.Manifest)
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, p); err != nil {
		return nil, err
	}
	for _, f := range p.GetRequiredFeatures() {
		if !knownFeature(f) {
			return nil, &NewerFormatError{Have: Format, Want: Format, Feature: f}
		}
	}
	return p, nil
}

func frame(magic string, codec uint16, stored []byte) []byte {
	out := make([]byte, 0, minimumSize+len(stored))
	out = append(out, magic...)
	out = binary.BigEndian.AppendUint16(out, Format)
	out = binary.BigEndian.AppendUint16(out, codec)
	out = binary.BigEndian.AppendUint64(out, uint64(len(stored)))
	out = append(out, stored...)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// unframe checks the digest before it believes the version, so that a flipped
// bit is never taken for a newer format.
func unframe(magic string, data []byte) (codec uint16, stored []byte, err error) {
	if len(data) < minimumSize {
		return 0, nil, fmt.Errorf("%d bytes are too few", len(data))
	}
	if !bytes.HasPrefix(data, []byte(magic)) {
		return 0, nil, fmt.Errorf("does not begin with %q", magic)
	}
	content, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if got := sha256.Sum256(content); !bytes.Equal(got[:], sum) {
		return 0, nil, errors.New("digest does not match")
	}
	return parseFrame(magic, content)
}

// parseFrame reads a frame that is known to be what was written, but for the
// digest at its end.
func parseFrame(magic string, content []byte) (codec uint16, stored []byte, err error) {
	head := content[len(magic):headerSize]
	if v := binary.BigEndian.Uint16(head); v > Format {
		return 0, nil, &NewerFormatError{Have: Format, Want: int(v)}
	} else if v == 0 {
		return 0, nil, errors.New("format 0 does not exist")
	}
	stored = content[headerSize:]
	if n := binary.BigEndian.Uint64(head[4:]); n != uint64(len(stored)) {
		return 0, nil, fmt.Errorf("body has %d bytes, its header says %d", len(stored), n)
	}
	return binary.BigEndian.Uint16(head[2:]), stored, nil
}

func compress(body []byte) (codec uint16, stored []byte, err error) {
	enc, err := newEncoder()
	if err != nil {
		return 0, nil, err
	}
	defer enc.Close()
	stored = enc.EncodeAll(body, nil)
	// What compresses so well that a reader would take it for a bomb is
	// stored as it is.
	if int64(len(body)) > maxBody(len(stored)) || checkElements(body, maxElements(len(stored))) != nil {
		return codecStored, body, nil
	}
	return codecZstd, stored, nil
}

// newEncoder returns an encoder whose EncodeAll writes what decompress reads: a
// single segment always declares its length.
func newEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
}

func decompress(codec uint16, stored []byte) ([]byte, error) {
	switch codec {
	case codecStored:
		return stored, nil
	case codecZstd:
	default:
		return nil, unknownCodec(codec)
	}
	limit := maxBody(len(stored))
	dec, err := newDecoder(uint64(limit))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	return inflate(dec, nil, stored, limit)
}

func unknownCodec(codec uint16) error {
	return &NewerFormatError{Have: Format, Want: Format, Feature: fmt.Sprintf("codec %d", codec)}
}

func newDecoder(limit uint64) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(limit))
}

// inflate decompresses stored into the memory of buf, if that is enough. The
// length that the frame declares is checked before anything is allocated for
// it, and the decoder holds the content to it.
func inflate(dec *zstd.Decoder, buf, stored []byte, limit int64) ([]byte, error) {
	var head zstd.Header
	if err := head.Decode(stored); err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if !head.HasFCS || head.FrameContentSize > uint64(limit) {
		return nil, fmt.Errorf("decompress: length %d is above %d or not declared", head.FrameContentSize, limit)
	}
	buf = slices.Grow(buf[:0], int(head.FrameContentSize))
	body, err := dec.DecodeAll(stored, buf)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return body, nil
}
