package state

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// The random life of a store that is restored from local copies: what it reads
// and reports is as if there were none.
func TestStoreWithLocalCopiesIsAMap(t *testing.T) {
	var used int64
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 68))
		opts := testOptions(t)
		opts.Materialize = MaterializePolicy{MaxDeltas: 1 + rng.IntN(6)}
		opts.Restore = []RestoreMode{Eager, Lazy}[seed%2]
		opts.Local = incremental.NewLocalObjects(filepath.Join(t.TempDir(), "objects"), incremental.LocalOptions{MaxBytes: 1 << 20})
		if err := opts.Local.Retain(slices.Values[[]manifest.Object](nil)); err != nil {
			t.Fatal(err)
		}
		j := newJob(t, opts)
		j.onCommit = func(c *checkpoint) { j.store.Completed(c.id) }
		j.onStart = func() { used += j.store.RestoreStats().LocalObjects }
		j.randomLife(rng)
	}
	if used == 0 {
		t.Error("no copy was used")
	}
}

// BenchmarkRecovery opens a state of 100,000 keys, 60 deltas, from a store that
// takes 10 ms to answer, and from copies on this machine. "fetch-ms" is the part
// of it until all objects are there and compared.
func BenchmarkRecovery(b *testing.B) {
	for _, from := range []string{"store", "local"} {
		b.Run(from, func(b *testing.B) { benchRecovery(b, from == "local") })
	}
}

func benchRecovery(b *testing.B, local bool) {
	objects := objectstore.NewMem()
	dir := b.TempDir()
	opts := Options{
		Operator: "count", KeyGroups: manifest.KeyGroupRange{Last: 127}, Epoch: 1, NextID: 1, Store: objects,
		Dir: filepath.Join(dir, "first"), Materialize: MaterializePolicy{MaxDeltas: -1, MaxReads: -1},
	}
	if local {
		opts.Local = incremental.NewLocalObjects(filepath.Join(dir, "objects"), incremental.LocalOptions{})
		if err := opts.Local.Retain(slices.Values[[]manifest.Object](nil)); err != nil {
			b.Fatal(err)
		}
	}
	opts.Restored = benchCheckpoints(b, opts)
	opts.Store = storetest.NewFaulty(objects, 1, storetest.Rule{Op: storetest.Get, Do: storetest.Delay(10 * time.Millisecond)})
	var stats incremental.RestoreStats
	var fetch time.Duration
	n := 0
	for b.Loop() {
		n++
		o := opts
		o.Epoch, o.NextID, o.Dir = manifest.Epoch(n+1), 1000, filepath.Join(dir, fmt.Sprint(n))
		s, err := Open(context.Background(), o)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		stats = s.RestoreStats()
		fetch += stats.Fetch
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(fetch.Milliseconds())/float64(n), "fetch-ms")
	b.ReportMetric(float64(stats.Objects), "GETs")
	b.ReportMetric(float64(stats.Bytes+stats.LocalBytes)/1e6, "MB")
}

// benchCheckpoints writes the state and returns the last of its checkpoints.
func benchCheckpoints(b *testing.B, opts Options) (keyed *manifest.KeyedState) {
	b.Helper()
	s, err := Open(context.Background(), opts)
	if err != nil {
		b.Fatal(err)
	}
	const keys = 100_000
	rng := rand.New(rand.NewPCG(68, 2))
	for id := manifest.ID(1); id <= 60; id++ {
		for range keys / 30 {
			if err := s.Put(counterKey(rng.IntN(keys)), benchValue(rng)); err != nil {
				b.Fatal(err)
			}
		}
		if keyed, _, _, err = s.Capture(Trigger{ID: id, OldestBase: id - 1}).Wait(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return keyed
}
