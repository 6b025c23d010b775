package bench

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/bench/internal/load"
	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	objectfile "github.com/ckpt-io/ckpt/objectstore/file"
)

const updatePairs = 3

// BenchmarkUpdates is BenchmarkThroughput for a job that does nothing but
// change its state: each record reads and overwrites a value of 200 bytes of
// one of many keys, so that most of the state changes every second. It is the
// most that checkpoints can cost, and has no bar.
func BenchmarkUpdates(b *testing.B) {
	measure(b, func() {
		profile := newProfile("updates")
		for round := range updatePairs {
			var with, without float64
			pair := []func(){
				func() { without = runUpdates(b, coordinator.NoInterval, nil) },
				func() { with = runUpdates(b, time.Second, profile) },
			}
			if round%2 == 1 {
				pair[0], pair[1] = pair[1], pair[0]
			}
			pair[0]()
			pair[1]()
			rec.sample("throughput at 1 s checkpoints, against none, each record changes 200 bytes of state", round, "records/s", with, without)
		}
		profile.store(b)
	})
}

// runUpdates runs the job from nothing and returns the records a second of a
// window after it has warmed up.
func runUpdates(b *testing.B, interval time.Duration, p *profile) float64 {
	b.Helper()
	dir, err := os.MkdirTemp(root, "updates")
	must(b, err)
	store, err := objectfile.Open(filepath.Join(dir, "store"), objectfile.Options{Create: true})
	must(b, err)
	source := &numbers{keys: uint64(load.Keys(int64(min(100, conf.stateMB)) * mb))}
	graph := engine.NewJob("updates")
	byKey := engine.KeyBy(engine.From(graph, "numbers", source), state.Uint64, func(n uint64) uint64 { return n })
	engine.Process(byKey, "update", func() engine.KeyedFunc[uint64, uint64, struct{}] { return new(updater) })
	started, stop, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- engine.Run(b.Context(), graph, engine.Config{
			Store: store, StateDir: filepath.Join(dir, "state"), Parallelism: 2,
			Checkpoint: coordinator.Config{Interval: interval}, Restart: engine.NoRestart(), Stop: stop,
			Events: engine.Events{Started: func(engine.Started) { close(started) }},
		})
	}()
	select {
	case <-started:
	case err := <-ended:
		b.Fatal(err)
	}
	time.Sleep(2 * warmUp)
	if p != nil {
		p.resume(b)
	}
	before, begin := source.emitted.Load(), time.Now()
	time.Sleep(window())
	rate := float64(source.emitted.Load()-before) / time.Since(begin).Seconds()
	if p != nil {
		p.pause()
	}
	close(stop)
	must(b, <-ended)
	must(b, os.RemoveAll(dir))
	return rate
}

// numbers is an endless source of random numbers below keys.
type numbers struct {
	keys    uint64
	emitted atomic.Int64
}

// Splits implements engine.Source: there is nothing to go on from.
func (n *numbers) Splits(context.Context) ([]manifest.Split, error) { return nil, nil }

// Reader implements engine.Source.
func (n *numbers) Reader(sc engine.SourceContext) (engine.SourceReader[uint64], error) {
	return &numberReader{numbers: n, rng: rand.New(rand.NewPCG(uint64(sc.Subtask), 9))}, nil
}

type numberReader struct {
	*numbers
	rng *rand.Rand
}

func (*numberReader) Restore(context.Context, []manifest.Split) error { return nil }
func (*numberReader) Snapshot(manifest.ID) ([]manifest.Split, error)  { return nil, nil }
func (*numberReader) Committed(manifest.ID)                           {}
func (*numberReader) Close() error                                    { return nil }

func (r *numberReader) Poll(_ context.Context, emit func(uint64)) error {
	const batch = 1024
	for range batch {
		emit(r.rng.Uint64N(r.keys))
	}
	r.emitted.Add(batch)
	return nil
}

// updater overwrites the value of the key of each record.
type updater struct {
	value  *state.Value[[]byte]
	values *load.Values
}

func (u *updater) Open(ctx *engine.KeyedContext) (err error) {
	u.values = load.NewValues(1)
	u.value, err = engine.NewValue(ctx, "value", state.Bytes)
	return err
}

func (u *updater) Process(uint64, uint64, func(struct{})) error {
	if _, _, err := u.value.Get(); err != nil {
		return err
	}
	return u.value.Set(u.values.Next())
}
