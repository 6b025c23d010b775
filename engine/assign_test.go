package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine/keygroup"
	"github.com/ckpt-io/ckpt/manifest"
)

func operatorOf(parallelism, splits, handles int) *manifest.Operator {
	op := &manifest.Operator{UID: "op", Parallelism: parallelism}
	for i := range parallelism {
		op.Tasks = append(op.Tasks, manifest.Task{Index: i})
	}
	for i := range splits {
		t := &op.Tasks[i%parallelism]
		t.Splits = append(t.Splits, manifest.Split{ID: fmt.Sprint("s", i)})
	}
	for i := range handles {
		t := &op.Tasks[i%parallelism]
		t.Handles = append(t.Handles, []byte(fmt.Sprint("h", i)))
	}
	return op
}

// Splits and handles are dealt evenly, none lost and none doubled, at any
// parallelism.
func TestB49_AssignOperatorState(t *testing.T) {
	for _, tc := range []struct{ from, to, items int }{{1, 3, 7}, {3, 1, 7}, {4, 3, 2}, {2, 2, 0}, {5, 7, 23}} {
		n := &node{uid: "op"}
		p := &plan{parallelism: map[*node]int{n: tc.to}, maxParallelism: map[*node]int{n: 16}}
		var splits, handles []string
		for _, task := range p.assign(n, operatorOf(tc.from, tc.items, tc.items)) {
			if most := (tc.items + tc.to - 1) / tc.to; len(task.Splits) > most || len(task.Handles) > most {
				t.Errorf("%+v: subtask %d has %d splits and %d handles, want at most %d", tc, task.Index, len(task.Splits), len(task.Handles), most)
			}
			for _, s := range task.Splits {
				splits = append(splits, s.ID)
			}
			for _, h := range task.Handles {
				handles = append(handles, string(h))
			}
		}
		slices.Sort(splits)
		slices.Sort(handles)
		if len(splits) != tc.items || len(slices.Compact(splits)) != tc.items {
			t.Errorf("%+v: splits are %v", tc, splits)
		}
		if len(handles) != tc.items || len(slices.Compact(handles)) != tc.items {
			t.Errorf("%+v: handles are %v", tc, handles)
		}
	}
}

// Keyed state goes to the owners of its key groups; what was reserved only to
// the very same task.
func TestAssignKeyedState(t *testing.T) {
	op := &manifest.Operator{UID: "op", MaxParallelism: 16}
	for i := range 2 {
		r := keygroup.Range(16, 2, i)
		op.Tasks = append(op.Tasks, manifest.Task{
			Index:    i,
			Keyed:    &manifest.KeyedState{KeyGroups: r, Deltas: []manifest.Delta{{Position: 1, Object: manifest.Object{Key: fmt.Sprint("d", i)}}}},
			Reserved: []manifest.Object{{Key: fmt.Sprint("r", i)}},
		})
	}
	n := &node{uid: "op", role: roleKeyed}
	for _, tc := range []struct {
		parallelism int
		want        string
	}{
		{2, "0-7 d0 r0 / 8-15 d1 r1"},
		{1, "0-15 d0 d1"},
		{3, "0-5 d0 / 6-10 d0 d1 / 11-15 d1"},
	} {
		p := &plan{parallelism: map[*node]int{n: tc.parallelism}, maxParallelism: map[*node]int{n: 16}}
		var got []string
		for _, task := range p.assign(n, op) {
			words := []string{task.Keyed.KeyGroups.String()}
			for o := range task.Keyed.NeededObjects() {
				words = append(words, o.Key)
			}
			for _, o := range task.Reserved {
				words = append(words, o.Key)
			}
			got = append(got, strings.Join(words, " "))
		}
		if s := strings.Join(got, " / "); s != tc.want {
			t.Errorf("parallelism %d: got %s, want %s", tc.parallelism, s, tc.want)
		}
	}
}

// commits records what a sink was told to commit.
type commits struct{ got []string }

func (c *commits) Writer(SinkContext) (SinkWriter[int], error) { return c, nil }
func (c *commits) Recover(context.Context, [][]byte) error     { return nil }
func (c *commits) Write(int) error                             { return nil }
func (c *commits) Close() error                                { return nil }

func (c *commits) Prepare(_ context.Context, id manifest.ID) ([][]byte, error) {
	return [][]byte{[]byte(fmt.Sprint("tx", uint64(id)))}, nil
}

func (c *commits) Commit(_ context.Context, handles [][]byte) error {
	for _, h := range handles {
		c.got = append(c.got, string(h))
	}
	return nil
}

// A notice commits the transactions of all checkpoints up to its own, those
// of aborted ones and of missed notices too, and none of later ones.
func TestB67_F105_SinkCommits(t *testing.T) {
	for name, tc := range map[string]struct{ events, want string }{
		"in order":         {"1 2 c1 c2", "tx1 / tx2"},
		"notice 1 is lost": {"1 2 c2", "tx1 tx2"},
		"only the first":   {"1 2 c1", "tx1"},
		"1 was aborted":    {"1 a1 2 c2", "tx1 tx2"},
		"doubled":          {"1 c1 c1", "tx1"},
		"late":             {"1 2 c2 c1", "tx1 tx2"},
		"between two":      {"1 c1 2 3 c2", "tx1 / tx2"},
	} {
		t.Run(name, func(t *testing.T) {
			sink := &commits{}
			var active *subtask
			sub := &subtask{node: &node{uid: "out"}, active: &active}
			op, err := newSinkOp(sub, sink)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, ev := range strings.Fields(tc.events) {
				var id manifest.ID
				switch fmt.Sscan(strings.TrimLeft(ev, "ac"), &id); ev[0] {
				case 'c':
					err = op.completed(t.Context(), id)
				case 'a':
					op.aborted(id)
				default:
					_, err = op.snapshot(t.Context(), coordinator.Trigger{ID: id})
				}
				if err != nil {
					t.Fatal(err)
				}
				if len(sink.got) > 0 {
					got = append(got, strings.Join(sink.got, " "))
					sink.got = nil
				}
			}
			if s := strings.Join(got, " / "); s != tc.want {
				t.Errorf("committed %s, want %s", s, tc.want)
			}
		})
	}
}

// What a checkpoint names of a sink is everything prepared and not yet
// committed.
func TestSinkHandlesOfAbortedCheckpoint(t *testing.T) {
	var active *subtask
	op, err := newSinkOp(&subtask{node: &node{uid: "out"}, active: &active}, &commits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := op.snapshot(t.Context(), coordinator.Trigger{ID: 1}); err != nil {
		t.Fatal(err)
	}
	op.aborted(1)
	p, err := op.snapshot(t.Context(), coordinator.Trigger{ID: 2})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.handles) != 2 {
		t.Errorf("checkpoint 2 names %d transactions, want both", len(p.handles))
	}
}

func TestCheckSplits(t *testing.T) {
	for _, tc := range []struct {
		ids  []string
		want error
	}{
		{nil, nil},
		{[]string{"a", "b"}, nil},
		{[]string{"a", "b", "a"}, errSplits},
		{[]string{""}, errSplits},
		{[]string{"\xff"}, errSplits},
	} {
		var splits []manifest.Split
		for _, id := range tc.ids {
			splits = append(splits, manifest.Split{ID: id})
		}
		if err := checkSplits(splits); !errors.Is(err, tc.want) {
			t.Errorf("%q: got %v, want %v", tc.ids, err, tc.want)
		}
	}
}
