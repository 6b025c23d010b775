package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
	"github.com/ckpt-io/ckpt/bench/internal/load"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/objectstore"
)

const (
	memoryRounds      = 3
	memoryOverlay     = 32 << 20
	memoryCache       = 64 << 20
	memoryCheckpoints = 3
)

// memoryWork is what a child process does, and measures its memory by.
type memoryWork struct {
	What             string // one of the constants below
	Endpoint, Prefix string
	Dir              string
	Tasks, Keys      int
}

const (
	workCheckpoint = "checkpoint"
	workEager      = "eager restore"
	workLazy       = "lazy restore, until hydrated"
)

// memoryUsed are the resident bytes of the child.
type memoryUsed struct{ Base, Peak int64 }

// BenchmarkMemory measures the resident memory of a process of its own: at its
// peak while it restores the state in either mode, and at its peak while it
// checkpoints a state that is written to faster than it can be saved, so that
// overlays and caches are full and their limits may be left out of account.
func BenchmarkMemory(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		if _, err := os.Stat("/proc/self/status"); err != nil {
			rec.skip(b, "memory", err)
			return
		}
		prefix := p.fixture(b, conf.stateMB, conf.tasks)
		work := memoryWork{Endpoint: p.server.Endpoint, Tasks: conf.tasks, Keys: load.Keys(int64(conf.stateMB) * mb)}
		for round := range memoryRounds {
			for figure, what := range map[string]string{figures.MemRestore: workEager, figures.MemLazy: workLazy} {
				work.What, work.Prefix = what, prefix
				used := work.start(b)
				rec.sample(figure, round, "MB", float64(used.Peak-used.Base)/mb/float64(conf.tasks), 0)
			}
			work.What, work.Prefix = workCheckpoint, p.clone(b, prefix)
			used := work.start(b)
			limits := int64(memoryCache + conf.tasks*memoryOverlay)
			rec.sample(figures.MemCheckpoint, round, "MB", float64(used.Peak-used.Base-limits)/mb/float64(conf.tasks), 0)
			rec.sample("memory of the whole process at its peak, during checkpoints", round, "MB", float64(used.Peak)/mb, 0)
			p.drop(b, work.Prefix)
		}
	})
	rec.report(b, figures.MemCheckpoint, "checkpoint-MB")
	rec.report(b, figures.MemRestore, "eager-MB")
	rec.report(b, figures.MemLazy, "lazy-MB")
}

// start runs the work in a child process.
func (w memoryWork) start(b *testing.B) (used memoryUsed) {
	b.Helper()
	var err error
	w.Dir, err = os.MkdirTemp(root, "memory")
	must(b, err)
	arg, err := json.Marshal(w)
	must(b, err)
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"="+string(arg))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v\n%s", w.What, err, errs.String())
	}
	must(b, json.Unmarshal(out.Bytes(), &used))
	must(b, os.RemoveAll(w.Dir))
	return used
}

// runChild is the child process.
func runChild(arg string) int {
	var w memoryWork
	err := json.Unmarshal([]byte(arg), &w)
	var used memoryUsed
	if err == nil {
		used, err = w.do(context.Background())
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(used)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (w memoryWork) do(ctx context.Context) (used memoryUsed, err error) {
	store, err := openS3(ctx, w.Endpoint)
	if err != nil {
		return used, err
	}
	own := load.Deal(w.Keys, w.Tasks) // as large as the job's own: it does not count
	debug.FreeOSMemory()
	if used.Base, err = resident("VmRSS"); err != nil {
		return used, err
	}
	mode := state.Eager
	if w.What == workLazy {
		mode = state.Lazy
	}
	j, err := load.OpenWith(ctx, load.Options{
		Store: objectstore.Prefix(store, w.Prefix), Dir: filepath.Join(w.Dir, "tasks"), Tasks: w.Tasks, Keys: w.Keys,
		Restore: mode, OverlayBytes: memoryOverlay, CacheBytes: memoryCache,
	}, own)
	if err != nil {
		return used, err
	}
	switch w.What {
	case workLazy:
		err = hydrated(j)
	case workCheckpoint:
		err = overload(ctx, j)
	}
	if err != nil {
		return used, errors.Join(err, j.Close())
	}
	if used.Peak, err = resident("VmHWM"); err != nil {
		return used, err
	}
	return used, j.Close()
}

// hydrated waits until all state is local.
func hydrated(j *load.Job) error {
	for _, t := range j.Tasks {
		select {
		case <-t.Hydrated():
		case <-time.After(5 * time.Minute):
			return errors.New("state is not hydrated after five minutes")
		}
	}
	return nil
}

// overload writes more than the overlays hold between checkpoints, and reads
// more than the cache holds. The peak of the memory is counted from here on,
// without what the restore took.
func overload(ctx context.Context, j *load.Job) error {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return err
	}
	for round := range memoryCheckpoints {
		var g errgroup.Group
		for i := range j.Tasks {
			g.Go(func() error {
				rng := rand.New(rand.NewPCG(uint64(round), uint64(i)))
				for range memoryCache / 4096 {
					if err := j.Read(i, rng); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		if err := j.Change(len(j.Tasks) * load.Keys(2*memoryOverlay)); err != nil {
			return err
		}
		if _, err := j.Checkpoint(ctx); err != nil {
			return err
		}
		if err := j.Collect(ctx); err != nil {
			return err
		}
	}
	return nil
}

// resident reads a line of /proc/self/status.
func resident(name string) (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no %s", name)
}
