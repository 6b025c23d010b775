package state

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"syscall"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// BenchmarkCheckpointMemory takes a checkpoint of a million changed keys and
// reports how much memory that takes on top of the overlay: the growth of live
// heap at its highest, and of the memory the process has from the system.
func BenchmarkCheckpointMemory(b *testing.B) {
	for b.Loop() {
		s, err := Open(context.Background(), Options{
			Operator: "count", KeyGroups: manifest.KeyGroupRange{Last: 127}, Epoch: 1, NextID: 1,
			Store: &putCounter{}, Dir: filepath.Join(b.TempDir(), "s"), OverlayBytes: 1 << 30,
		})
		if err != nil {
			b.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range 1_000_000 {
			if err := s.Put(churnKey(i), benchValue(rng)); err != nil {
				b.Fatal(err)
			}
		}
		overlay := s.active.bytes()
		runtime.GC()
		debug.SetGCPercent(10)
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		read := func() uint64 {
			metrics.Read(sample)
			return sample[0].Value.Uint64()
		}
		before, most := read(), uint64(0)
		rss := residentBytes(b)
		p := s.Capture(Trigger{ID: 1})
		for done := false; !done; {
			select {
			case <-p.done:
				done = true
			case <-time.After(time.Millisecond):
			}
			most = max(most, read())
		}
		if _, _, _, err := p.Wait(context.Background()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(overlay)/1e6, "overlay-MB")
		b.ReportMetric(float64(most-before)/1e6, "heap-MB")
		b.ReportMetric(float64(residentBytes(b)-rss)/1e6, "rss-MB")
		debug.SetGCPercent(100)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// residentBytes is the most memory the process ever had.
func residentBytes(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Maxrss << 10
}
