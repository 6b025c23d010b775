package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/engine/keygroup"
	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
)

// B49: at any parallelism the items of a list state are each in one subtask,
// evenly, those of a union state in all, and a broadcast state is in all as it
// was in one. None is lost, none doubled.
func TestB49_RedistributeOperatorState(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 49))
	for range 500 {
		before, after := 1+r.IntN(9), 1+r.IntN(9)
		from := make([][]manifest.OperatorState, before)
		var list, union []string
		parts := make(map[string]int)
		for i := range from {
			var l, u [][]byte
			for k := range r.IntN(6) {
				l = append(l, fmt.Appendf(nil, "l%d.%d", i, k))
				list = append(list, string(l[k]))
				u = append(u, fmt.Appendf(nil, "u%d.%d", i, k))
				union = append(union, string(u[k]))
			}
			from[i] = []manifest.OperatorState{
				{Name: "b", Mode: manifest.BroadcastState, Items: [][]byte{fmt.Append(nil, "b", i), {1}}},
				{Name: "l", Mode: manifest.ListState, Items: l},
			}
			if r.IntN(3) > 0 { // a subtask may have none of a state
				from[i] = append(from[i], manifest.OperatorState{Name: "u", Mode: manifest.UnionState, Items: u})
				parts["u"]++
			} else {
				union = union[:len(union)-len(u)]
			}
		}
		var dealt []string
		most := 0
		for i, states := range redistribute(from, after) {
			if err := manifest.ValidateOperatorStates(states); err != nil {
				t.Fatal(err)
			}
			got := make(map[string][]string)
			for _, s := range states {
				got[s.Name] = texts(s.Items)
			}
			dealt = append(dealt, got["l"]...)
			most = max(most, len(got["l"]))
			if parts["u"] > 0 && !slices.Equal(got["u"], union) {
				t.Fatalf("%d to %d: subtask %d has %v of the union %v", before, after, i, got["u"], union)
			}
			own := i % before
			if want := []string{fmt.Sprint("b", own), "\x01"}; !slices.Equal(got["b"], want) {
				t.Fatalf("%d to %d: subtask %d has the broadcast state %v, want %v", before, after, i, got["b"], want)
			}
			if before == after && !slices.Equal(got["l"], texts(from[i][1].Items)) {
				t.Fatalf("subtask %d of as many as before has %v, want its own", i, got["l"])
			}
		}
		if before != after && most > (len(list)+after-1)/after {
			t.Fatalf("%d to %d: a subtask has %d of %d items", before, after, most, len(list))
		}
		slices.Sort(dealt)
		slices.Sort(list)
		if !slices.Equal(dealt, list) {
			t.Fatalf("%d to %d: %v became %v", before, after, list, dealt)
		}
	}
}

func texts(items [][]byte) (out []string) {
	for _, item := range items {
		out = append(out, string(item))
	}
	return out
}

// keyedJob has keyed operators with these uids, all of one keyed stream.
func keyedJob(maxParallelism int, uids ...string) *Job {
	j := &Job{name: "j", maxParallelism: maxParallelism, hasher: keygroup.Default}
	j.nodes = append(j.nodes, &node{uid: "source", role: roleSource})
	for _, uid := range uids {
		j.nodes = append(j.nodes, &node{uid: uid, role: roleKeyed})
	}
	return j
}

// B51: keyed operators of one stream whose states were made with different max
// parallelism: each goes on with its own, and with one for all of the job it is
// refused. None is mapped to key groups that it was not made for.
func TestB51_KeyedOperatorsOfDifferentMaxParallelism(t *testing.T) {
	states := map[string]int{"a": 16, "b": 32}
	from := &manifest.Manifest{ID: 1}
	for _, uid := range slices.Sorted(maps.Keys(states)) {
		op := manifest.Operator{UID: uid, Parallelism: 1, MaxParallelism: states[uid], Hasher: keygroup.Default.Name()}
		all := manifest.KeyGroupRange{Last: uint16(states[uid] - 1)}
		op.Tasks = []manifest.Task{{Keyed: &manifest.KeyedState{KeyGroups: all, Deltas: []manifest.Delta{{Position: 1}}}}}
		from.Operators = append(from.Operators, op)
	}
	derived, err := newPlan(keyedJob(0, "a", "b"), 3, from)
	if err != nil {
		t.Fatal(err)
	}
	if reasons := derived.incompatible(from, false); len(reasons) > 0 {
		t.Errorf("refused: %v", reasons)
	}
	for _, n := range derived.job.nodes[1:] {
		groups := 0
		for _, task := range derived.assign(n, from.Operator(n.uid)) {
			groups += int(task.Keyed.KeyGroups.Last-task.Keyed.KeyGroups.First) + 1
		}
		if groups != states[n.uid] {
			t.Errorf("operator %q has %d key groups, want %d", n.uid, groups, states[n.uid])
		}
	}
	one, err := newPlan(keyedJob(16, "a", "b"), 3, from)
	if err != nil {
		t.Fatal(err)
	}
	reasons := one.incompatible(from, true) // also when state may be dropped
	if len(reasons) != 1 || !strings.Contains(reasons[0], `operator "b": max parallelism is 32 and cannot become 16`) {
		t.Errorf("refused for %q", reasons)
	}
}

// B52: state that is in no key groups is not divided.
func TestB52_StateWithoutKeyGroupsIsRefused(t *testing.T) {
	whole := manifest.KeyedState{Pieces: []manifest.Piece{{Base: &manifest.Base{Whole: true}}}}
	from := &manifest.Manifest{ID: 1, Operators: []manifest.Operator{{
		UID: "a", Parallelism: 1, MaxParallelism: 1, Hasher: incremental.WholeHasher, Tasks: []manifest.Task{{Keyed: &whole}},
	}}}
	for _, parallelism := range []int{1, 2} {
		p, err := newPlan(keyedJob(16, "a"), parallelism, from)
		if err != nil {
			t.Fatal(err)
		}
		if reasons := p.incompatible(from, true); !strings.Contains(strings.Join(reasons, "\n"), `keys are hashed by "none"`) {
			t.Errorf("parallelism %d: refused for %q", parallelism, reasons)
		}
	}
}
