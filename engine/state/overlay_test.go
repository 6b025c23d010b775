package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// model is what an overlay should know: a nil value is a tombstone.
type model map[string][]byte

func (m model) keys(prefix string) []string {
	var out []string
	for k := range m {
		if len(k) >= len(prefix) && k[:len(prefix)] == prefix {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// randomKey draws from few enough keys that most writes meet an older one.
// Many are prefixes of one another, or differ by trailing zeros only.
func randomKey(rng *rand.Rand) []byte {
	key := binary.BigEndian.AppendUint16(nil, uint16(rng.IntN(3)))
	key = append(key, "\x05count"...)
	for range rng.IntN(12) {
		key = append(key, byte(rng.IntN(2)))
	}
	return key
}

func randomValue(rng *rand.Rand) []byte {
	n := rng.IntN(24)
	if rng.IntN(500) == 0 {
		n = rng.IntN(2 * chunkBytes)
	}
	v := make([]byte, n)
	for i := range v {
		v[i] = byte(rng.Uint32())
	}
	return v
}

func checkOverlay(t *testing.T, o *overlay, m model) {
	t.Helper()
	var payload int64
	for k, want := range m {
		payload += int64(len(k) + len(want))
		got, deleted, known := o.get([]byte(k))
		if !known || deleted != (want == nil) || !bytes.Equal(got, want) {
			t.Fatalf("get %x = %d bytes, deleted %v, known %v; want %d bytes", k, len(got), deleted, known, len(want))
		}
	}
	if o.count != len(m) || o.payload != payload {
		t.Fatalf("%d keys of %d bytes, want %d of %d", o.count, o.payload, len(m), payload)
	}
}

func TestOverlayIsAMap(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		o, m := newOverlay(), model{}
		for range 3000 {
			key := randomKey(rng)
			switch rng.IntN(4) {
			case 0:
				o.set(key, nil, true)
				m[string(key)] = nil
			default:
				v := randomValue(rng)
				o.set(key, v, false)
				m[string(key)] = v
			}
			if k := randomKey(rng); m[string(k)] == nil {
				_, has := m[string(k)]
				if _, deleted, known := o.get(k); known != has || deleted != has {
					t.Fatalf("seed %d: get %x: known %v, deleted %v; want %v", seed, k, known, deleted, has)
				}
			}
			if rng.IntN(300) == 0 {
				checkRuns(t, o, m)
			}
		}
		checkOverlay(t, o, m)
		var got []string
		for _, r := range o.frozenOrder() {
			got = append(got, string(recordKey(o.arena.record(r))))
		}
		if want := m.keys(""); !slices.Equal(got, want) {
			t.Fatalf("seed %d: order of %d keys is wrong, want %d", seed, len(got), len(want))
		}
	}
}

// checkRuns compares the ordered index of an overlay still written to.
func checkRuns(t *testing.T, o *overlay, m model) {
	t.Helper()
	for _, prefix := range []string{"", "\x00\x01", "\x00\x01\x05count\x01"} {
		var got []string
		for _, run := range o.orderedRuns() {
			for _, r := range seek(&o.arena, run, []byte(prefix)) {
				rec := o.arena.follow(r)
				key := string(recordKey(rec))
				if v, live := recordValue(rec); live != (m[key] != nil) || !bytes.Equal(v, m[key]) {
					t.Fatalf("index gives %x an old value", key)
				}
				got = append(got, key)
			}
			if !slices.IsSortedFunc(run, func(x, y ref) int {
				return bytes.Compare(recordKey(o.arena.record(x)), recordKey(o.arena.record(y)))
			}) {
				t.Fatal("a run is not sorted")
			}
		}
		slices.Sort(got)
		if want := m.keys(prefix); !slices.Equal(got, want) {
			t.Fatalf("index of prefix %x holds %d keys, want %d", prefix, len(got), len(want))
		}
	}
	if n := len(o.index.runs); n > 20 {
		t.Fatalf("%d runs for %d keys", n, o.count)
	}
}

func TestOverlayGrowsValuesInPlace(t *testing.T) {
	o := newOverlay()
	key := []byte("\x00\x00\x01ak")
	for i := range 1000 {
		o.set(key, binary.BigEndian.AppendUint64(nil, uint64(i)), false)
		o.set(key, nil, true)
	}
	if o.arena.size != firstChunk {
		t.Errorf("arena took %d bytes for one counter", o.arena.size)
	}
}

func TestOverlayAccountsForItsMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	o := newOverlay()
	for i := range 200_000 {
		o.set(counterKey(i), make([]byte, 100), false)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	heap := int64(after.HeapAlloc - before.HeapAlloc)
	if got := o.bytes(); got < heap*9/10 || got > heap*11/10 {
		t.Errorf("accounts for %d bytes, heap grew by %d", got, heap)
	}
	runtime.KeepAlive(o)
}

// counterKey has the 14 bytes of a key that the figures of ARCHITECTURE.md are
// about: key group, state name and number.
func counterKey(i int) []byte {
	key := binary.BigEndian.AppendUint16(nil, uint16(uint32(i)*2654435761>>25))
	key = append(key, 1, 'n')
	key = append(key, 0, 0)
	return binary.BigEndian.AppendUint64(key, uint64(i))
}

// One operation reads a counter, or a record of 200 bytes, and writes it back.
func BenchmarkOverlayReadModifyWrite(b *testing.B) {
	for _, keys := range []int{50_000, 1_000_000} {
		for _, size := range []int{8, 200} {
			b.Run(fmt.Sprintf("keys=%d/value=%d", keys, size), func(b *testing.B) {
				o := newOverlay()
				value := make([]byte, size)
				all := make([]byte, 0, 14*keys)
				for i := range keys {
					o.set(counterKey(i), value, false)
				}
				for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(keys) {
					all = append(all, counterKey(i)...)
				}
				i := 0
				for b.Loop() {
					key := all[14*i:][:14]
					v, _, _ := o.get(key)
					n := copy(value, v)
					value[0]++
					o.set(key, value[:n], false)
					if i++; i == keys {
						i = 0
					}
				}
				b.ReportMetric(float64(o.bytes())/float64(keys), "B/key")
			})
		}
	}
}

func BenchmarkOverlaySort(b *testing.B) {
	for _, keys := range []int{50_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			o := newOverlay()
			for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(keys) {
				o.set(counterKey(i), make([]byte, 200), false)
			}
			refs := slices.Collect(o.arena.all)
			work := make([]ref, len(refs))
			for b.Loop() {
				copy(work, refs)
				sortRefs(&o.arena, work)
			}
		})
	}
}
