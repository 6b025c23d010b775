package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
	"github.com/ckpt-io/ckpt/bench/internal/load"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

const (
	restoreRounds = 3
	getDelay      = 10 * time.Millisecond
	// hydrationLink makes hydration take long enough to be read meanwhile.
	hydrationLink = 100_000_000
)

// BenchmarkEagerRestore measures a recovery with everything local and verified
// before it begins, from the takeover to an entry read of each task, against
// raw GETs of the same objects into files, with their digests.
func BenchmarkEagerRestore(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		prefix := p.fixture(b, conf.stateMB, conf.tasks)
		raw := p.raw(true)
		raw.Parallel = 16
		profile := newProfile("eager-restore")
		for round := -1; round < restoreRounds; round++ { // the first one warms up
			profile.resume(b)
			r, objects := recoverOnce(b, p, p.direct, prefix, state.Eager, conf.tasks)
			profile.pause()
			dir, err := os.MkdirTemp(root, "raw")
			must(b, err)
			var keys []string
			for _, o := range objects {
				keys = append(keys, prefix+"/"+o.Key)
			}
			begin := time.Now()
			must(b, raw.GetAll(b.Context(), keys, dir))
			took := time.Since(begin)
			must(b, os.RemoveAll(dir))
			if round < 0 {
				continue
			}
			rec.sample(figures.EagerRestore, round, "s", r.Total.Seconds(), took.Seconds())
			recoveryPhases(r, "eager restore", round)
		}
		profile.store(b)
	})
	rec.report(b, figures.EagerRestore, "ratio")
}

// recoverOnce opens what is stored under a prefix and closes it again.
func recoverOnce(b *testing.B, p *place, store objectstore.Store, prefix string, mode state.RestoreMode, tasks int) (load.Recovery, []manifest.Object) {
	b.Helper()
	j := p.open(b, objectstore.Prefix(store, prefix), load.Options{
		Tasks: tasks, Keys: fixtureKeys(b, prefix), Restore: mode, Materialize: never(),
	})
	objects := j.Needed()
	must(b, j.Close())
	return j.Recovery, objects
}

func fixtureKeys(b *testing.B, prefix string) int {
	b.Helper()
	var sizeMB, tasks int
	_, err := fmt.Sscanf(prefix, "fixture-%d-%d", &sizeMB, &tasks)
	must(b, err)
	return load.Keys(int64(sizeMB) * mb)
}

// recoveryPhases records R_i by phase: the medians of the tasks.
func recoveryPhases(r load.Recovery, what string, round int) {
	var fetch, open, ingest, tasks []float64
	longest := 0.0
	for i, s := range r.Stats {
		fetch, open, ingest = append(fetch, s.Fetch.Seconds()), append(open, s.Open.Seconds()), append(ingest, s.Ingest.Seconds())
		tasks = append(tasks, r.Tasks[i].Seconds())
		longest = max(longest, r.Tasks[i].Seconds())
	}
	for _, phase := range []struct {
		name  string
		value float64
	}{
		{"takeover", r.TakeOver.Seconds()}, {"manifest", r.Manifest.Seconds()},
		{"fetch", figures.Median(fetch)}, {"open", figures.Median(open)}, {"ingest", figures.Median(ingest)},
		{"R_i", figures.Median(tasks)}, {"R_max", longest}, {"total", r.Total.Seconds()},
	} {
		rec.sample(what+", "+phase.name, round, "s", phase.value, 0)
	}
}

// BenchmarkFirstRecord measures how long after a crash the first entry is read
// when each GET takes 10 ms: lazily against eagerly, and lazily by the size of
// the state.
func BenchmarkFirstRecord(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		for round := range restoreRounds {
			var lazy []float64
			for i, sizeMB := range sizes() {
				prefix := p.fixture(b, sizeMB, conf.tasks)
				p.proxy.SetDelay(getDelay)
				l, _ := recoverOnce(b, p, p.store, prefix, state.Lazy, conf.tasks)
				e, _ := recoverOnce(b, p, p.store, prefix, state.Eager, conf.tasks)
				p.proxy.SetDelay(0)
				lazy = append(lazy, l.Total.Seconds())
				if i == len(sizes())-1 {
					rec.sample(figures.FirstRecord, round, "s", l.Total.Seconds(), e.Total.Seconds())
				}
				what := fmt.Sprintf("recovery of %d MB at 10 ms a GET", sizeMB)
				recoveryPhases(l, "lazy "+what, round)
				rec.sample("eager "+what+", total", round, "s", e.Total.Seconds(), 0)
				rec.point(figures.PlotRestore, "lazy: first record", float64(sizeMB), l.Total.Seconds())
				rec.point(figures.PlotRestore, "eager: first record", float64(sizeMB), e.Total.Seconds())
			}
			rec.sample(figures.FirstFlat, round, "s", lazy[len(lazy)-1], lazy[0])
		}
	})
	rec.report(b, figures.FirstRecord, "ratio")
	rec.report(b, figures.FirstFlat, "growth")
}

