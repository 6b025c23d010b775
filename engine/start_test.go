package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/keygroup"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// interrupt runs a job until it has completed a number of checkpoints and then
// ends it hard.
func interrupt(t *testing.T, job *engine.Job, cfg engine.Config, checkpoints int) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	left := checkpoints
	cfg.Events.Checkpoints.Completed = func(coordinator.Completed) {
		if left--; left == 0 {
			cancel(errInjected)
		}
	}
	if err := engine.Run(ctx, job, cfg); !errors.Is(err, errInjected) {
		t.Fatalf("got %v, want the interruption", err)
	}
}

// A job goes on at any other parallelism, from wherever it was cut off.
func TestF92_Rescale(t *testing.T) {
	const splits, n = 5, 400
	store, out := objectstore.NewMem(), newWorld()
	src := &numbers{splits: splits, records: n, chunk: 20}
	for _, p := range []int{1, 4, 3, 7, 2, 8} {
		interrupt(t, counting(src, out, nil, engine.MaxParallelism(16)), config(t, store, p), 3)
	}
	run(t, counting(src, out, nil, engine.MaxParallelism(16)), config(t, store, 3))
	out.check(t, splits, n)
}

// Stop takes a last checkpoint, commits its output and ends without an error;
// the job goes on later.
func TestF14_Stop(t *testing.T) {
	store, out := objectstore.NewMem(), newWorld()
	src := &numbers{splits: 2, records: 500, chunk: 20}
	stop := make(chan struct{})
	cfg := config(t, store, 2)
	var completed []coordinator.Completed
	cfg.Stop = stop
	cfg.Events.Checkpoints.Completed = func(c coordinator.Completed) {
		if completed = append(completed, c); len(completed) == 3 {
			close(stop)
		}
	}
	run(t, counting(src, out, nil), cfg)
	if last := completed[len(completed)-1]; last.Kind != manifest.Stop {
		t.Fatalf("last checkpoint is of kind %q, want stop", last.Kind)
	}
	if len(out.prepared) != 0 {
		t.Errorf("%d transactions are prepared and not committed", len(out.prepared))
	}
	if n := len(out.output()); n == 0 || n == 2*500 {
		t.Errorf("%d records came out by the stop, want some and not all", n)
	}
	run(t, counting(src, out, nil), config(t, store, 2))
	out.check(t, 2, 500)
}

func TestStopTimeout(t *testing.T) {
	stop, release := make(chan struct{}), make(chan struct{})
	close(stop)
	cfg := config(t, objectstore.NewMem(), 1)
	cfg.Stop, cfg.StopTimeout, cfg.CancelTimeout = stop, 20*time.Millisecond, 20*time.Millisecond
	src := &numbers{splits: 1, records: 10, chunk: 5}
	src.onSnapshot = func(engine.SourceContext, manifest.ID) error {
		<-release
		return nil
	}
	err := engine.Run(t.Context(), counting(src, newWorld(), nil), cfg)
	close(release)
	if !errors.Is(err, engine.ErrStopTimeout) {
		t.Fatalf("got %v, want ErrStopTimeout", err)
	}
}

// Of two engines on one job the newer one wins; the older one stops for good,
// and the output is that of one.
func TestF21_TwoEngines(t *testing.T) {
	const splits, n = 3, 400
	store, out := objectstore.NewMem(), newWorld()
	src := &numbers{splits: splits, records: n, chunk: 20}
	first := config(t, store, 2)
	started := make(chan struct{})
	var once sync.Once
	first.Events.Checkpoints.Completed = func(c coordinator.Completed) { once.Do(func() { close(started) }) }
	result := make(chan error, 1)
	go func() { result <- engine.Run(t.Context(), counting(src, out, nil), first) }()
	<-started
	run(t, counting(src, out, nil), config(t, store, 3))
	if err := <-result; !errors.Is(err, engine.ErrFenced) {
		t.Fatalf("the older engine ended with %v, want ErrFenced", err)
	}
	out.check(t, splits, n)
}

// A run that failed does not take the job back from its successor.
func TestRestartIsFenced(t *testing.T) {
	store := objectstore.NewMem()
	cat := catalog.New(objectstore.Prefix(store, "count"), "count")
	job := counting(&numbers{splits: 1, records: 100, chunk: 10}, newWorld(), func(r record) (record, error) {
		if r.Seq < 50 {
			return r, nil
		}
		if _, err := cat.TakeOver(t.Context(), catalog.TakeOverOptions{}); err != nil {
			t.Error(err)
		}
		return r, errInjected
	})
	if err := engine.Run(t.Context(), job, config(t, store, 1)); !errors.Is(err, engine.ErrFenced) {
		t.Fatalf("got %v, want ErrFenced", err)
	}
	if h := head(t, store); h.Epoch != 2 {
		t.Errorf("epoch is %d, want that of the successor, 2", h.Epoch)
	}
}

