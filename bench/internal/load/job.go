package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/engine/keygroup"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/retention"
)

const (
	jobName  = "bench"
	operator = "state"
	keep     = 3
)

// Options are a job's.
type Options struct {
	Store objectstore.Store // the job's own prefix
	Dir   string            // working state; removed by Close
	Tasks int
	Keys  int // of the whole state

	Restore      state.RestoreMode // empty means Eager: no hydration goes on beside what is measured
	OverlayBytes int64             // of each task; 0 means the default
	CacheBytes   int64             // of all; 0 means 64 MiB, the engine's default
	Materialize  state.MaterializePolicy
	// Hydrated, if not nil, is called for each lazily restored task.
	Hydrated func(task int, h state.Hydration)
}

// Job is a number of tasks that are checkpointed together. Its methods are
// called by one goroutine.
type Job struct {
	opts      Options
	owner     *catalog.Owner
	collector *retention.Collector
	caches    *state.Caches
	id, base  manifest.ID
	manifest  *manifest.Manifest // of the newest checkpoint

	// Tasks is the state of each, and Own which entries are its.
	Tasks []*state.Store
	Own   [][]int
	// Recovery says what opening took.
	Recovery Recovery

	seed   uint64
	failed chan error // holds the first of each task
}

// Recovery are the figures of opening a job.
type Recovery struct {
	TakeOver, Manifest time.Duration
	// R_i for each task: from the restore begun to its first entry read.
	Tasks []time.Duration
	Stats []incremental.RestoreStats
	Total time.Duration // R_max with everything before it
}

// Open takes the job over, restores its newest checkpoint, at whatever
// parallelism it was taken, and reads an entry of each task.
func Open(ctx context.Context, opts Options) (*Job, error) {
	return OpenWith(ctx, opts, Deal(opts.Keys, opts.Tasks))
}

// OpenWith is Open for a caller that has dealt the entries out already.
func OpenWith(ctx context.Context, opts Options, own [][]int) (*Job, error) {
	if opts.CacheBytes == 0 {
		opts.CacheBytes = 64 << 20
	}
	if opts.Restore == "" {
		opts.Restore = state.Eager
	}
	j := &Job{opts: opts, Own: own, failed: make(chan error, opts.Tasks)}
	begin := time.Now()
	cat := catalog.New(opts.Store, jobName)
	var err error
	if j.owner, err = cat.TakeOver(ctx, catalog.TakeOverOptions{}); err != nil {
		return nil, err
	}
	head := j.owner.Head()
	j.id = head.NextID
	j.Recovery.TakeOver = time.Since(begin)
	if newest, ok := head.Newest(); ok {
		if j.manifest, err = cat.Manifest(ctx, newest); err != nil {
			return nil, err
		}
		j.base = newest.ID
	}
	j.Recovery.Manifest = time.Since(begin) - j.Recovery.TakeOver
	j.collector = retention.NewCollector(cat, opts.Store, retention.CollectorOptions{Epoch: j.owner.Epoch()})
	j.caches = state.NewCaches(opts.CacheBytes, 1000)
	if err := j.openTasks(ctx); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	j.Recovery.Total = time.Since(begin)
	return j, nil
}

func (j *Job) openTasks(ctx context.Context) error {
	n := j.opts.Tasks
	j.Tasks = make([]*state.Store, n)
	j.Recovery.Tasks = make([]time.Duration, n)
	j.Recovery.Stats = make([]incremental.RestoreStats, n)
	var g errgroup.Group
	g.SetLimit(8) // as the engine
	for i := range n {
		g.Go(func() (err error) {
			begin := time.Now()
			if j.Tasks[i], err = state.Open(ctx, j.taskOptions(i)); err != nil {
				return err
			}
			if err := j.readOne(i, len(j.Own[i])/2); err != nil {
				return err
			}
			j.Recovery.Tasks[i] = time.Since(begin)
			j.Recovery.Stats[i] = j.Tasks[i].RestoreStats()
			return nil
		})
	}
	return g.Wait()
}

func (j *Job) taskOptions(i int) state.Options {
	opts := state.Options{
		Operator: operator, Subtask: i, KeyGroups: keygroup.Range(groups, j.opts.Tasks, i),
		Epoch: j.owner.Epoch(), NextID: j.id, Store: j.opts.Store,
		Dir: filepath.Join(j.opts.Dir, fmt.Sprint(i)), Caches: j.caches,
		OverlayBytes: j.opts.OverlayBytes, Materialize: j.opts.Materialize, Restore: j.opts.Restore,
		OnFailure: func(err error) {
			select {
			case j.failed <- err:
			default:
			}
		},
	}
	if j.opts.Hydrated != nil {
		opts.OnHydrated = func(h state.Hydration) { j.opts.Hydrated(i, h) }
	}
	if j.manifest == nil {
		return opts
	}
	var parents []manifest.KeyedState
	for _, t := range j.manifest.Operator(operator).Tasks {
		if _, overlaps := t.Keyed.KeyGroups.Intersect(opts.KeyGroups); overlaps {
			parents = append(parents, *t.Keyed)
		}
		if t.Keyed.KeyGroups == opts.KeyGroups {
			opts.Reserved = t.Reserved
		}
	}
	restored := incremental.Rescale(parents, opts.KeyGroups)
	opts.Restored = &restored
	return opts
}

// readOne reads an entry of a task, if there is a state to read.
func (j *Job) readOne(task, at int) error {
	if j.manifest == nil || len(j.Own[task]) == 0 {
		return nil
	}
	key := Key(nil, j.Own[task][at])
	v, ok, err := j.Tasks[task].Get(key)
	if err != nil {
		return err
	}
	if !ok || !sameValue(v) {
		return fmt.Errorf("task %d has %x of %d bytes for entry %d", task, v, len(v), j.Own[task][at])
	}
	return nil
}

// Read reads a random entry of a task.
func (j *Job) Read(task int, rng *rand.Rand) error {
	return j.readOne(task, rng.IntN(len(j.Own[task])))
}

// Fill writes every entry once.
func (j *Job) Fill() error {
	return j.each(func(i int, seed uint64) error { return Fill(j.Tasks[i], j.Own[i], NewValues(seed)) })
}

// Change overwrites so many entries of the whole state, chosen at random.
func (j *Job) Change(entries int) error {
	return j.each(func(i int, seed uint64) error {
		return Change(j.Tasks[i], j.Own[i], entries/len(j.Tasks), rand.New(rand.NewPCG(seed, 1)), NewValues(seed))
	})
}

// each runs f for all tasks at once, with seeds that never come back.
func (j *Job) each(f func(task int, seed uint64) error) error {
	var g errgroup.Group
	for i := range j.Tasks {
		j.seed++
		seed := j.seed<<16 | uint64(j.owner.Epoch())<<40
		g.Go(func() error { return f(i, seed) })
	}
	return g.Wait()
}

// Close ends the tasks and removes their files. What is stored stays.
func (j *Job) Close() error {
	var errs []error
	for _, t := range j.Tasks {
		if t != nil {
			errs = append(errs, t.Close())
		}
	}
	j.caches.Close()
	select {
	case err := <-j.failed:
		errs = append(errs, err)
	default:
	}
	return errors.Join(append(errs, os.RemoveAll(j.opts.Dir))...)
}
