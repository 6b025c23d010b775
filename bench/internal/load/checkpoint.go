package load

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/engine/keygroup"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/retention"
)

// Checkpoint is one that was committed.
type Checkpoint struct {
	ID manifest.ID
	// Total is trigger → commit. Tasks have T_i and its phases.
	Total, TMax time.Duration
	Commit      time.Duration // manifest and HEAD
	Tasks       []manifest.TaskStats
	NewBytes    int64 // deltas
	BaseBytes   int64 // materialization
	Changed     int64
	// New are the data objects this checkpoint names and the one before did
	// not.
	New []manifest.Object
	// ManifestBytes and HeadBytes are what a commit writes.
	ManifestBytes int64
}

// Checkpoint takes one: trigger, capture, upload, report, commit. What it
// retires is deleted by Collect.
func (j *Job) Checkpoint(ctx context.Context) (*Checkpoint, error) {
	begin := time.Now()
	id := j.id
	j.id++
	pending := make([]*state.Pending, len(j.Tasks))
	for i, t := range j.Tasks {
		pending[i] = t.Capture(state.Trigger{ID: id, OldestBase: j.base, Kind: manifest.Periodic})
	}
	tasks := make([]manifest.Task, len(j.Tasks))
	g, gctx := errgroup.WithContext(ctx)
	for i, p := range pending {
		g.Go(func() error {
			keyed, reserved, stats, err := p.Wait(gctx)
			if err != nil {
				return fmt.Errorf("checkpoint %d, task %d: %w", id, i, err)
			}
			stats.Total = time.Since(begin)
			tasks[i] = manifest.Task{Index: i, Keyed: keyed, Reserved: reserved, Stats: stats}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	c := &Checkpoint{ID: id}
	m := j.compose(id, begin, tasks, c)
	reported := time.Now()
	entry, err := j.owner.Commit(ctx, m, func(h catalog.Head) []manifest.ID {
		return retention.Policy{Keep: keep}.Retire(h.Checkpoints)
	})
	if err != nil {
		return nil, err
	}
	c.Commit, c.Total = time.Since(reported), time.Since(begin)
	c.ManifestBytes = entry.ManifestSize
	c.New = newObjects(j.manifest, m)
	j.collector.Committed(entry, m)
	j.manifest, j.base = m, id
	return c, nil
}

// compose makes the manifest, and the figures of the checkpoint.
func (j *Job) compose(id manifest.ID, begin time.Time, tasks []manifest.Task, c *Checkpoint) *manifest.Manifest {
	m := &manifest.Manifest{
		Job: jobName, ID: id, Epoch: j.owner.Epoch(), Kind: manifest.Periodic, Base: j.base, Time: begin,
		Operators: []manifest.Operator{{
			UID: operator, Parallelism: len(tasks), MaxParallelism: groups, Hasher: keygroup.Default.Name(), Tasks: tasks,
		}},
		Stats: manifest.Stats{Duration: time.Since(begin)},
	}
	for _, t := range tasks {
		c.TMax = max(c.TMax, t.Stats.Total)
		c.Tasks = append(c.Tasks, t.Stats)
		c.NewBytes += t.Stats.NewBytes
		c.BaseBytes += t.Stats.BaseBytes
		c.Changed += t.Stats.ChangedBytes
	}
	m.Stats.TMax, m.Stats.NewBytes = c.TMax, c.NewBytes
	for o := range needed(m) {
		m.Stats.FullBytes += o.Size
		m.Stats.Objects++
	}
	return m
}

// needed are the objects that a restore reads, each once.
func needed(m *manifest.Manifest) map[manifest.Object]bool {
	out := make(map[manifest.Object]bool)
	if m == nil {
		return out
	}
	for _, op := range m.Operators {
		for _, t := range op.Tasks {
			for o := range t.Keyed.NeededObjects() {
				out[o] = true
			}
		}
	}
	return out
}

func newObjects(before, after *manifest.Manifest) (added []manifest.Object) {
	old := needed(before)
	for o := range needed(after) {
		if !old[o] {
			added = append(added, o)
		}
	}
	return added
}

// Needed are the objects that a restore of the newest checkpoint reads.
func (j *Job) Needed() (out []manifest.Object) {
	for o := range needed(j.manifest) {
		out = append(out, o)
	}
	return out
}

// Collect deletes what the last checkpoint retired.
func (j *Job) Collect(ctx context.Context) error {
	_, err := j.collector.Collect(ctx, j.owner.Head())
	return err
}

// maxSettling bounds the checkpoints of Settle.
const maxSettling = 200

// Settle takes checkpoints of next to nothing until the state of each task is
// a base and at most a few small deltas. The job was opened with a policy that
// makes a base whenever it may.
func (j *Job) Settle(ctx context.Context) error {
	for range maxSettling {
		if err := j.Change(len(j.Tasks)); err != nil {
			return err
		}
		if _, err := j.Checkpoint(ctx); err != nil {
			return err
		}
		if err := j.Collect(ctx); err != nil {
			return err
		}
		if j.settled() {
			return nil
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
	return fmt.Errorf("no base after %d checkpoints", maxSettling)
}

func (j *Job) settled() bool {
	for _, t := range j.manifest.Operator(operator).Tasks {
		if len(t.Keyed.Pieces) != 1 || t.Keyed.Pieces[0].Base == nil || len(t.Keyed.Pieces[0].Deltas) > 0 {
			return false
		}
		for _, d := range t.Keyed.Deltas {
			if d.Entries > 1000 {
				return false
			}
		}
	}
	return true
}
