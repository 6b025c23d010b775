package manifest

import (
	"crypto/sha256"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

// peakHeap samples the bytes of live and not yet collected objects until stop
// is called, which returns the highest value above that of the beginning.
func peakHeap() (stop func() uint64) {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	start := read()
	done := make(chan struct{})
	var wg sync.WaitGroup
	var peak uint64
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			peak = max(peak, read())
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() uint64 {
		close(done)
		wg.Wait()
		return peak - start
	}
}

// BenchmarkManifest10kTasks encodes and decodes 10,000 tasks of 100 files, part
// by part: a manifest from nothing, and one after a hundredth of the tasks
// changed. Making the tasks is a part of it.
func BenchmarkManifest10kTasks(b *testing.B) {
	f := newFleet(10_000, 100)
	s := newPackStore()
	encode := func(b *testing.B, f *fleet, base *Outline) ([]byte, *Outline) {
		s.id = f.id
		data, o, err := EncodeParts(f.head(), f.task, base, PartsOptions{}, s.put)
		if err != nil {
			b.Fatal(err)
		}
		return data, o
	}
	data, base := encode(b, f, nil)
	var changed []int
	for i := range f.n / 100 {
		changed = append(changed, i*100)
	}
	g := f.next(changed...)

	b.Run("tasks", func(b *testing.B) {
		for b.Loop() {
			for i := range f.n {
				if _, err := f.task(0, i); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		var written int64
		for b.Loop() {
			written = 0
			stop := peakHeap()
			data, _, err := EncodeParts(f.head(), f.task, nil, PartsOptions{}, func(pack []byte) (Object, error) {
				written += int64(len(pack))
				return Object{Key: PackName{ID: f.id, Epoch: 1, N: uint64(written)}.Key(), Size: int64(len(pack)), SHA256: sha256.Sum256(pack)}, nil
			})
			if err != nil {
				b.Fatal(err)
			}
			written += int64(len(data))
			b.ReportMetric(float64(stop())/1e6, "peak-MB")
		}
		b.ReportMetric(float64(written)/1e6, "written-MB")
	})
	b.Run("encode-1%", func(b *testing.B) {
		var written int64
		for b.Loop() {
			before := s.written
			stop := peakHeap()
			data, _ := encode(b, g, base)
			b.ReportMetric(float64(stop())/1e6, "peak-MB")
			written = s.written - before + int64(len(data))
		}
		b.ReportMetric(float64(written)/1e6, "written-MB")
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			stop := peakHeap()
			o, err := DecodeOutline(data)
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for _, err := range o.Tasks(s.fetch) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != f.n+1 {
				b.Fatalf("%d tasks", n)
			}
			b.ReportMetric(float64(stop())/1e6, "peak-MB")
		}
	})
}
