package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// The payload of an age file: the content in chunks, each sealed under its
// number and whether it is the last.
const (
	chunkSize = 64 << 10
	overhead  = chacha20poly1305.Overhead
	encChunk  = chunkSize + overhead

	fileKeySize = 16
	nonceSize   = 16
)

// payloadCipher is the cipher of a payload.
func payloadCipher(fileKey, nonce []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, fileKey, nonce, "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive payload key: %w", err)
	}
	return chacha20poly1305.New(key)
}

// chunks is how many there are in content of the given size: one at least.
func chunks(size int64) int64 { return max(1, (size+chunkSize-1)/chunkSize) }

// storedSize is the size of the object that holds content of the given size.
func storedSize(size int64) int64 { return headerSize + size + chunks(size)*overhead }

// contentSize is the inverse of storedSize, and whether there is one.
func contentSize(stored int64) (int64, bool) {
	payload := stored - headerSize
	if payload < overhead {
		return 0, false
	}
	size := payload - (payload+encChunk-1)/encChunk*overhead
	return size, size >= 0 && storedSize(size) == stored
}

// chunkLen is the length of the content in chunk i.
func chunkLen(size, i int64) int { return int(min(chunkSize, size-i*chunkSize)) }

// chunkNonce is never used twice under one key: a payload has a key of its own.
func chunkNonce(size, i int64) [chacha20poly1305.NonceSize]byte {
	var n [chacha20poly1305.NonceSize]byte
	binary.BigEndian.PutUint64(n[3:11], uint64(i))
	if i == chunks(size)-1 {
		n[11] = 1
	}
	return n
}
