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

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

var errInjected = errors.New("injected")

// failures records the errors of failed runs.
type failures struct {
	mu   sync.Mutex
	errs []error
}

func (f *failures) add(e engine.Failed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, e.Err)
}

func (f *failures) all() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.errs
}

// once returns a function that is true the first time it is called after at
// records were emitted.
func once(emitted *atomic.Int64, at int64) func() bool {
	var done atomic.Bool
	return func() bool { return emitted.Load() >= at && done.CompareAndSwap(false, true) }
}

// The whole system: failures in a map function, in a snapshot, in a recovery
// and while closing.
func TestB72_FailuresEverywhere(t *testing.T) {
	const splits, n = 4, 400
	var emitted atomic.Int64
	var recoveries atomic.Int64
	inMap, inSnapshot := once(&emitted, splits*n/4), once(&emitted, splits*n/2)
	beforeRecovery, inRecovery, inClose := once(&emitted, splits*n*3/4), once(&emitted, splits*n*3/4), once(&emitted, splits*n*3/4)
	src := &numbers{splits: splits, records: n, chunk: 50, emitted: &emitted}
	src.onSnapshot = func(engine.SourceContext, manifest.ID) error {
		if inSnapshot() {
			return fmt.Errorf("in snapshot: %w", errInjected)
		}
		return nil
	}
	src.onRestore = func(engine.SourceContext) error {
		recoveries.Add(1)
		if inRecovery() {
			return fmt.Errorf("in recovery: %w", errInjected)
		}
		return nil
	}
	src.onClose = func(engine.SourceContext) error {
		if inClose() {
			return fmt.Errorf("in close: %w", errInjected)
		}
		return nil
	}
	failing := func(r record) (record, error) {
		if inMap() {
			return r, fmt.Errorf("in map: %w", errInjected)
		}
		if beforeRecovery() {
			return r, fmt.Errorf("before recovery: %w", errInjected)
		}
		return r, nil
	}
	store, out := objectstore.NewMem(), newWorld()
	cfg := config(t, store, 3)
	var failed failures
	cfg.Events.Failed = failed.add
	run(t, counting(src, out, failing), cfg)
	out.check(t, splits, n)

	all := errors.Join(failed.all()...)
	for _, want := range []string{"in map", "in snapshot", "before recovery", "in recovery", "in close"} {
		if all == nil || !strings.Contains(all.Error(), want) {
			t.Errorf("no run failed %s: %v", want, all)
		}
	}
	if h := head(t, store); h.NextID < n/50 {
		t.Errorf("next id is %d, want at least one checkpoint for each chunk", h.NextID)
	}
}

// Any operation on the store may fail, or lose its answer, at any time.
func TestStoreFailures(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			mem, out := objectstore.NewMem(), newWorld()
			store := storetest.NewFaulty(mem, seed,
				storetest.Rule{Chance: 0.02, Do: storetest.Fail(objectstore.ErrUnavailable)},
				storetest.Rule{Chance: 0.02, Do: storetest.LoseAnswer()},
				storetest.Rule{Chance: 0.01, Do: storetest.LoseRequest()},
			)
			cfg := config(t, store, 2)
			cfg.Restart = engine.FixedDelay(10_000, time.Millisecond)
			run(t, counting(&numbers{splits: 3, records: 200, chunk: 40}, out, nil), cfg)
			out.check(t, 3, 200)
		})
	}
}

// A panic of user code fails the task with its uid and its stack, not the
// process.
func TestF89_Panic(t *testing.T) {
	for name, job := range map[string]func(panics func() bool, w *world) *engine.Job{
		"map": func(panics func() bool, w *world) *engine.Job {
			return counting(&numbers{splits: 2, records: 200, chunk: 50}, w, func(r record) (record, error) {
				if r.Seq == 120 && panics() {
					panic("user code")
				}
				return r, nil
			})
		},
		"numbers": func(panics func() bool, w *world) *engine.Job {
			src := &numbers{splits: 2, records: 200, chunk: 50}
			src.onSnapshot = func(_ engine.SourceContext, id manifest.ID) error {
				if panics() {
					panic("user code")
				}
				return nil
			}
			return counting(src, w, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var panicked atomic.Bool
			out := newWorld()
			cfg := config(t, objectstore.NewMem(), 2)
			var failed failures
			cfg.Events.Failed = failed.add
			run(t, job(func() bool { return panicked.CompareAndSwap(false, true) }, out), cfg)
			out.check(t, 2, 200)

			var task *engine.TaskError
			var p *engine.PanicError
			errs := failed.all()
			if len(errs) != 1 || !errors.As(errs[0], &task) || !errors.As(errs[0], &p) {
				t.Fatalf("failures are %v, want one panic of a task", errs)
			}
			if task.Operator != name || !strings.Contains(string(p.Stack), "failure_test.go") {
				t.Errorf("panic is blamed on %q, want %q; stack:\n%s", task.Operator, name, p.Stack)
			}
		})
	}
}

