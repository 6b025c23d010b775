package bench

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
	"github.com/ckpt-io/ckpt/bench/internal/load"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/objectstore"
)

const axisRounds = 3

// setting is one point of the matrix.
type setting struct {
	place   string
	stateMB int
	tasks   int
	changed int // %
}

func (s setting) String() string {
	return fmt.Sprintf("%d MB, %d tasks, %d %% changed, %s", s.stateMB, s.tasks, s.changed, s.place)
}

func standard() setting { return setting{versitygw, conf.stateMB, conf.tasks, conf.changed} }

// axes are the settings that differ from the standard one in one thing, and in
// a full run all of the matrix.
func axes() []setting {
	sizes := []int{max(1, conf.stateMB/10), max(1, conf.stateMB*3/10), conf.stateMB}
	tasks, changed, places := []int{1, 4, 16}, []int{1, 5, 20}, []string{versitygw, directory}
	var out []setting
	add := func(s setting) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if conf.full {
		sizes, places = append(sizes, fullFactor*conf.stateMB), append(places, minio)
		for _, place := range places {
			for _, size := range sizes {
				for _, n := range tasks {
					for _, percent := range changed {
						add(setting{place, size, n, percent})
					}
				}
			}
		}
		return out
	}
	add(standard())
	vary := func(change func(*setting)) {
		s := standard()
		change(&s)
		add(s)
	}
	for _, size := range sizes {
		vary(func(s *setting) { s.stateMB = size })
	}
	for _, n := range tasks {
		vary(func(s *setting) { s.tasks = n })
	}
	for _, percent := range changed {
		vary(func(s *setting) { s.changed = percent })
	}
	for _, place := range places {
		vary(func(s *setting) { s.place = place })
	}
	return out
}

// BenchmarkAxes measures checkpoints and recoveries by size, number of tasks,
// share of changes and kind of store, one varied at a time.
func BenchmarkAxes(b *testing.B) {
	for _, s := range axes() {
		b.Run(s.String(), func(b *testing.B) {
			p := at(b, s.place)
			measure(b, func() { s.measure(b, p) })
		})
	}
}

func (s setting) measure(b *testing.B, p *place) {
	prefix := p.clone(b, p.fixture(b, s.stateMB, s.tasks))
	keys := load.Keys(int64(s.stateMB) * mb)
	for _, mode := range []state.RestoreMode{state.Eager, state.Lazy} {
		before := p.counts()
		j := p.open(b, objectstore.Prefix(p.store, prefix), load.Options{Tasks: s.tasks, Keys: keys, Restore: mode, Materialize: never()})
		counts := p.counts().Sub(before)
		what := fmt.Sprintf("%s restore, %s", mode, s)
		recoveryPhases(j.Recovery, what, 0)
		rec.sample(what+", requests until the first record", 0, "requests", float64(counts.Total()), 0)
		rec.sample(what+", bytes until the first record", 0, "MB", float64(counts.Out)/mb, 0)
		s.points(fmt.Sprintf("%s restore, first record", mode), j.Recovery.Total.Seconds())
		must(b, j.Close())
	}
	// Eager, so that no hydration is under way meanwhile.
	j := p.open(b, objectstore.Prefix(p.store, prefix), load.Options{Tasks: s.tasks, Keys: keys, Restore: state.Eager})
	var total []float64
	for round := range axisRounds {
		must(b, j.Change(max(s.tasks, keys*s.changed/100)))
		before := p.counts()
		c, err := j.Checkpoint(b.Context())
		must(b, err)
		counts := p.counts().Sub(before)
		must(b, j.Collect(b.Context()))
		what := fmt.Sprintf("checkpoint, %s", s)
		phases(c, what, round)
		for kind, n := range counts.ByKind() {
			rec.sample(fmt.Sprintf("%s, %s requests", what, kind), round, "requests", float64(n), 0)
		}
		rec.sample(what+", uploaded by changed", round, "ratio", float64(c.NewBytes)/float64(c.Changed), 0)
		s.points("checkpoint, trigger to commit", c.Total.Seconds())
		total = append(total, c.Total.Seconds())
	}
	must(b, j.Close())
	p.drop(b, prefix)
	b.ReportMetric(figures.Median(total), "checkpoint-s")
}

// points enters a time into the curves that this setting is a point of.
func (s setting) points(series string, seconds float64) {
	n := standard()
	for _, axis := range []struct {
		plot string
		x    float64
		of   setting // the standard but for what the curve is over
	}{
		{figures.PlotSize, float64(s.stateMB), setting{s.place, n.stateMB, s.tasks, s.changed}},
		{figures.PlotTasks, float64(s.tasks), setting{s.place, s.stateMB, n.tasks, s.changed}},
		{figures.PlotChanged, float64(s.changed), setting{s.place, s.stateMB, s.tasks, n.changed}},
	} {
		at := axis.of
		at.place = n.place
		if at != n {
			continue
		}
		name := series
		if s.place != n.place {
			name += ", " + s.place
		}
		rec.point(axis.plot, name, axis.x, seconds)
	}
}
