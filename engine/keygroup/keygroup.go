// Package keygroup says which subtask owns a key: a hash of the encoded key
// gives its key group, and ranges of key groups are assigned to subtasks. How
// state is moved between ranges is left to package incremental.
//
// The number of key groups is an operator's max parallelism, fixed for the
// life of its state. All formulas are those of Apache Flink
// (KeyGroupRangeAssignment), so that a subtask owns one contiguous range and a
// change of parallelism moves whole key groups.
package keygroup

import (
	"fmt"
	"math/bits"

	"github.com/ckpt-io/ckpt/manifest"
)

// MaxParallelism bounds the max parallelism of an operator, and so the number
// of key groups.
const MaxParallelism = 1 << 15

// Of returns the key group of an encoded key, in [0, maxParallelism).
func Of(h Hasher, encodedKey []byte, maxParallelism int) uint16 {
	return uint16(h.Hash(encodedKey) % uint32(maxParallelism))
}

// Check reports whether 0 < parallelism <= maxParallelism <= MaxParallelism.
// The other functions of this package expect it.
func Check(maxParallelism, parallelism int) error {
	switch {
	case maxParallelism < 1 || maxParallelism > MaxParallelism:
		return fmt.Errorf("max parallelism %d: want 1 to %d", maxParallelism, MaxParallelism)
	case parallelism < 1 || parallelism > maxParallelism:
		return fmt.Errorf("parallelism %d: want 1 to the max parallelism, %d", parallelism, maxParallelism)
	}
	return nil
}

// Range returns the key groups of the subtask with the given index.
func Range(maxParallelism, parallelism, index int) manifest.KeyGroupRange {
	first := (index*maxParallelism + parallelism - 1) / parallelism
	last := ((index+1)*maxParallelism - 1) / parallelism
	return manifest.KeyGroupRange{First: uint16(first), Last: uint16(last)}
}

// Subtask returns the index of the subtask that owns a key group.
func Subtask(maxParallelism, parallelism int, group uint16) int {
	return int(group) * parallelism / maxParallelism
}

// DefaultMaxParallelism is the max parallelism of an operator that was given
// none: room to grow to about 1.5 times its first parallelism or to 128.
func DefaultMaxParallelism(parallelism int) int {
	n := parallelism + parallelism/2
	pow2 := 1 << bits.Len(uint(max(n, 1)-1))
	return min(max(pow2, 128), MaxParallelism)
}