func TestIncompatible(t *testing.T) {
	store := objectstore.NewMem()
	src, out := &numbers{splits: 2, records: 100, chunk: 10}, newWorld()
	interrupt(t, counting(src, out, nil, engine.MaxParallelism(16)), config(t, store, 2), 3)
	before := head(t, store)

	renamed := engine.NewJob("count", engine.MaxParallelism(16))
	engine.To(engine.Process(engine.KeyBy(engine.From(renamed, "renamed", src), state.String, word), "recount", newCounter), "out", out)
	for name, tc := range map[string]struct {
		job         *engine.Job
		parallelism int
		want        []string
	}{
		"B50 F93 max parallelism": {
			counting(src, newWorld(), nil, engine.MaxParallelism(32)), 2,
			[]string{`operator "count": max parallelism is 16 and cannot become 32`},
		},
		"hasher": {
			counting(src, newWorld(), nil, engine.MaxParallelism(16), engine.Hasher(keygroup.FlinkString)), 2,
			[]string{`operator "count": keys are hashed by`},
		},
		"B54 F94 operators": {
			renamed, 2,
			[]string{`operator "numbers": checkpoint`, `source positions`, `operator "count": checkpoint`, `keyed state`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := engine.Run(t.Context(), tc.job, config(t, store, tc.parallelism))
			var incompatible *engine.IncompatibleError
			if !errors.As(err, &incompatible) {
				t.Fatalf("got %v, want an IncompatibleError", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if after := head(t, store); after.Swap != before.Swap {
				t.Error("HEAD was changed")
			}
		})
	}
	t.Run("B50 too parallel", func(t *testing.T) {
		var graph *engine.GraphError
		if err := engine.Run(t.Context(), counting(src, newWorld(), nil, engine.MaxParallelism(16)), config(t, store, 17)); !errors.As(err, &graph) {
			t.Fatalf("got %v, want a GraphError", err)
		}
	})
	t.Run("allowed", func(t *testing.T) {
		cfg := config(t, store, 2)
		cfg.AllowNonRestoredState = true
		run(t, renamed, cfg)
	})
}

// A max parallelism that was derived is adopted from the job's state.
func TestB50_DerivedMaxParallelism(t *testing.T) {
	store, out := objectstore.NewMem(), newWorld()
	src := &numbers{splits: 2, records: 200, chunk: 20}
	interrupt(t, counting(src, out, nil, engine.MaxParallelism(16)), config(t, store, 2), 3)
	run(t, counting(src, out, nil), config(t, store, 3))
	out.check(t, 2, 200)
	for _, op := range head(t, store).Operators {
		if op.UID == "count" && op.MaxParallelism != 16 {
			t.Errorf("max parallelism is %d, want the restored 16", op.MaxParallelism)
		}
	}
}

func TestGraphErrors(t *testing.T) {
	src := &numbers{}
	job := engine.NewJob("a/b", engine.MaxParallelism(4))
	records := engine.From(job, "", src)
	mapped := engine.Map(records, "x y", func(r record) (record, error) { return r, nil })
	other := engine.Filter(mapped, "twice", func(record) (bool, error) { return true, nil })
	counts := engine.Process(engine.KeyBy(other, state.String, word), "twice", newCounter, engine.Parallelism(5))
	engine.To(counts, "out", newWorld(), engine.Parallelism(-1))
	err := engine.Run(t.Context(), job, engine.Config{Store: objectstore.NewMem()})
	var graph *engine.GraphError
	if !errors.As(err, &graph) {
		t.Fatalf("got %v, want a GraphError", err)
	}
	for _, want := range []string{
		`name "a/b"`, "operator number 1 has no uid", `operator uid "x y"`, `operator uid "twice" is used twice`,
		`operator "twice": parallelism 5`, `operator "out": parallelism -1`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

// Notices of a completed checkpoint: each task once, and the sink commits each
// transaction once.
func TestB16_Notices(t *testing.T) {
	store, out := objectstore.NewMem(), newWorld()
	src := &noticed{numbers: numbers{splits: 1, records: 200, chunk: 20}, committed: make(map[manifest.ID]int)}
	cfg := config(t, store, 1)
	var completed []manifest.ID
	cfg.Events.Checkpoints.Completed = func(c coordinator.Completed) { completed = append(completed, c.ID) }
	run(t, counting(src, out, nil), cfg)
	out.check(t, 1, 200)
	if len(completed) == 0 || len(src.committed) != len(completed) {
		t.Fatalf("notices of %d checkpoints, want %d", len(src.committed), len(completed))
	}
	for _, id := range completed {
		if src.committed[id] != 1 {
			t.Errorf("%d notices of checkpoint %d, want 1", src.committed[id], id)
		}
	}
}

type noticed struct {
	numbers
	committed map[manifest.ID]int
}

func (n *noticed) Reader(ctx engine.SourceContext) (engine.SourceReader[record], error) {
	r, err := n.numbers.Reader(ctx)
	return &noticedReader{numbersReader: r.(*numbersReader), of: n}, err
}

type noticedReader struct {
	*numbersReader
	of *noticed
}

func (r *noticedReader) Committed(id manifest.ID) {
	r.of.committed[id]++
	r.numbersReader.Committed(id)
}

// Several sources, a union, a fan-out and an exchange without keys.
func TestUnionAndFanOut(t *testing.T) {
	store, out, side := objectstore.NewMem(), newWorld(), newWorld()
	job := engine.NewJob("count")
	a := engine.From(job, "a", &numbers{splits: 2, records: 200, chunk: 30}, engine.Parallelism(1))
	b := engine.From(job, "b", &offset{numbers{splits: 2, records: 200, chunk: 30}})
	all := engine.Union(a, b)
	counts := engine.Process(engine.KeyBy(engine.Rebalance(all), state.String, func(r record) string {
		return fmt.Sprint(r.Split)
	}), "count", newCounter)
	engine.To(counts, "out", out, engine.NoChain())
	var seen atomic.Int64
	plain := engine.FlatMap(all, "plain", func(r record, emit func(counted)) error {
		seen.Add(1)
		emit(counted{record: r})
		return nil
	}, engine.Parallelism(3))
	engine.To(plain, "side", side)
	run(t, job, config(t, store, 2))
	for name, w := range map[string]*world{"out": out, "side": side} {
		records := make(map[record]int)
		for _, c := range w.output() {
			records[c.record]++
		}
		if len(records) != 800 || len(w.output()) != 800 {
			t.Errorf("%s: %d records, %d of them different, want 800", name, len(w.output()), len(records))
		}
	}
}

// offset is a source whose splits have other numbers.
// What binds the graph is the state it goes on from: not what a process that
// began anew wrote into HEAD, and never committed.
func TestMaxParallelismOfWhatIsRestored(t *testing.T) {
	store, out := objectstore.NewMem(), newWorld()
	src := &numbers{splits: 2, records: 200, chunk: 20}
	interrupt(t, counting(src, out, nil, engine.MaxParallelism(16)), config(t, store, 2), 3)

	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	cfg := config(t, store, 2)
	cfg.Fresh = true
	cfg.Checkpoint.Interval = coordinator.NoInterval
	cfg.Events.Started = func(engine.Started) { cancel(errInjected) }
	if err := engine.Run(ctx, counting(src, newWorld(), nil, engine.MaxParallelism(32)), cfg); !errors.Is(err, errInjected) {
		t.Fatalf("got %v, want the interruption", err)
	}

	var incompatible *engine.IncompatibleError
	if err := engine.Run(t.Context(), counting(src, out, nil, engine.MaxParallelism(32)), config(t, store, 2)); !errors.As(err, &incompatible) {
		t.Errorf("max parallelism 32 over the state of 16: got %v, want an IncompatibleError", err)
	}
	run(t, counting(src, out, nil), config(t, store, 2))
	out.check(t, 2, 200)
}

type offset struct{ numbers }

func (o *offset) Splits(ctx context.Context) ([]manifest.Split, error) {
	return []manifest.Split{{ID: "10", Position: []byte("0")}, {ID: "11", Position: []byte("0")}}, nil
}

func TestFreshAndFrom(t *testing.T) {
	store, out := objectstore.NewMem(), newWorld()
	src := &numbers{splits: 2, records: 100, chunk: 10}
	interrupt(t, counting(src, out, nil), config(t, store, 2), 4)
	h := head(t, store)

	cfg := config(t, store, 2)
	cfg.From = h.Checkpoints[0].ID
	if err := engine.Run(t.Context(), counting(src, out, nil), cfg); !errors.Is(err, engine.ErrOutputBeyond) {
		t.Errorf("from a checkpoint with output beyond it: got %v, want ErrOutputBeyond", err)
	}
	cfg.From = 10_000
	if err := engine.Run(t.Context(), counting(src, out, nil), cfg); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("from a checkpoint that is not there: got %v, want ErrNotFound", err)
	}

	again := newWorld()
	cfg = config(t, store, 2)
	cfg.Fresh = true
	run(t, counting(src, again, nil), cfg)
	again.check(t, 2, 100)
}
