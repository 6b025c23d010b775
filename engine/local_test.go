package engine_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// localJob is one job, its store and its state directory.
type localJob struct {
	t     *testing.T
	mem   *objectstore.Mem
	store *storetest.Faulty
	out   *world
	src   *numbers
	cfg   engine.Config
}

func newLocalJob(t *testing.T, parallelism int) *localJob {
	j := &localJob{t: t, mem: objectstore.NewMem(), out: newWorld(), src: &numbers{splits: 3, records: 1500, chunk: 30}}
	j.store = storetest.NewFaulty(j.mem, 1)
	j.cfg = config(t, j.store, parallelism)
	j.cfg.Materialize = state.MaterializePolicy{MaxDeltas: 4}
	return j
}

func (j *localJob) graph() *engine.Job {
	return counting(j.src, j.out, nil, engine.MaxParallelism(16))
}

// life runs until some checkpoints are committed, and returns what the job was
// restored from and how many data objects were read from the store.
func (j *localJob) life(checkpoints int) (restored incremental.RestoreStats, gets int) {
	j.t.Helper()
	j.store.Forget()
	cfg := j.cfg
	cfg.Events.Started = func(s engine.Started) {
		restored = s.State
		for _, c := range j.store.Calls() {
			if c.Op == storetest.Get && strings.Contains(c.Key, "/data/") {
				gets++
			}
		}
	}
	interrupt(j.t, j.graph(), cfg, checkpoints)
	return restored, gets
}

// objects are the paths of the local copies.
func (j *localJob) objects() []string {
	j.t.Helper()
	paths, err := filepath.Glob(filepath.Join(j.cfg.StateDir, "count-*", "objects", "*"))
	if err != nil {
		j.t.Fatal(err)
	}
	return paths
}

// A job that starts again on the same machine reads nothing of its keyed state
// from the store, whether its parallelism changed or not; and when it has ended,
// nothing is left on the disk.
func TestLocalRecovery(t *testing.T) {
	for _, mode := range []state.RestoreMode{state.Eager, state.Lazy} {
		t.Run(string(mode), func(t *testing.T) {
			j := newLocalJob(t, 2)
			j.cfg.Restore = mode
			j.life(6)
			for i, p := range []int{2, 3, 2} {
				j.cfg.Parallelism = p
				s, gets := j.life(6)
				if gets != 0 || s.LocalObjects == 0 || s.LocalBytes == 0 || s.Objects+s.RemoteObjects+s.LocalDamaged != 0 {
					t.Errorf("life %d read %d objects from the store: %+v", i, gets, s)
				}
			}
			run(t, j.graph(), j.cfg)
			j.out.check(t, j.src.splits, j.src.records)
			if left, err := os.ReadDir(j.cfg.StateDir); err != nil || len(left) != 0 {
				t.Errorf("state directory holds %v (%v)", left, err)
			}
		})
	}
}

// A task that fails is restored from what its own process has.
func TestLocalRecoveryWithinOneProcess(t *testing.T) {
	j := newLocalJob(t, 2)
	var starts []incremental.RestoreStats
	j.cfg.Events.Started = func(s engine.Started) { starts = append(starts, s.State) }
	committed := 0
	j.cfg.Events.Checkpoints.Completed = func(coordinator.Completed) { committed++ }
	failed := false
	f := func(r record) (record, error) {
		if r.Seq > 300 && !failed {
			failed = true
			return r, errInjected
		}
		return r, nil
	}
	run(t, counting(j.src, j.out, f, engine.MaxParallelism(16)), j.cfg)
	j.out.check(t, j.src.splits, j.src.records)
	if len(starts) != 2 || starts[1].LocalObjects == 0 || starts[1].Objects != 0 {
		t.Errorf("starts: %+v", starts)
	}
}

