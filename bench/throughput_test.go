package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/file"
	"github.com/ckpt-io/ckpt/engine/connector/filesink"
	"github.com/ckpt-io/ckpt/examples/text"
	"github.com/ckpt-io/ckpt/examples/wordcount/job"
	objectfile "github.com/ckpt-io/ckpt/objectstore/file"
)

const (
	throughputPairs = 5
	warmUp          = 2 * time.Second
	endless         = 1 << 30 // passes over the text
)

// window is how long records are counted: several checkpoints of a second, and
// less if the whole run is to be small.
func window() time.Duration {
	if conf.stateMB < 100 {
		return 2 * time.Second
	}
	return 7 * time.Second
}

// BenchmarkThroughput measures what checkpoints every second cost the
// wordcount. Each round runs the job with and without, in turn, and counts the
// lines of a window after it has warmed up, so that neither start nor end
// counts.
func BenchmarkThroughput(b *testing.B) {
	measure(b, func() {
		w := newWordcount(b)
		profile := newProfile("throughput")
		for round := range throughputPairs {
			var with, without float64
			pair := []func(){
				func() { without = w.run(b, coordinator.NoInterval, nil).lines },
				func() {
					r := w.run(b, time.Second, profile)
					with = r.lines
					rec.sample("checkpoints in a window, wordcount", round, "checkpoints", float64(r.checkpoints), 0)
					rec.sample("T_max, wordcount at 1 s", round, "s", r.tMax.Seconds(), 0)
					rec.sample("trigger to commit, wordcount at 1 s", round, "s", r.total.Seconds(), 0)
				},
			}
			if round%2 == 1 {
				pair[0], pair[1] = pair[1], pair[0]
			}
			pair[0]()
			pair[1]()
			rec.sample(figures.Throughput, round, "lines/s", with, without)
		}
		profile.store(b)
	})
	rec.report(b, figures.Throughput, "kept")
}

// wordcount is the input of the job.
type wordcount struct{ input string }

func newWordcount(b *testing.B) wordcount {
	b.Helper()
	w := wordcount{filepath.Join(root, "input.txt")}
	must(b, os.WriteFile(w.input, []byte(text.Opticks), 0o666))
	return w
}

// window is what was counted in one run.
type counted struct {
	lines       float64 // a second
	checkpoints int
	tMax, total time.Duration // of the last checkpoint
}

// run runs the job from nothing, counts for a window, and stops it. The
// profile, if there is one, is of the window.
func (w wordcount) run(b *testing.B, interval time.Duration, p *profile) (c counted) {
	b.Helper()
	dir, err := os.MkdirTemp(root, "wordcount")
	must(b, err)
	store, err := objectfile.Open(filepath.Join(dir, "store"), objectfile.Options{Create: true})
	must(b, err)
	lines, err := file.New(w.input, file.Options{Passes: endless})
	must(b, err)
	var meter job.Meter
	graph := job.New("bench", meter.Over(lines), filesink.New(filepath.Join(dir, "out"), job.AppendLine))
	started, stop, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	completed := make(chan coordinator.Completed, 1000)
	go func() {
		ended <- engine.Run(b.Context(), graph, engine.Config{
			Store: store, StateDir: filepath.Join(dir, "state"), Parallelism: 2,
			Checkpoint: coordinator.Config{Interval: interval}, Restart: engine.NoRestart(), Stop: stop,
			Events: engine.Events{
				Started:     func(engine.Started) { close(started) },
				Checkpoints: coordinator.Listener{Completed: func(c coordinator.Completed) { completed <- c }},
			},
		})
	}()
	select {
	case <-started:
	case err := <-ended:
		b.Fatal(fmt.Errorf("run wordcount: %w", err))
	}
	time.Sleep(warmUp)
	if p != nil {
		p.resume(b)
	}
	for len(completed) > 0 {
		<-completed
	}
	before, begin := meter.Lines.Load(), time.Now()
	time.Sleep(window())
	c.lines = float64(meter.Lines.Load()-before) / time.Since(begin).Seconds()
	if p != nil {
		p.pause()
	}
	for len(completed) > 0 {
		last := <-completed
		c.checkpoints++
		c.tMax, c.total = last.Stats.TMax, last.Stats.Duration+last.Queue+last.Commit
	}
	close(stop)
	must(b, <-ended)
	must(b, os.RemoveAll(dir))
	return c
}
