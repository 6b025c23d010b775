package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// A job lives through many lives, each at another parallelism and with other
// limits, on a store that fails now and then, replaced by the next while it
// runs or cut off before; user code fails too. The output is as if nothing had
// happened. The seeds are fixed; what the scheduler makes of them is not.
func TestChaos(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			chaos(t, seed)
		})
	}
}

func chaos(t *testing.T, seed uint64) {
	const splits, n = 4, 300
	rng := rand.New(rand.NewPCG(seed, 1))
	store := storetest.NewFaulty(objectstore.NewMem(), seed,
		storetest.Rule{Chance: 0.01, Do: storetest.Fail(objectstore.ErrUnavailable)},
		storetest.Rule{Chance: 0.01, Do: storetest.LoseAnswer()},
		storetest.Rule{Chance: 0.05, Do: storetest.Delay(time.Millisecond)},
	)
	out := newWorld()
	lives := 3 + rng.IntN(4)
	results := make(chan error, lives)
	running := 0
	for range lives {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		cfg := chaosConfig(t, rng, store)
		left, done := 1+rng.IntN(4), make(chan struct{})
		cfg.Events.Checkpoints.Completed = func(coordinator.Completed) {
			if left--; left == 0 {
				close(done)
			}
		}
		var failed failures
		cfg.Events.Failed = failed.add
		defer func() {
			if all := failed.all(); t.Failed() && len(all) > 0 {
				t.Logf("%d failures, the last: %v", len(all), all[len(all)-1])
			}
		}()
		var failing atomic.Int64
		failing.Store(rng.Int64N(3))
		job := counting(&numbers{splits: splits, records: n, chunk: 15 + rng.IntN(30)}, out, func(r record) (record, error) {
			if r.Split == 0 && r.Seq%40 == 39 && failing.Add(-1) >= 0 {
				return r, errInjected
			}
			return r, nil
		}, engine.MaxParallelism(16))
		ended := make(chan struct{})
		running++
		go func() {
			results <- engine.Run(ctx, job, cfg)
			close(ended)
		}()
		select {
		case <-done:
		case <-ended:
		}
		if rng.IntN(2) == 0 { // else its successor takes over from it
			cancel(errInjected)
			<-ended
		}
	}
	store.ClearRules()
	run(t, counting(&numbers{splits: splits, records: n, chunk: 100}, out, nil, engine.MaxParallelism(16)), config(t, store, 1+rng.IntN(4)))
	for range running {
		if err := <-results; err != nil && !errors.Is(err, errInjected) && !errors.Is(err, engine.ErrFenced) {
			t.Errorf("a life ended with %v", err)
		}
	}
	out.check(t, splits, n)
}

func chaosConfig(t *testing.T, rng *rand.Rand, store objectstore.Store) engine.Config {
	cfg := config(t, store, 1+rng.IntN(5))
	cfg.Restart = engine.FixedDelay(1_000, time.Millisecond)
	cfg.Checkpoint.MaxConcurrent = 1 + rng.IntN(3)
	cfg.Checkpoint.Keep = cfg.Checkpoint.MaxConcurrent + rng.IntN(2)
	cfg.Checkpoint.Tolerable = 1 + rng.IntN(5)
	cfg.Materialize = state.MaterializePolicy{MaxDeltas: 1 + rng.IntN(4)}
	cfg.OverlayBytes = 64 << 10 << rng.IntN(3)
	cfg.Restore = []state.RestoreMode{state.Eager, state.Lazy}[rng.IntN(2)]
	return cfg
}
