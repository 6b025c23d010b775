package engine_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/retention"
)

// Whatever the parallelism becomes, each key's state is with its owner.
func TestB45_RescaleSweep(t *testing.T) {
	for _, tc := range [][2]int{{1, 2}, {2, 1}, {2, 8}, {2, 7}, {8, 2}, {7, 2}, {2, 3}, {3, 2}} {
		t.Run(fmt.Sprintf("%d-%d", tc[0], tc[1]), func(t *testing.T) {
			t.Parallel()
			store, out := objectstore.NewMem(), newWorld()
			src := &numbers{splits: 3, records: 120, chunk: 30}
			interrupt(t, counting(src, out, nil), config(t, store, tc[0]), 2)
			run(t, counting(src, out, nil), config(t, store, tc[1]))
			out.check(t, 3, 120)
		})
	}
}

// A source that has ended answers barriers until all have, and is not read
// again after a restart.
func TestF91_SourceEndsEarly(t *testing.T) {
	store, out := objectstore.NewMem(), newWorld()
	var emitted atomic.Int64
	graph := func() *engine.Job {
		job := engine.NewJob("count")
		short := engine.From(job, "short", &offset{numbers{records: 10, chunk: 10, emitted: &emitted}})
		long := engine.From(job, "long", &numbers{splits: 2, records: 300, chunk: 30})
		counts := engine.Process(engine.KeyBy(engine.Union(short, long), state.String, word), "count", newCounter)
		engine.To(counts, "out", out)
		return job
	}
	interrupt(t, graph(), config(t, store, 2), 4)
	run(t, graph(), config(t, store, 2))
	if n := len(out.output()); n != 2*300+2*10 {
		t.Errorf("%d records came out, want 620", n)
	}
	if n := emitted.Load(); n != 20 {
		t.Errorf("the short source emitted %d records, want its 20 once", n)
	}
}

// The figures of a checkpoint's subtasks.
func TestB62_Figures(t *testing.T) {
	for _, p := range []int{1, 3} {
		t.Run(strconv.Itoa(p), func(t *testing.T) {
			store := objectstore.NewMem()
			src := &numbers{splits: 3, records: 300, chunk: 100}
			interrupt(t, counting(src, newWorld(), nil), config(t, store, p), 2)
			m := newestManifest(t, store)
			var aligned time.Duration
			for _, op := range m.Operators {
				if len(op.Tasks) != p {
					t.Fatalf("operator %q has %d subtasks, want %d", op.UID, len(op.Tasks), p)
				}
				for _, task := range op.Tasks {
					s := task.Stats
					if s.Total <= 0 || s.StartDelay < 0 || s.Total < s.Alignment+s.Capture {
						t.Errorf("%s/%d: figures do not fit: %+v", op.UID, task.Index, s)
					}
					if oneChannel := p == 1 || op.UID == "numbers" || op.UID == "map"; oneChannel && (s.Alignment != 0 || s.InFlightBytes != 0) {
						t.Errorf("%s/%d: alignment of one channel is %v, %d bytes, want none", op.UID, task.Index, s.Alignment, s.InFlightBytes)
					}
					if op.UID == "count" {
						aligned += s.Alignment
					}
					if changed := s.ChangedBytes > 0; changed != (s.NewBytes > 0) || s.FullBytes < s.NewBytes {
						t.Errorf("%s/%d: figures of the state do not fit: %+v", op.UID, task.Index, s)
					}
				}
			}
			if p > 1 && aligned <= 0 {
				t.Error("no time to align several channels")
			}
			if m.Stats.FullBytes == 0 {
				t.Error("the checkpoint has no state")
			}
			if m.Stats.TMax <= 0 || m.Stats.Duration <= 0 {
				t.Errorf("figures of the checkpoint are missing: %+v", m.Stats)
			}
		})
	}
}

func newestManifest(t *testing.T, store objectstore.Store) *manifest.Manifest {
	t.Helper()
	cat := catalog.New(objectstore.Prefix(store, "count"), "count")
	_, entry, err := cat.Resolve(t.Context(), "latest")
	if err != nil {
		t.Fatal(err)
	}
	m, err := cat.Manifest(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// After crashes and a good end, nothing is stored that no checkpoint keeps,
// and nothing is left on the local disk.
func TestF73_NothingIsLeftBehind(t *testing.T) {
	store, out := objectstore.NewMem(), newWorld()
	src := &numbers{splits: 2, records: 200, chunk: 20}
	cfg := config(t, store, 2)
	for range 3 {
		interrupt(t, counting(src, out, nil), cfg, 2)
	}
	run(t, counting(src, out, nil), cfg)
	out.check(t, 2, 200)

	prefixed := objectstore.Prefix(store, "count")
	plan, err := retention.NewPlan(t.Context(), catalog.New(prefixed, "count"), prefixed)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range plan.Deletes {
		t.Errorf("object %s is left: %s", d.Key, d.Reason.Text())
	}
	if left, err := os.ReadDir(cfg.StateDir); err != nil || len(left) != 0 {
		t.Errorf("state directory holds %v (%v)", left, err)
	}
}

// Starting and stopping leaves no goroutine and no file behind.
func TestF107_Leaks(t *testing.T) {
	cycle := func() {
		store, out := objectstore.NewMem(), newWorld()
		src := &numbers{splits: 2, records: 40, chunk: 20}
		interrupt(t, counting(src, out, nil), config(t, store, 2), 1)
		run(t, counting(src, out, nil), config(t, store, 2))
	}
	cycle()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range 5 {
		cycle()
	}
	// What a closed database has under way ends by itself, soon.
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(end); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before:\n%s", n, goroutines, buf[:runtime.Stack(buf, true)])
	}
	if n := openFiles(t); n > files {
		t.Errorf("%d open files, %d before", n, files)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Log("open files are not counted on this system:", err)
	}
	return len(fds)
}

// One more failed checkpoint than is tolerable fails the job.
func TestB25_TooManyFailedCheckpoints(t *testing.T) {
	store, out := objectstore.NewMem(), newWorld()
	cfg := config(t, store, 1)
	cfg.Checkpoint.Timeout = time.Nanosecond // nothing is ever in time
	cfg.Checkpoint.Tolerable = 2
	cfg.Restart = engine.NoRestart()
	var aborted []error
	cfg.Events.Checkpoints.Aborted = func(a coordinator.Aborted) { aborted = append(aborted, a.Err) }
	err := engine.Run(t.Context(), counting(&numbers{splits: 1, records: 1000, chunk: 10}, out, nil), cfg)
	if err == nil || len(aborted) != 3 {
		t.Fatalf("got %v after %d failed checkpoints, want an error after 3", err, len(aborted))
	}
}
