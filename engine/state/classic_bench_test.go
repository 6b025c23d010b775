package state

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// BenchmarkClassicIncremental is what bases and deltas are compared with: writes
// through memtables of 64 MiB, zstd, and at each of 30 checkpoints a flush and
// the upload of the tables that were not uploaded before. 5 % of the keys are
// changed between two.
func BenchmarkClassicIncremental(b *testing.B) {
	for b.Loop() {
		opts := &pebble.Options{DisableWAL: true, MemTableSize: 64 << 20, FormatMajorVersion: pebble.FormatNewest}
		for i := range opts.Levels {
			opts.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.ZstdCompression }
		}
		db, err := pebble.Open(b.TempDir(), opts)
		if err != nil {
			b.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		keys := benchKeys()
		put := func(i int) (n int64) {
			key, value := churnKey(i), benchValue(rng)
			if err := db.Set(key, value, pebble.NoSync); err != nil {
				b.Fatal(err)
			}
			return int64(len(key) + len(value))
		}
		for i := range keys {
			put(i)
		}
		stored := make(map[uint64]bool)
		uploadNew(b, db, stored)
		var uploaded, changed int64
		for range 30 {
			seen := make(map[int]bool)
			for len(seen) < keys/20 {
				if i := rng.IntN(keys); !seen[i] {
					seen[i] = true
					changed += put(i)
				}
			}
			uploaded += uploadNew(b, db, stored)
		}
		b.ReportMetric(float64(uploaded)/float64(changed), "uploaded/changed")
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// uploadNew flushes and returns the bytes of tables that are not stored, then
// waits for the compactions.
func uploadNew(b *testing.B, db *pebble.DB, stored map[uint64]bool) (n int64) {
	if err := db.Flush(); err != nil {
		b.Fatal(err)
	}
	levels, err := db.SSTables()
	if err != nil {
		b.Fatal(err)
	}
	for _, tables := range levels {
		for _, t := range tables {
			if !stored[uint64(t.FileNum)] {
				stored[uint64(t.FileNum)] = true
				n += int64(t.Size)
			}
		}
	}
	for db.Metrics().Compact.NumInProgress > 0 {
		time.Sleep(time.Millisecond)
	}
	return n
}
