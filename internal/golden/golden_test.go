package golden

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/file"
	"github.com/ckpt-io/ckpt/engine/connector/filesink"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/examples/text"
	"github.com/ckpt-io/ckpt/examples/wordcount/job"
	"github.com/ckpt-io/ckpt/internal/wordcheck"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	objectfile "github.com/ckpt-io/ckpt/objectstore/file"
)

const jobName = "golden"

var update = flag.String("update", "", "write a new `version`'s job to testdata; the ones there are never written again")

// runJob runs the job in dir: input.txt, store and output there.
func runJob(t *testing.T, dir string, limiter *rate.Limiter, cfg engine.Config) error {
	t.Helper()
	store, err := objectfile.Open(filepath.Join(dir, "store"), objectfile.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	lines, err := file.New(filepath.Join(dir, "input.txt"), file.Options{SplitBytes: 4 << 10, BatchLines: 5})
	if err != nil {
		t.Fatal(err)
	}
	meter := job.Meter{Limiter: limiter}
	graph := job.New(jobName, meter.Over(lines), filesink.New(filepath.Join(dir, "output"), job.AppendLine))
	cfg.Store, cfg.StateDir, cfg.Restart = store, t.TempDir(), engine.NoRestart()
	return engine.Run(t.Context(), graph, cfg)
}

// TestGenerate writes a job that was stopped in the middle of its input, with
// -update.
func TestGenerate(t *testing.T) {
	if *update == "" {
		t.Skip("nothing to write without -update")
	}
	dir := filepath.Join("testdata", *update)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	input := strings.Join(strings.SplitAfterN(text.Opticks, "\n", 401)[:400], "")
	if err := os.WriteFile(filepath.Join(dir, "input.txt"), []byte(input), 0o644); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	completed := 0
	err := runJob(t, dir, rate.NewLimiter(300, 10), engine.Config{
		Parallelism: 2, Stop: stop,
		Checkpoint:  coordinator.Config{Interval: 100 * time.Millisecond, Keep: 2},
		Materialize: state.MaterializePolicy{MaxDeltas: 3},
		Events: engine.Events{Checkpoints: coordinator.Listener{Completed: func(coordinator.Completed) {
			if completed++; completed == 6 {
				close(stop)
			}
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, scratch := range []string{"store/.tmp", "store/" + jobName + "/probe", "output/.pending"} {
		if err := os.RemoveAll(filepath.Join(dir, filepath.FromSlash(scratch))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestF53_EveryVersionGoesOn resumes what each version stored, at another
// parallelism, and ends with exactly the output of a job that never stopped.
func TestF53_EveryVersionGoesOn(t *testing.T) {
	versions, err := os.ReadDir("testdata")
	if err != nil || len(versions) == 0 {
		t.Fatalf("testdata holds %d versions, %v", len(versions), err)
	}
	for _, v := range versions {
		for _, parallelism := range []int{1, 2, 3} {
			t.Run(v.Name()+"/"+string(rune('0'+parallelism)), func(t *testing.T) {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", v.Name()))); err != nil {
					t.Fatal(err)
				}
				stopped := newest(t, dir)
				if stopped.Kind != manifest.Stop {
					t.Fatalf("the stored job's newest checkpoint is of kind %q, want stop", stopped.Kind)
				}
				var once sync.Once
				var restored manifest.ID
				err := runJob(t, dir, nil, engine.Config{
					Parallelism: parallelism,
					Events:      engine.Events{Started: func(s engine.Started) { once.Do(func() { restored = s.Restored }) }},
				})
				if err != nil {
					t.Fatal(err)
				}
				if restored != stopped.ID {
					t.Errorf("went on from checkpoint %d, want %d", restored, stopped.ID)
				}
				input, err := os.ReadFile(filepath.Join(dir, "input.txt"))
				if err != nil {
					t.Fatal(err)
				}
				report, err := wordcheck.Check(filepath.Join(dir, "output"), wordcheck.Count(string(input)), wordcheck.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if !report.OK() {
					t.Error(report)
				}
			})
		}
	}
}

// TestGoldenJobsHoldEverything: the stored jobs are worth going on from: they
// have a base, deltas over it, and input left to read.
func TestGoldenJobsHoldEverything(t *testing.T) {
	versions, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range versions {
		store, err := objectfile.Open(filepath.Join(dir, "store"), objectfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		cat := catalog.New(objectstore.Prefix(store, jobName), jobName)
		m, err := cat.Manifest(t.Context(), newest(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		bases, deltas := 0, 0
		for _, task := range m.Operator("count").Tasks {
			deltas += len(task.Keyed.Deltas)
			for _, p := range task.Keyed.Pieces {
				if p.Base != nil {
					bases++
				}
			}
		}
		if bases == 0 || deltas == 0 {
			t.Errorf("%s: %d bases and %d deltas, want some of both", dir, bases, deltas)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

func newest(t *testing.T, dir string) catalog.Entry {
	t.Helper()
	store, err := objectfile.Open(filepath.Join(dir, "store"), objectfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	head, err := catalog.New(objectstore.Prefix(store, jobName), jobName).Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, ok := head.Newest()
	if !ok {
		t.Fatal(errors.Join(fs.ErrNotExist, errors.New("no checkpoint")))
	}
	return e
}
