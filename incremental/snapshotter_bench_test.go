package incremental

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ckpt-io/ckpt/manifest"
)

// BenchmarkSnapshotter backs up a database of 1,000,000 keys of 14 bytes with
// values of 200, of which zstd leaves a half, before each of 20 rounds that
// write 5 % of them anew. uploaded/changed is what a backup uploads for each
// byte of keys and values that changed; it does not depend on the machine.
func BenchmarkSnapshotter(b *testing.B) {
	plain := func() *pebble.Options { return &pebble.Options{FormatMajorVersion: pebble.FormatNewest} }
	zstd := func() *pebble.Options {
		o := plain()
		o.MemTableSize = 64 << 20
		o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionGood })
		return o
	}
	separated := func() *pebble.Options {
		o := zstd()
		o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
			return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: 100, MaxBlobReferenceDepth: 100, TargetGarbageRatio: 0.6}
		}
		return o
	}
	for _, bench := range []struct {
		name string
		opts func() *pebble.Options
	}{{"options=default", plain}, {"options=64MB,zstd", zstd}, {"options=64MB,zstd,separated", separated}} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				benchSnapshotter(b, bench.opts())
			}
		})
	}
}

func benchSnapshotter(b *testing.B, opts *pebble.Options) {
	const keys, rounds = 1_000_000, 20
	dir := b.TempDir()
	opts.DisableWAL, opts.Logger = true, &logger{}
	db, err := pebble.Open(filepath.Join(dir, "db"), opts)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	store := newPutStore(b)
	snaps, err := NewSnapshotter(db, SnapshotterOptions{
		Store: store, Operator: "db", Epoch: 1, NextID: 1, Dir: filepath.Join(dir, "scratch"),
	})
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range keys {
		benchSet(b, db, rng, i)
	}
	var changed, objects, bytes int64
	for id := manifest.ID(1); id <= rounds+1; id++ {
		if _, err := snaps.Snapshot(b.Context(), Barrier{ID: id, OldestBase: id - 1}); err != nil {
			b.Fatal(err)
		}
		if id == 1 {
			objects, bytes = store.total() // the first one has everything
		}
		if id <= rounds {
			for range keys / 20 {
				changed += benchSet(b, db, rng, rng.IntN(keys))
			}
		}
	}
	allObjects, allBytes := store.total()
	b.ReportMetric(float64(allBytes-bytes)/float64(changed), "uploaded/changed")
	b.ReportMetric(float64(allObjects-objects)/rounds, "PUTs/backup")
}

// benchSet writes key i and returns the bytes written.
func benchSet(b *testing.B, db *pebble.DB, rng *rand.Rand, i int) int64 {
	key := fmt.Appendf(nil, "user-%09d", i)
	value := make([]byte, 0, 200)
	for len(value) < 100 {
		value = binary.LittleEndian.AppendUint64(value, rng.Uint64())
	}
	for len(value) < 200 {
		value = append(value, "what a person wrote "...)
	}
	if err := db.Set(key, value, pebble.NoSync); err != nil {
		b.Fatal(err)
	}
	return int64(len(key) + len(value))
}