// BenchmarkHydration reads a lazily restored state at random while the rest of
// it comes in the background over a link of 100 MB/s at 10 ms a GET.
func BenchmarkHydration(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		prefix := p.fixture(b, conf.stateMB, conf.tasks)
		p.proxy.SetDelay(getDelay)
		p.proxy.SetLink(hydrationLink)
		defer p.proxy.SetDelay(0)
		defer p.proxy.SetLink(0)
		begin := time.Now()
		before := p.counts().Out
		j := p.open(b, objectstore.Prefix(p.store, prefix), load.Options{
			Tasks: conf.tasks, Keys: load.Keys(int64(conf.stateMB) * mb), Restore: state.Lazy, Materialize: never(),
		})
		var remote int64
		for _, o := range j.Needed() {
			remote += o.Size
		}
		share := func() float64 { return min(100, 100*float64(p.counts().Out-before)/float64(remote)) }
		reads := readWhileHydrated(b, j, share)
		rec.sample("hydrated, after the recovery began, 100 MB/s at 10 ms a GET", 0, "s", time.Since(begin).Seconds(), 0)
		rec.sample("bytes read until hydrated, by those of the state", 0, "ratio", float64(p.counts().Out-before)/float64(remote), 0)
		var all []float64
		for bucket, of := range reads {
			all = append(all, of...)
			if len(of) > 0 {
				rec.point(figures.PlotHydration, "p99", float64(10*bucket), figures.Quantile(of, 0.99))
				rec.point(figures.PlotHydration, "p50", float64(10*bucket), figures.Quantile(of, 0.5))
			}
		}
		rec.sample("read while hydrated, p99", 0, "ms", figures.Quantile(all, 0.99), 0)
		must(b, j.Close())
	})
}

// readWhileHydrated reads entries of all tasks until all is local, and returns
// the times in ms by tens of percent.
func readWhileHydrated(b *testing.B, j *load.Job, share func() float64) (reads [11][]float64) {
	b.Helper()
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		errs = make(chan error, len(j.Tasks))
	)
	for i, t := range j.Tasks {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 3))
			for {
				select {
				case <-t.Hydrated():
					return
				default:
				}
				at, begin := share(), time.Now()
				if err := j.Read(i, rng); err != nil {
					errs <- err
					return
				}
				took := float64(time.Since(begin)) / float64(time.Millisecond)
				mu.Lock()
				reads[int(at/10)] = append(reads[int(at/10)], took)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(errs)
	must(b, <-errs)
	return reads
}

// BenchmarkRescale changes the parallelism from 2 to 4 to 3, with a checkpoint
// of changes between, as a failed job would come back with another one.
func BenchmarkRescale(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		prefix := p.clone(b, p.fixture(b, conf.stateMB, 2))
		keys := load.Keys(int64(conf.stateMB) * mb)
		from := 2
		for _, to := range []int{4, 3} {
			before := p.counts()
			j := p.open(b, objectstore.Prefix(p.store, prefix), load.Options{Tasks: to, Keys: keys, Restore: state.Lazy})
			counts := p.counts().Sub(before)
			var size int64
			for _, o := range j.Needed() {
				size += o.Size
			}
			what := fmt.Sprintf("rescale from %d to %d tasks", from, to)
			recoveryPhases(j.Recovery, what, 0)
			rec.sample(what+", bytes read until the first record, by those of the state", 0, "ratio", float64(counts.Out)/float64(size), 0)
			rec.sample(what+", requests until the first record", 0, "requests", float64(counts.Total()), 0)
			must(b, j.Change(keys*conf.changed/100))
			c, err := j.Checkpoint(b.Context())
			must(b, err)
			rec.sample(what+", first checkpoint, trigger to commit", 0, "s", c.Total.Seconds(), 0)
			must(b, j.Close())
			from = to
		}
		p.drop(b, prefix)
	})
}
