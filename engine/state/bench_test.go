package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// benchStore opens a store with keys entries of 14 + 200 bytes in it, all of
// them in one committed checkpoint.
func benchStore(b *testing.B, keys int) *Store {
	s, err := Open(context.Background(), Options{
		Operator: "count", KeyGroups: manifest.KeyGroupRange{Last: 127}, Epoch: 1, NextID: 1,
		Store: objectstore.NewMem(), Dir: filepath.Join(b.TempDir(), "s"),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range keys {
		if err := s.Put(counterKey(i), benchValue(rng)); err != nil {
			b.Fatal(err)
		}
	}
	if _, _, _, err := s.Capture(Trigger{ID: 1}).Wait(context.Background()); err != nil {
		b.Fatal(err)
	}
	return s
}

// benchValue is 200 bytes, half of them text: zstd halves it.
func benchValue(rng *rand.Rand) []byte {
	const text = "the quick brown fox jumps over the lazy dog and runs away from it, as it does in every test of fonts"
	v := append(make([]byte, 0, 200), text[:100]...)
	for range 100 {
		v = append(v, byte(rng.Uint32()))
	}
	return v
}

// BenchmarkCheckpoint changes 5 % of the keys and waits for the checkpoint.
// "uploaded/zstd1" is the bytes of its delta by those of one zstd stream, level
// 1, of the sorted changed keys and values.
func BenchmarkCheckpoint(b *testing.B) {
	for _, keys := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s := benchStore(b, keys)
			rng := rand.New(rand.NewPCG(2, 2))
			var uploaded, changed, floor int64
			id := manifest.ID(1)
			for b.Loop() {
				b.StopTimer()
				var entries []string
				for i := range keys / 20 {
					key, value := counterKey((i*20+rng.IntN(20))%keys), benchValue(rng)
					entries = append(entries, string(key)+string(value))
					if err := s.Put(key, value); err != nil {
						b.Fatal(err)
					}
				}
				slices.Sort(entries)
				floor += zstdSize(b, entries)
				id++
				b.StartTimer()
				_, _, stats, err := s.Capture(Trigger{ID: id, OldestBase: id - 1}).Wait(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				uploaded += stats.NewBytes
				changed += stats.ChangedBytes
			}
			b.ReportMetric(float64(uploaded)/float64(floor), "uploaded/zstd1")
			b.ReportMetric(float64(uploaded)/float64(changed), "uploaded/changed")
		})
	}
}

func zstdSize(b *testing.B, entries []string) int64 {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		if _, err := w.Write([]byte(e)); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return int64(out.Len())
}

// BenchmarkCapture measures the pause of a checkpoint while the background is
// busy with the ones before: 500 writes, then a capture.
func BenchmarkCapture(b *testing.B) {
	for _, keys := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			s := benchStore(b, keys)
			rng := rand.New(rand.NewPCG(2, 2))
			value := benchValue(rng)
			var pauses []time.Duration
			id := manifest.ID(1)
			var before *Pending
			for b.Loop() {
				for range 500 {
					if err := s.Put(counterKey(rng.IntN(keys)), value); err != nil {
						b.Fatal(err)
					}
				}
				id++
				begin := time.Now()
				p := s.Capture(Trigger{ID: id, OldestBase: id - 2})
				pauses = append(pauses, time.Since(begin))
				if before != nil { // at most two are pending
					if _, _, _, err := before.Wait(context.Background()); err != nil {
						b.Fatal(err)
					}
				}
				before = p
			}
			slices.Sort(pauses)
			at := func(q float64) float64 {
				return float64(pauses[int(q*float64(len(pauses)-1))]) / float64(time.Microsecond)
			}
			b.ReportMetric(at(0.5), "p50-µs")
			b.ReportMetric(at(0.99), "p99-µs")
			b.ReportMetric(at(1), "max-µs")
		})
	}
}

// BenchmarkValue reads a counter of one of 50,000 keys and writes it back:
// "overlay" when it was written since the last capture, "database" when it
// only is in Pebble, where one in a hundred keys is written.
func BenchmarkValue(b *testing.B) {
	const keys = 50_000
	for _, where := range []string{"overlay", "database"} {
		b.Run(where, func(b *testing.B) {
			s := benchStore(b, 0)
			v, err := NewValue(s, "count", Int64)
			if err != nil {
				b.Fatal(err)
			}
			encoded := make([]byte, 0, 8*keys)
			for i := range keys {
				encoded = binary.BigEndian.AppendUint64(encoded, uint64(i))
			}
			key := func(i int) error { return s.SetKey(uint16(i%128), encoded[8*i:][:8]) }
			for i := range keys {
				if err := errors.Join(key(i), v.Set(0)); err != nil {
					b.Fatal(err)
				}
			}
			if where == "database" {
				if _, _, _, err := s.Capture(Trigger{ID: 2}).Wait(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i = (i + 7919) % keys
				if err := key(i); err != nil {
					b.Fatal(err)
				}
				n, _, err := v.Get()
				if err != nil {
					b.Fatal(err)
				}
				if where == "overlay" || i%100 == 0 {
					if err := v.Set(n + 1); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