// panickySplits panics when it is first asked for its splits.
type panickySplits struct {
	numbers
	asked atomic.Bool
}

func (p *panickySplits) Splits(ctx context.Context) ([]manifest.Split, error) {
	if !p.asked.Swap(true) {
		panic("user code")
	}
	return p.numbers.Splits(ctx)
}

func TestF89_PanicBeforeTheTasks(t *testing.T) {
	src := &panickySplits{numbers: numbers{splits: 2, records: 100, chunk: 50}}
	out := newWorld()
	cfg := config(t, objectstore.NewMem(), 2)
	var failed failures
	cfg.Events.Failed = failed.add
	run(t, counting(src, out, nil), cfg)
	out.check(t, 2, 100)
	var task *engine.TaskError
	var p *engine.PanicError
	if errs := failed.all(); len(errs) != 1 || !errors.As(errs[0], &task) || !errors.As(errs[0], &p) || task.Operator != "numbers" {
		t.Errorf("failures are %v, want one panic of the source", errs)
	}
}

// closing is a counter that panics when it is closed.
type closing struct{ counter }

func (*closing) Close() error { panic("user code") }

// A panic of a user's Close leaves no state store open.
func TestF89_F107_PanicInClose(t *testing.T) {
	cycle := func() {
		job := engine.NewJob("count")
		records := engine.From(job, "numbers", &numbers{splits: 1, records: 10, chunk: 10})
		engine.To(engine.Process(engine.KeyBy(records, state.String, word), "count", func() engine.KeyedFunc[string, record, counted] {
			return &closing{}
		}), "out", newWorld())
		cfg := config(t, objectstore.NewMem(), 1)
		cfg.Restart = engine.NoRestart()
		var p *engine.PanicError
		if err := engine.Run(t.Context(), job, cfg); !errors.As(err, &p) {
			t.Fatalf("got %v, want the panic", err)
		}
	}
	cycle()
	files := openFiles(t)
	for range 3 {
		cycle()
	}
	if n := openFiles(t); n > files {
		t.Errorf("%d open files, %d before", n, files)
	}
}

// A sink whose commit fails after the checkpoint is complete gets its
// transactions again until it succeeds.
func TestF103_SinkCommitFails(t *testing.T) {
	out := newWorld()
	sink := &failingSink{world: out, failures: 3}
	cfg := config(t, objectstore.NewMem(), 2)
	var failed failures
	cfg.Events.Failed = failed.add
	run(t, counting(&numbers{splits: 2, records: 200, chunk: 50}, sink, nil), cfg)
	out.check(t, 2, 200)
	if len(failed.all()) == 0 {
		t.Error("no commit failed")
	}
}

type failingSink struct {
	*world
	failures int
}

func (s *failingSink) Writer(ctx engine.SinkContext) (engine.SinkWriter[counted], error) {
	w, err := s.world.Writer(ctx)
	return &failingWriter{worldWriter: w.(*worldWriter), sink: s}, err
}

type failingWriter struct {
	*worldWriter
	sink *failingSink
}

func (w *failingWriter) Recover(ctx context.Context, handles [][]byte) error {
	return w.Commit(ctx, handles)
}

func (w *failingWriter) Commit(ctx context.Context, handles [][]byte) error {
	w.mu.Lock()
	fail := len(handles) > 0 && w.sink.failures > 0
	if fail {
		w.sink.failures--
	}
	w.mu.Unlock()
	if fail {
		return errInjected
	}
	return w.worldWriter.Commit(ctx, handles)
}

// User code that never returns cannot be ended; Run says so and gives up.
func TestF90_UserCodeBlocks(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	blocked := make(chan struct{})
	var first, second atomic.Bool
	job := counting(&numbers{splits: 2, records: 100, chunk: 100}, newWorld(), func(r record) (record, error) {
		if r.Split == 0 && first.CompareAndSwap(false, true) {
			close(blocked)
			<-release
		}
		if r.Split == 1 && second.CompareAndSwap(false, true) {
			<-blocked
			return r, errInjected
		}
		return r, nil
	})
	cfg := config(t, objectstore.NewMem(), 2)
	cfg.CancelTimeout = 10 * time.Millisecond
	err := engine.Run(t.Context(), job, cfg)
	var stuck *engine.StuckError
	if !errors.As(err, &stuck) || !errors.Is(err, errInjected) {
		t.Fatalf("got %v, want a StuckError over the injected one", err)
	}
}
