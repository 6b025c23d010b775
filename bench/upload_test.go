package bench

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
	"github.com/ckpt-io/ckpt/bench/internal/load"
	"github.com/ckpt-io/ckpt/bench/internal/peer"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

const (
	linkRounds = 3
	cpuRounds  = 5
	linkSpeed  = 20_000_000 // bytes a second
	headBytes  = 1500       // about what HEAD of three checkpoints has
)

// changedEntries are those between two checkpoints: a percentage of the state,
// 64 MB at least if it is that large.
func changedEntries(percent int) int {
	all := load.Keys(int64(conf.stateMB) * mb)
	return min(all, max(all*percent/100, load.Keys(64*mb)+1))
}

// BenchmarkCheckpointOnLink measures a checkpoint from its trigger to its
// commit on a link of 20 MB/s, which a proxy holds all bodies to, against raw
// PUTs of the same bytes. No materialization shares the link.
func BenchmarkCheckpointOnLink(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		j, prefix := openClone(b, p, never())
		raw := p.raw(false)
		for round := range linkRounds {
			must(b, j.Change(changedEntries(conf.changed)))
			p.proxy.SetLink(linkSpeed)
			c, err := j.Checkpoint(b.Context())
			p.proxy.SetLink(0)
			must(b, err)
			must(b, j.Collect(b.Context()))
			bodies, last := sameBytes(b, p, prefix, c)

			p.proxy.SetLink(linkSpeed)
			begin := time.Now()
			must(b, raw.PutAll(b.Context(), bodies, last...))
			took := time.Since(begin)
			p.proxy.SetLink(0)
			rec.sample(figures.Link, round, "s", c.Total.Seconds(), took.Seconds())
			rec.sample("checkpoint on a link of 20 MB/s, uploaded", round, "MB", float64(c.NewBytes)/mb, 0)
			phases(c, "checkpoint on a link of 20 MB/s", round)
		}
		must(b, j.Close())
		p.drop(b, prefix)
	})
	rec.report(b, figures.Link, "ratio")
}

// BenchmarkUploadCPU measures the CPU of this process from a trigger to the
// commit, for each GB uploaded, against a raw PUT loop over the same bytes.
func BenchmarkUploadCPU(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		prefix := p.clone(b, p.fixture(b, conf.stateMB, conf.tasks))
		j := p.open(b, objectstore.Prefix(p.direct, prefix), load.Options{
			Tasks: conf.tasks, Keys: load.Keys(int64(conf.stateMB) * mb), Materialize: never(),
		})
		raw := p.raw(true)
		profile := newProfile("checkpoint-cpu")
		for round := range cpuRounds {
			must(b, j.Change(changedEntries(conf.changed)))
			profile.resume(b)
			before := cpuTime(b)
			c, err := j.Checkpoint(b.Context())
			ours := cpuTime(b) - before
			profile.pause()
			must(b, err)
			must(b, j.Collect(b.Context()))
			bodies, last := sameBytes(b, p, prefix, c)

			before = cpuTime(b)
			begin := time.Now()
			must(b, raw.PutAll(b.Context(), bodies, last...))
			took := time.Since(begin)
			theirs := cpuTime(b) - before
			gb := float64(c.NewBytes) / 1e9
			rec.sample(figures.CPU, round, "s/GB", ours.Seconds()/gb, theirs.Seconds()/gb)
			rec.sample("CPU a GB uploaded", round, "s/GB", ours.Seconds()/gb, 0)
			rec.sample("checkpoint without a limit, against raw PUTs of the same bytes", round, "s", c.Total.Seconds(), took.Seconds())
			phases(c, "checkpoint without a limit", round)
		}
		profile.store(b)
		must(b, j.Close())
		p.drop(b, prefix)
	})
	rec.report(b, figures.CPU, "ratio")
}

// openClone opens a copy of the run's standard state through the proxy.
func openClone(b *testing.B, p *place, policy materialize) (*load.Job, string) {
	b.Helper()
	prefix := p.clone(b, p.fixture(b, conf.stateMB, conf.tasks))
	return p.open(b, objectstore.Prefix(p.store, prefix), load.Options{
		Tasks: conf.tasks, Keys: load.Keys(int64(conf.stateMB) * mb), Materialize: policy,
	}), prefix
}

// sameBytes are the objects that a checkpoint uploaded, and bodies of the size
// of what its commit wrote.
func sameBytes(b *testing.B, p *place, prefix string, c *load.Checkpoint) (bodies, last [][]byte) {
	b.Helper()
	raw := peer.Raw{Client: peer.Client(p.server.Endpoint)}
	for _, o := range c.New {
		body, err := raw.Get(b.Context(), prefix+"/"+o.Key)
		must(b, err)
		bodies = append(bodies, body)
	}
	for _, n := range []int64{c.ManifestBytes, headBytes} {
		body := make([]byte, n)
		rand.Read(body)
		last = append(last, body)
	}
	return bodies, last
}

// phases records T_i by phase: the medians of the tasks.
func phases(c *load.Checkpoint, what string, round int) {
	for _, phase := range []struct {
		name string
		of   func(s manifest.TaskStats) time.Duration
	}{
		{"queue", func(s manifest.TaskStats) time.Duration { return s.Queue }},
		{"encode", func(s manifest.TaskStats) time.Duration { return s.Encode }},
		{"upload", func(s manifest.TaskStats) time.Duration { return s.Upload }},
		{"T_i", func(s manifest.TaskStats) time.Duration { return s.Total }},
	} {
		var of []float64
		for _, t := range c.Tasks {
			of = append(of, phase.of(t).Seconds())
		}
		rec.sample(fmt.Sprintf("%s, %s", what, phase.name), round, "s", figures.Median(of), 0)
	}
	rec.sample(what+", T_max", round, "s", c.TMax.Seconds(), 0)
	rec.sample(what+", commit", round, "s", c.Commit.Seconds(), 0)
	rec.sample(what+", trigger to commit", round, "s", c.Total.Seconds(), 0)
}
