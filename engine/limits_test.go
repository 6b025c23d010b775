package engine_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// All that a job does with its store is within its limits, whatever its state
// is restored by.
func TestStoreLimits(t *testing.T) {
	for _, mode := range []state.RestoreMode{state.Eager, state.Lazy} {
		var under, most atomic.Int64
		store := storetest.NewFaulty(objectstore.NewMem(), 1)
		store.Hook = func(_ context.Context, c storetest.Call) error {
			if c.Op == storetest.List { // goes on while what it shows is looked at
				return nil
			}
			if c.Phase == storetest.After {
				under.Add(-1)
				return nil
			}
			n := under.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			return nil
		}
		out := newWorld()
		cfg := config(t, store, 4)
		cfg.StoreBytesPerSecond, cfg.StoreRequests = 100<<20, 2
		cfg.Restore = mode
		cfg.Materialize.MaxDeltas = 2
		fail := &failingSink{world: out, failures: 2} // so that state is restored
		run(t, counting(&numbers{splits: 4, records: 200, chunk: 20}, fail, nil), cfg)
		out.check(t, 4, 200)
		if n := most.Load(); n < 1 || n > 2 {
			t.Errorf("%s: %d requests at a time, want at most 2", mode, n)
		}
	}
}

func TestStoreLimitsAreChecked(t *testing.T) {
	limiter, err := objectstore.NewLimiter(objectstore.LimiterOptions{Requests: 4})
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*engine.Config){
		"1 requests":   func(c *engine.Config) { c.StoreRequests = 1 },
		"-5 bytes/s":   func(c *engine.Config) { c.StoreBytesPerSecond = -5 },
		"exclude each": func(c *engine.Config) { c.Limiter, c.StoreRequests = limiter, 4 },
	} {
		cfg := config(t, objectstore.NewMem(), 1)
		change(&cfg)
		err := engine.Run(t.Context(), counting(&numbers{splits: 1, records: 1, chunk: 1}, newWorld(), nil), cfg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
