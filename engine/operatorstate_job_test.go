package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// remembering is a counter whose subtasks keep what they have seen, in state of
// their own.
type remembering struct {
	counter
	ctx      *engine.KeyedContext
	seen     [][]byte
	parts    int // of the union state when it was restored
	restored *atomic.Int64
}

func (r *remembering) Open(ctx *engine.KeyedContext) error {
	r.ctx = ctx
	return r.counter.Open(ctx)
}

func (r *remembering) RestoreState(states []manifest.OperatorState) error {
	for _, s := range states {
		r.restored.Add(1)
		switch s.Name {
		case "seen":
			r.seen = slices.Clone(s.Items)
		case "members":
			r.parts = len(s.Items)
		case "rules":
			if len(s.Items) != 1 || string(s.Items[0]) != "rule" {
				return fmt.Errorf("rules are %q", s.Items)
			}
		}
	}
	return nil
}

func (r *remembering) SnapshotState(manifest.ID) ([]manifest.OperatorState, error) {
	return []manifest.OperatorState{
		{Name: "seen", Mode: manifest.ListState, Items: slices.Clone(r.seen)},
		{Name: "members", Mode: manifest.UnionState, Items: [][]byte{fmt.Append(nil, r.ctx.Subtask)}},
		{Name: "rules", Mode: manifest.BroadcastState, Items: [][]byte{[]byte("rule")}},
	}, nil
}

func (r *remembering) Process(key string, in record, emit func(counted)) error {
	r.seen = append(r.seen, fmt.Appendf(nil, "%d/%d", in.Split, in.Seq))
	return r.counter.Process(key, in, emit)
}

// B49: a job's operator state follows changes of the parallelism: every item of
// the list is there once at the end, whatever was captured and restored between.
func TestB49_OperatorStateOfAJob(t *testing.T) {
	store, out := objectstore.NewMem(), newWorld()
	var restored atomic.Int64
	graph := func() *engine.Job {
		job := engine.NewJob("count")
		records := engine.From(job, "numbers", &numbers{splits: 3, records: 200, chunk: 20})
		counts := engine.Process(engine.KeyBy(records, state.String, word), "count",
			func() engine.KeyedFunc[string, record, counted] { return &remembering{restored: &restored} })
		engine.To(counts, "out", out)
		return job
	}
	for _, parallelism := range []int{1, 3, 2, 2} {
		interrupt(t, graph(), config(t, store, parallelism), 2)
	}
	run(t, graph(), config(t, store, 4))
	out.check(t, 3, 200)
	if restored.Load() == 0 {
		t.Error("nothing was restored")
	}
	var seen []string
	op := newestManifest(t, store).Operator("count")
	for _, task := range op.Tasks {
		for _, s := range task.OperatorStates {
			if s.Name == "seen" {
				for _, item := range s.Items {
					seen = append(seen, string(item))
				}
			}
		}
	}
	slices.Sort(seen)
	if n := len(seen); n != 600 || len(slices.Compact(seen)) != 600 {
		t.Errorf("%d items in the list state, want 600 that differ", n)
	}
}

// B49: operator state that nobody takes is not dropped in silence.
func TestB49_OperatorStateNobodyTakes(t *testing.T) {
	store, out := objectstore.NewMem(), newWorld()
	src := &numbers{splits: 1, records: 100, chunk: 10}
	graph := func(f func() engine.KeyedFunc[string, record, counted]) *engine.Job {
		job := engine.NewJob("count")
		counts := engine.Process(engine.KeyBy(engine.From(job, "numbers", src), state.String, word), "count", f)
		engine.To(counts, "out", out)
		return job
	}
	var restored atomic.Int64
	interrupt(t, graph(func() engine.KeyedFunc[string, record, counted] { return &remembering{restored: &restored} }), config(t, store, 1), 2)
	cfg := config(t, store, 1)
	cfg.Restart = engine.FixedDelay(0, 0)
	err := engine.Run(t.Context(), graph(newCounter), cfg)
	var te *engine.TaskError
	if !errors.As(err, &te) || !strings.Contains(err.Error(), `operator state "members"`) {
		t.Errorf("got %v", err)
	}
	cfg.AllowNonRestoredState = true
	run(t, graph(newCounter), cfg)
	out.check(t, 1, 100)
}
