package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
	"github.com/ckpt-io/ckpt/bench/internal/load"
	"github.com/ckpt-io/ckpt/bench/internal/peer"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

const (
	pauseRounds   = 3
	pauseCaptures = 100
	pauseWrites   = 5000 // before each capture: 1 MB
)

// sizes are those over which a figure is to be flat: 100 MB to 1 GB, and 5 GB
// in a full run, or as much less as the whole run is smaller.
func sizes() []int {
	out := []int{max(1, conf.stateMB/10), conf.stateMB}
	if conf.full {
		out = append(out, fullFactor*conf.stateMB)
	}
	return out
}

// fullFactor is how much larger the largest state of a full run is.
const fullFactor = 5

// BenchmarkPause measures for how long a checkpoint holds up the task that it
// captures: a capture here, a flush and a checkpoint of Pebble's there, after
// the same writes to a state of the same size. Uploads of the captures before
// are under way meanwhile; the peer uploads nothing.
func BenchmarkPause(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		var ours []*pausedState
		for _, size := range sizes() {
			ours = append(ours, newPausedState(b, p, size))
		}
		for round := range pauseRounds {
			p99 := make([]float64, len(ours))
			for i, s := range ours {
				pauses := s.captures(b, round)
				p99[i] = figures.Quantile(pauses, 0.99)
				theirs := s.checkpoints(b, round)
				peer := figures.Quantile(theirs, 0.99)
				if i == len(ours)-1 {
					rec.sample(figures.Pause, round, "µs", p99[i], peer)
				}
				for _, q := range []struct {
					name string
					at   float64
				}{{"p50", 0.5}, {"p99", 0.99}, {"max", 1}} {
					rec.sample(fmt.Sprintf("pause at capture, %s, %d MB", q.name, s.sizeMB), round, "µs", figures.Quantile(pauses, q.at), 0)
				}
				rec.sample(fmt.Sprintf("pause of Flush+Checkpoint, p50, %d MB", s.sizeMB), round, "µs", figures.Quantile(theirs, 0.5), 0)
				rec.sample(fmt.Sprintf("pause of Flush+Checkpoint, p99, %d MB", s.sizeMB), round, "µs", peer, 0)
			}
			rec.sample(figures.PauseFlat, round, "µs", p99[len(p99)-1], p99[0])
		}
		for _, s := range ours {
			s.close(b)
		}
	})
	rec.report(b, figures.Pause, "pause-ratio")
	rec.report(b, figures.PauseFlat, "pause-growth")
}

// pausedState is the same state here and at the peer.
type pausedState struct {
	sizeMB  int
	job     *load.Job
	id      manifest.ID
	classic *peer.Classic
	dir     string
	count   int
}

func newPausedState(b *testing.B, p *place, sizeMB int) *pausedState {
	b.Helper()
	s := &pausedState{sizeMB: sizeMB}
	prefix := p.clone(b, p.fixture(b, sizeMB, 1))
	s.job = p.open(b, objectstore.Prefix(p.direct, prefix), load.Options{Tasks: 1, Keys: load.Keys(int64(sizeMB) * mb)})
	var err error
	s.dir, err = os.MkdirTemp(root, "classic")
	must(b, err)
	s.classic = newClassic(b, s.dir, s.job.Own[0])
	s.id = 1_000_000 // above whatever the fixture has
	return s
}

// newClassic fills a peer's database with entries.
func newClassic(b *testing.B, dir string, own []int) *peer.Classic {
	b.Helper()
	c, err := peer.OpenClassic(dir, 64<<20)
	must(b, err)
	must(b, load.Fill(c, own, load.NewValues(1)))
	must(b, c.DB.Flush())
	must(b, c.Settle(b.Context()))
	return c
}

// captures returns the pauses of one round in µs.
func (s *pausedState) captures(b *testing.B, round int) (pauses []float64) {
	b.Helper()
	rng, values := rand.New(rand.NewPCG(uint64(round), 1)), load.NewValues(uint64(round))
	task := s.job.Tasks[0]
	var before *state.Pending
	for range pauseCaptures {
		must(b, load.Change(task, s.job.Own[0], pauseWrites, rng, values))
		s.id++
		begin := time.Now()
		pending := task.Capture(state.Trigger{ID: s.id, OldestBase: s.id - 2, Kind: manifest.Periodic})
		pauses = append(pauses, micros(time.Since(begin)))
		if before != nil { // two are pending at most
			_, _, _, err := before.Wait(b.Context())
			must(b, err)
		}
		before = pending
	}
	_, _, _, err := before.Wait(b.Context())
	must(b, err)
	return pauses
}

// checkpoints returns the pauses of one round of the peer in µs.
func (s *pausedState) checkpoints(b *testing.B, round int) (pauses []float64) {
	b.Helper()
	rng, values := rand.New(rand.NewPCG(uint64(round), 1)), load.NewValues(uint64(round))
	for range pauseCaptures {
		must(b, load.Change(s.classic, s.job.Own[0], pauseWrites, rng, values))
		s.count++
		dir := filepath.Join(s.dir, fmt.Sprintf("checkpoint-%d", s.count))
		begin := time.Now()
		must(b, s.classic.Checkpoint(dir))
		pauses = append(pauses, micros(time.Since(begin)))
		must(b, os.RemoveAll(dir))
	}
	must(b, s.classic.Settle(b.Context()))
	return pauses
}

func (s *pausedState) close(b *testing.B) {
	must(b, s.job.Close())
	must(b, s.classic.Close())
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