// B68: a local copy that is missing or damaged is given up, and the store's
// object is used.
func TestB68_DamagedCopiesFallBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(68, 1))
	j := newLocalJob(t, 2)
	j.cfg.Restore = state.Eager // a lazy one finds out as it reads
	j.cfg.Materialize = state.MaterializePolicy{MaxDeltas: -1, MaxReads: -1}
	j.life(6)
	damaged := 0
	for _, path := range j.objects() {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(path, ".sst") {
			continue // packs, which an eager restore does not read
		}
		switch damaged % 4 {
		case 0:
			content[rng.IntN(len(content))] ^= 1
		case 1:
			content = content[:len(content)/2]
		case 2:
			content = append(content, 0)
		case 3:
			content = nil
		}
		if err := os.WriteFile(path, content, 0o666); err != nil {
			t.Fatal(err)
		}
		damaged++
	}
	s, gets := j.life(3)
	if damaged < 4 || gets == 0 || s.LocalObjects != 0 || s.LocalDamaged == 0 || s.Objects != int64(gets) {
		t.Errorf("%d copies were damaged, %d objects read from the store: %+v", damaged, gets, s)
	}
	// What was fetched is the copy now.
	var one string
	for o := range newestManifest(t, j.mem).Operator("count").Tasks[0].Keyed.ContentObjects() {
		one = url.QueryEscape(o.Key)
	}
	for _, path := range j.objects() {
		if filepath.Base(path) == one {
			continue
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if s, gets = j.life(3); s.LocalObjects != 1 || gets == 0 || gets != int(s.Objects) {
		t.Errorf("with one copy, %d objects were read from the store: %+v", gets, s)
	}
	run(t, j.graph(), j.cfg)
	j.out.check(t, j.src.splits, j.src.records)
}

// Only copies of this very job are used: not those of another one of its name.
func TestLocalStateOfAnotherJobOfTheName(t *testing.T) {
	j := newLocalJob(t, 1)
	j.life(4)
	old := j.objects()
	if len(old) == 0 {
		t.Fatal("no copies")
	}
	other := newLocalJob(t, 1)
	other.cfg.StateDir = j.cfg.StateDir
	if s, _ := other.life(4); s.LocalObjects != 0 {
		t.Errorf("a new job was restored from %+v", s)
	}
	if _, err := os.Stat(old[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("copies of a job that is gone: %v", err)
	}
}

// A second process on a state directory works without copies, and leaves those
// of the first alone.
func TestTwoProcessesOnOneStateDirectory(t *testing.T) {
	j := newLocalJob(t, 1)
	var second engine.Started
	var kept []string
	first := j.cfg
	completed := 0
	first.Events.Checkpoints.Completed = func(coordinator.Completed) {
		if completed++; completed != 3 {
			return
		}
		kept = j.objects()
		cfg := j.cfg
		cfg.Events.Started = func(s engine.Started) { second = s }
		interrupt(t, counting(j.src, j.out, nil, engine.MaxParallelism(16)), cfg, 2)
		for _, path := range kept {
			if _, err := os.Stat(path); err != nil {
				t.Error(err)
			}
		}
	}
	err := engine.Run(t.Context(), j.graph(), first)
	if !errors.Is(err, engine.ErrFenced) {
		t.Errorf("the first process: %v", err)
	}
	if len(kept) == 0 || second.Restored == 0 || second.State.LocalObjects != 0 || second.State.RemoteObjects == 0 {
		t.Errorf("the second process beside %d copies: %+v", len(kept), second)
	}
	run(t, j.graph(), j.cfg)
	j.out.check(t, j.src.splits, j.src.records)
}

// The copies are bounded, by what the newest checkpoint needs and by bytes, and
// there are none if the user wants none.
func TestLocalDiskIsBounded(t *testing.T) {
	for name, recovery := range map[string]engine.LocalRecovery{
		"names": {}, "bytes": {MaxBytes: 4 << 10}, "disabled": {Disabled: true},
	} {
		t.Run(name, func(t *testing.T) {
			j := newLocalJob(t, 2)
			j.life(5)
			j.cfg.LocalRecovery = recovery
			j.life(10)
			var size int64
			for _, path := range j.objects() {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				size += info.Size()
			}
			switch n := len(j.objects()); name {
			case "names":
				// The newest one's, one pending, and what a base under way has.
				m := newestManifest(t, j.mem)
				if limit := 4 * int(m.Stats.Objects); n == 0 || n > limit {
					t.Errorf("%d copies, want 1 to %d", n, limit)
				}
			case "bytes":
				if n == 0 || size > recovery.MaxBytes {
					t.Errorf("%d copies of %d bytes", n, size)
				}
			case "disabled":
				if n != 0 {
					t.Errorf("%d copies", n)
				}
			}
			run(t, j.graph(), j.cfg)
			j.out.check(t, j.src.splits, j.src.records)
		})
	}
}

// F79: the state directory is removed while the job runs: its tasks fail, and
// recover from the store.
func TestF79_StateDirectoryRemoved(t *testing.T) {
	j := newLocalJob(t, 2)
	completed, restarts := 0, 0
	j.cfg.Events.Checkpoints.Completed = func(coordinator.Completed) {
		if completed++; completed%6 == 3 && restarts < 2 {
			if err := os.RemoveAll(filepath.Join(j.cfg.StateDir, "count-"+head(t, j.mem).UUID)); err != nil {
				t.Log(err) // the job writes there
			}
		}
	}
	j.cfg.Events.Failed = func(engine.Failed) { restarts++ }
	run(t, j.graph(), j.cfg)
	j.out.check(t, j.src.splits, j.src.records)
	if restarts == 0 {
		t.Error("nothing failed")
	}
}
