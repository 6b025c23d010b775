package state

import (
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// BenchmarkFirstRead opens a restored state of 200 MB, of an object store that
// takes 10 ms to answer, and reads one key.
func BenchmarkFirstRead(b *testing.B) {
	objects := objectstore.NewMem()
	keyed := largeState(b, objects)
	store := storetest.NewFaulty(objects, 1, storetest.Rule{Op: storetest.Get, Do: storetest.Delay(10 * time.Millisecond)})
	for _, mode := range []RestoreMode{Eager, Lazy} {
		b.Run(string(mode), func(b *testing.B) {
			caches := NewCaches(64<<20, 1000)
			defer caches.Close()
			rng := rand.New(rand.NewPCG(1, 2))
			var hydrated time.Duration
			for b.Loop() {
				began := time.Now()
				s, err := Open(b.Context(), Options{
					Operator: "count", KeyGroups: keyed.KeyGroups, Epoch: 2, NextID: 100, Restored: keyed,
					Store: store, Dir: filepath.Join(b.TempDir(), "s"), Restore: mode, Caches: caches,
				})
				if err != nil {
					b.Fatal(err)
				}
				if _, ok, err := s.Get(counterKey(rng.IntN(largeKeys))); err != nil || !ok {
					b.Fatal(ok, err)
				}
				b.StopTimer()
				<-s.Hydrated()
				hydrated += time.Since(began)
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(hydrated.Milliseconds())/float64(b.N), "hydrated-ms")
		})
	}
}

const largeKeys = 1_900_000

// largeState is 200 MB of tables and one base that names them.
func largeState(b *testing.B, objects objectstore.Store) *manifest.KeyedState {
	s, err := Open(b.Context(), Options{
		Operator: "count", KeyGroups: manifest.KeyGroupRange{Last: 127}, Epoch: 1, NextID: 1,
		Store: objects, Dir: filepath.Join(b.TempDir(), "s"), OverlayBytes: 256 << 20, Materialize: MaterializePolicy{MaxDeltas: 1},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range largeKeys {
		if err := s.Put(counterKey(i), benchValue(rng)); err != nil {
			b.Fatal(err)
		}
	}
	for id := manifest.ID(1); id < 1000; id++ {
		if id%2 == 1 { // the base is made after a delta, and named without one
			if err := s.Put(counterKey(int(id)), benchValue(rng)); err != nil {
				b.Fatal(err)
			}
		}
		keyed, _, stats, err := s.Capture(Trigger{ID: id, OldestBase: id - 1}).Wait(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if len(keyed.Pieces) > 0 && len(keyed.Deltas) == 0 {
			b.Logf("%d files, %d MB", len(keyed.Pieces[0].Base.Files), stats.FullBytes>>20)
			return keyed
		}
		for busy := true; busy; runtime.Gosched() {
			s.mu.Lock()
			busy = s.base.cancel != nil
			s.mu.Unlock()
		}
	}
	b.Fatal("no base was made")
	return nil
}
