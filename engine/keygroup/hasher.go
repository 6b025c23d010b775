package keygroup

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// Hasher is a function from encoded keys to hashes. Which one an operator uses
// stands in every manifest: the same name means the same function for ever.
type Hasher interface {
	// Name is the stored name of the function.
	Name() string
	// Hash returns the hash of an encoded key. It may be called by several
	// tasks at once.
	Hash(encodedKey []byte) uint32
}

var (
	// Default is MurmurHash3 (x86, 32 bits, seed 0) of the encoded key,
	// whatever its type.
	Default Hasher = murmur3{}
	// FlinkString places string keys (their UTF-8 bytes) where Flink places a
	// Java String.
	FlinkString Hasher = flinkString{}
	// FlinkInt32 places int32 keys, encoded by state.Int32, where Flink places
	// a Java Integer. Keys of another length are placed as by Default.
	FlinkInt32 Hasher = flinkInt32{}
	// FlinkInt64 places int64 keys, encoded by state.Int64, where Flink places
	// a Java Long. Keys of another length are placed as by Default.
	FlinkInt64 Hasher = flinkInt64{}
)

// ByName returns the hasher that a manifest names.
func ByName(name string) (Hasher, bool) {
	for _, h := range []Hasher{Default, FlinkString, FlinkInt32, FlinkInt64} {
		if h.Name() == name {
			return h, true
		}
	}
	return nil, false
}

const (
	murmurC1 = 0xcc9e2d51
	murmurC2 = 0x1b873593
)

type murmur3 struct{}

func (murmur3) Name() string { return "murmur3-32/1" }

func (murmur3) Hash(key []byte) uint32 {
	var h uint32
	rest := key
	for ; len(rest) >= 4; rest = rest[4:] {
		h = mixBlock(h, binary.LittleEndian.Uint32(rest))
	}
	if len(rest) > 0 {
		var k uint32
		for i, b := range rest {
			k |= uint32(b) << (8 * i)
		}
		h ^= scramble(k)
	}
	return finish(h ^ uint32(len(key)))
}

func scramble(k uint32) uint32 { return bits.RotateLeft32(k*murmurC1, 15) * murmurC2 }

func mixBlock(h, k uint32) uint32 { return bits.RotateLeft32(h^scramble(k), 13)*5 + 0xe6546b64 }

func finish(h uint32) uint32 {
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}

// flinkMurmur is MathUtils.murmurHash: one block of MurmurHash3, made
// non-negative.
func flinkMurmur(code int32) uint32 {
	h := int32(finish(mixBlock(0, uint32(code)) ^ 4))
	switch {
	case h >= 0:
		return uint32(h)
	case h == -1<<31:
		return 0
	}
	return uint32(-h)
}

type flinkString struct{}

func (flinkString) Name() string { return "flink-string/1" }

func (flinkString) Hash(key []byte) uint32 { return flinkMurmur(javaStringHash(key)) }

// javaStringHash is String.hashCode: over UTF-16 units, a character outside
// the basic plane counting as its two surrogates.
func javaStringHash(utf8Bytes []byte) int32 {
	var h int32
	for len(utf8Bytes) > 0 {
		r, n := utf8.DecodeRune(utf8Bytes)
		utf8Bytes = utf8Bytes[n:]
		if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			h = 31*(31*h+hi) + lo
		} else {
			h = 31*h + r
		}
	}
	return h
}

type flinkInt32 struct{}

func (flinkInt32) Name() string { return "flink-int32/1" }

func (flinkInt32) Hash(key []byte) uint32 {
	if len(key) != 4 {
		return Default.Hash(key)
	}
	return flinkMurmur(int32(binary.BigEndian.Uint32(key) ^ 1<<31))
}

type flinkInt64 struct{}

func (flinkInt64) Name() string { return "flink-int64/1" }

func (flinkInt64) Hash(key []byte) uint32 {
	if len(key) != 8 {
		return Default.Hash(key)
	}
	v := binary.BigEndian.Uint64(key) ^ 1<<63
	return flinkMurmur(int32(uint32(v) ^ uint32(v>>32)))
}
