package bench

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
	"github.com/ckpt-io/ckpt/bench/internal/load"
	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/objectstore"
)

// The curves of docs/tuning.md that no other benchmark gives.

const tuningWindow = 4 * time.Second

// BenchmarkInterval runs the wordcount at several intervals.
func BenchmarkInterval(b *testing.B) {
	measure(b, func() {
		w := newWordcount(b)
		without := w.run(b, coordinator.NoInterval, nil).lines
		for _, interval := range []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second} {
			c := w.run(b, interval, nil)
			rec.point(figures.PlotInterval, "wordcount", interval.Seconds(), c.lines/without)
		}
		without = (without + w.run(b, coordinator.NoInterval, nil).lines) / 2
		rec.sample("wordcount without checkpoints", 0, "lines/s", without, 0)
	})
}

// BenchmarkCost counts what checkpoints of a state cost by their interval: a
// steady rate of updates, in which a long interval has more repeated keys.
func BenchmarkCost(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		sizeMB := max(1, conf.stateMB/10)
		keys := load.Keys(int64(sizeMB) * mb)
		perSecond := max(1, keys/50) // 2 % of the entries
		for _, seconds := range []int{1, 5, 10, 30} {
			prefix := p.clone(b, p.fixture(b, sizeMB, 1))
			j := p.open(b, objectstore.Prefix(p.store, prefix), load.Options{Tasks: 1, Keys: keys})
			before := p.counts()
			checkpoints := max(2, 60/seconds)
			rng, values := rand.New(rand.NewPCG(uint64(seconds), 1)), load.NewValues(uint64(seconds))
			for range checkpoints {
				for range seconds {
					must(b, load.Change(j.Tasks[0], j.Own[0], perSecond, rng, values))
				}
				_, err := j.Checkpoint(b.Context())
				must(b, err)
				must(b, j.Collect(b.Context()))
			}
			counts := quietCounts(b, p).Sub(before)
			perHour := 3600 / float64(seconds*checkpoints)
			rec.point(figures.PlotRequests, "MB uploaded", float64(seconds), float64(counts.In)/mb*perHour)
			rec.point(figures.PlotRequests, "requests", float64(seconds), float64(counts.Total())*perHour)
			must(b, j.Close())
			p.drop(b, prefix)
		}
	})
}

// BenchmarkOverlay writes as fast as the state takes it, with checkpoints every
// second, into overlays of several sizes.
func BenchmarkOverlay(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		rates := make(map[int]float64)
		sizes := []int{4, 16, 64, 256}
		for _, overlayMB := range sizes {
			prefix := p.clone(b, p.fixture(b, conf.stateMB, conf.tasks))
			j := p.open(b, objectstore.Prefix(p.store, prefix), load.Options{
				Tasks: conf.tasks, Keys: load.Keys(int64(conf.stateMB) * mb), OverlayBytes: int64(overlayMB) << 20,
			})
			begin, writes := time.Now(), 0
			var took []float64
			for time.Since(begin) < tuningWindow {
				next := time.Now().Add(time.Second)
				for time.Now().Before(next) {
					const n = 20_000
					must(b, j.Change(n*conf.tasks))
					writes += n * conf.tasks
				}
				c, err := j.Checkpoint(b.Context())
				must(b, err)
				took = append(took, c.Total.Seconds())
				must(b, j.Collect(b.Context()))
			}
			rates[overlayMB] = float64(writes) / time.Since(begin).Seconds()
			rec.sample(fmt.Sprintf("updates of all tasks, overlays of %d MB, a checkpoint every second", overlayMB), 0, "updates/s", rates[overlayMB], 0)
			rec.sample(fmt.Sprintf("checkpoint at full write speed, overlays of %d MB, trigger to commit", overlayMB), 0, "s", figures.Median(took), 0)
			must(b, j.Close())
			p.drop(b, prefix)
		}
		for _, overlayMB := range sizes {
			rec.point(figures.PlotOverlay, "updates", float64(overlayMB), rates[overlayMB]/rates[sizes[len(sizes)-1]])
		}
	})
}

// BenchmarkCache reads at random, one reader a task, with caches of several
// sizes.
func BenchmarkCache(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		prefix := p.fixture(b, conf.stateMB, conf.tasks)
		for _, cacheMB := range []int{8, 64, 256, 1024} {
			j := p.open(b, objectstore.Prefix(p.store, prefix), load.Options{
				Tasks: conf.tasks, Keys: load.Keys(int64(conf.stateMB) * mb), CacheBytes: int64(cacheMB) << 20,
				Restore: state.Eager, Materialize: never(),
			})
			readFor(b, j, tuningWindow/2) // fills the cache
			rec.point(figures.PlotCache, "random reads", float64(cacheMB), readFor(b, j, tuningWindow/2))
			must(b, j.Close())
		}
	})
}

// readFor reads for some time and returns the reads a second of all tasks.
func readFor(b *testing.B, j *load.Job, d time.Duration) float64 {
	b.Helper()
	var (
		wg    sync.WaitGroup
		reads atomic.Int64
		errs  = make(chan error, len(j.Tasks))
	)
	begin := time.Now()
	for i := range j.Tasks {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 5))
			for time.Since(begin) < d {
				for range 100 {
					if err := j.Read(i, rng); err != nil {
						errs <- err
						return
					}
				}
				reads.Add(100)
			}
		})
	}
	wg.Wait()
	close(errs)
	must(b, <-errs)
	return float64(reads.Load()) / time.Since(begin).Seconds()
}

// BenchmarkMaterialize takes 30 checkpoints of 5 % random updates with several
// bounds on the deltas a checkpoint may name.
func BenchmarkMaterialize(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		sizeMB := max(1, conf.stateMB/20)
		for _, deltas := range []int{3, 10, 30, 100} {
			u := uploadedByUs(b, p, sizeMB, byCount(deltas))
			rec.point(figures.PlotMaterialize, "uploaded, by changed", float64(deltas), u.wire/u.changed)
			rec.point(figures.PlotMaterialize, "read by a restore, by a fresh base", float64(deltas), u.restore/u.base)
		}
	})
}
