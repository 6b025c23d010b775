package load

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/ckpt-io/ckpt/engine/keygroup"
)

// Sizes of an entry.
const (
	KeyBytes   = 14
	ValueBytes = 200
	EntryBytes = KeyBytes + ValueBytes
)

// groups is the number of key groups, the max parallelism.
const groups = 128

// Keys is how many entries a state of so many bytes has.
func Keys(stateBytes int64) int { return int(stateBytes / EntryBytes) }

// groupOf deals keys out over the key groups evenly.
func groupOf(i int) uint16 { return uint16(uint32(i) * 2654435761 >> 25) }

// Key appends the key of entry i: its group, the state's name, a number.
func Key(dst []byte, i int) []byte {
	dst = binary.BigEndian.AppendUint16(dst, groupOf(i))
	dst = append(dst, 1, 'v', 0, 0)
	return binary.BigEndian.AppendUint64(dst, uint64(i))
}

const text = "the quick brown fox jumps over the lazy dog and runs away from it, as it does in every test of fonts"

// Values draws values of ValueBytes, half of them text: zstd halves them.
type Values struct {
	rng *rand.Rand
	buf []byte
}

// NewValues draws the same values for the same seed.
func NewValues(seed uint64) *Values {
	return &Values{rng: rand.New(rand.NewPCG(seed, 7)), buf: append(make([]byte, 0, ValueBytes+8), text[:ValueBytes/2]...)}
}

// Next returns a value, which is valid until the next one is drawn.
func (v *Values) Next() []byte {
	b := v.buf[:ValueBytes/2]
	for len(b) < ValueBytes {
		b = binary.LittleEndian.AppendUint64(b, v.rng.Uint64())
	}
	return b[:ValueBytes]
}

// Deal returns the entries of each of a number of tasks, in the order of their
// keys.
func Deal(keys, tasks int) [][]int {
	out := make([][]int, tasks)
	for i := range keys {
		t := keygroup.Subtask(groups, tasks, groupOf(i))
		out[t] = append(out[t], i)
	}
	for _, own := range out {
		slices.SortFunc(own, func(a, b int) int {
			if g, h := groupOf(a), groupOf(b); g != h {
				return int(g) - int(h)
			}
			return a - b
		})
	}
	return out
}

// Putter is a state to write to: a task's, or a peer's.
type Putter interface {
	Put(key, value []byte) error
}

// Fill writes each of the entries once, in order.
func Fill(p Putter, own []int, values *Values) error {
	key := make([]byte, 0, KeyBytes)
	for _, i := range own {
		if err := p.Put(Key(key[:0], i), values.Next()); err != nil {
			return err
		}
	}
	return nil
}

// Change overwrites so many different entries, chosen at random.
func Change(p Putter, own []int, n int, rng *rand.Rand, values *Values) error {
	key := make([]byte, 0, KeyBytes)
	for _, at := range sample(len(own), min(n, len(own)), rng) {
		if err := p.Put(Key(key[:0], own[at]), values.Next()); err != nil {
			return err
		}
	}
	return nil
}

// sample draws n different numbers below max, in random order: a walk over all
// of them by a random step that has no divisor in common with max.
func sample(max, n int, rng *rand.Rand) []int {
	out := make([]int, n)
	if n == 0 {
		return out
	}
	at, step := rng.IntN(max), 1+rng.IntN(max)
	for gcd(step, max) != 1 {
		step = 1 + rng.IntN(max)
	}
	for i := range out {
		// Shuffled in blocks, so that the step does not show as an order.
		out[i] = at
		at = (at + step) % max
	}
	rng.Shuffle(n, func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// sameValue reports whether a stored value is one of ours.
func sameValue(v []byte) bool {
	return len(v) == ValueBytes && bytes.HasPrefix(v, []byte(text[:ValueBytes/2]))
}
