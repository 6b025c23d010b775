package state

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Codec turns values of type T into bytes and back. What it writes is a
// stored format: once a job has state, a codec's bytes and its name never
// change their meaning. A codec may be used by several tasks at once.
type Codec[T any] interface {
	// Append appends the encoded v to dst and returns the extended slice. Equal
	// values of a key type encode to equal bytes.
	Append(dst []byte, v T) ([]byte, error)
	// Decode reads what Append wrote. The value it returns does not refer to
	// src, which is overwritten by the next call.
	Decode(src []byte) (T, error)
	// Name names the format and its version. It is stored beside the state,
	// so that reading it with another codec is refused.
	Name() string
}

// The codecs of simple types. Those of integers keep the order of the values
// in the order of the bytes.
var (
	// String stores the bytes of a string as they are.
	String Codec[string] = stringCodec{}
	// Bytes stores a byte slice as it is. A nil slice comes back empty.
	Bytes Codec[[]byte] = bytesCodec{}
	// Int64 stores eight bytes, big-endian, with the sign bit flipped.
	Int64 Codec[int64] = int64Codec{}
	// Int32 stores four bytes, big-endian, with the sign bit flipped.
	Int32 Codec[int32] = int32Codec{}
	// Uint64 stores eight bytes, big-endian.
	Uint64 Codec[uint64] = uint64Codec{}
)

var errLength = errors.New("wrong length")

type stringCodec struct{}

func (stringCodec) Append(dst []byte, v string) ([]byte, error) { return append(dst, v...), nil }
func (stringCodec) Decode(src []byte) (string, error)           { return string(src), nil }
func (stringCodec) Name() string                                { return "string/1" }

type bytesCodec struct{}

func (bytesCodec) Append(dst, v []byte) ([]byte, error) { return append(dst, v...), nil }
func (bytesCodec) Decode(src []byte) ([]byte, error)    { return append([]byte{}, src...), nil }
func (bytesCodec) Name() string                         { return "bytes/1" }

type int64Codec struct{}

func (int64Codec) Append(dst []byte, v int64) ([]byte, error) {
	return binary.BigEndian.AppendUint64(dst, uint64(v)^(1<<63)), nil
}

func (int64Codec) Decode(src []byte) (int64, error) {
	if len(src) != 8 {
		return 0, fmt.Errorf("decode int64: %d bytes: %w", len(src), errLength)
	}
	return int64(binary.BigEndian.Uint64(src) ^ (1 << 63)), nil
}

func (int64Codec) Name() string { return "int64/1" }

type int32Codec struct{}

func (int32Codec) Append(dst []byte, v int32) ([]byte, error) {
	return binary.BigEndian.AppendUint32(dst, uint32(v)^(1<<31)), nil
}

func (int32Codec) Decode(src []byte) (int32, error) {
	if len(src) != 4 {
		return 0, fmt.Errorf("decode int32: %d bytes: %w", len(src), errLength)
	}
	return int32(binary.BigEndian.Uint32(src) ^ (1 << 31)), nil
}

func (int32Codec) Name() string { return "int32/1" }

type uint64Codec struct{}

func (uint64Codec) Append(dst []byte, v uint64) ([]byte, error) {
	return binary.BigEndian.AppendUint64(dst, v), nil
}

func (uint64Codec) Decode(src []byte) (uint64, error) {
	if len(src) != 8 {
		return 0, fmt.Errorf("decode uint64: %d bytes: %w", len(src), errLength)
	}
	return binary.BigEndian.Uint64(src), nil
}

func (uint64Codec) Name() string { return "uint64/1" }

// JSON stores values as encoding/json writes them. It is the codec for a first
// version: readable, tolerant of added fields, and slow. It is not for keys
// whose type holds a map with unordered content of its own or an interface.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

func (jsonCodec[T]) Append(dst []byte, v T) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return dst, fmt.Errorf("encode %T: %w", v, err)
	}
	return append(slices.Grow(dst, len(b)), b...), nil
}

func (jsonCodec[T]) Decode(src []byte) (T, error) {
	var v T
	if err := json.Unmarshal(src, &v); err != nil {
		return v, fmt.Errorf("decode %T: %w", v, err)
	}
	return v, nil
}

func (jsonCodec[T]) Name() string { return "json/1" }
