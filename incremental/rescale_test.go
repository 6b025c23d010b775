package incremental

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// keyGroups gives a subtask's range, as engine/keygroup does.
func keyGroups(maxParallelism, parallelism, i int) manifest.KeyGroupRange {
	return manifest.KeyGroupRange{
		First: uint16((i*maxParallelism + parallelism - 1) / parallelism),
		Last:  uint16(((i+1)*maxParallelism - 1) / parallelism),
	}
}

// stage runs a job at one parallelism: restored, changed, checkpointed.
type stage struct {
	t      *testing.T
	r      *rand.Rand
	store  objectstore.Store
	max    int
	lazy   bool
	remote int64 // objects that restores left in the store
	epoch  manifest.Epoch
	id     manifest.ID
	states []manifest.KeyedState
	model  map[string]string
}

// at goes on at another parallelism. Every task must begin with the keys of
// its groups and no others.
func (s *stage) at(parallelism int) {
	s.t.Helper()
	s.epoch++
	restoredFrom := s.id
	s.id++
	states := make([]manifest.KeyedState, parallelism)
	model := make(map[string]string)
	for i := range parallelism {
		groups := keyGroups(s.max, parallelism, i)
		o := taskOptions{store: s.store, subtask: i, epoch: s.epoch, next: s.id, groups: groups, lazy: s.lazy, held: s.r.IntN(2) == 0}
		if s.states != nil {
			state := Rescale(s.states, groups)
			o.restored = &state
		}
		k := startTask(s.t, o)
		s.remote += k.stats.RemoteObjects
		what := fmt.Sprintf("task %d of %d", i, parallelism)
		sameState(s.t, k.model, inGroups(s.model, groups), what)
		checkDisjoint(s.t, o.restored, what)
		k.change(s.r, s.r.IntN(60))
		if s.r.IntN(3) == 0 {
			k.spill()
			k.materialize()
		}
		k.change(s.r, s.r.IntN(60))
		if s.r.IntN(4) == 0 {
			k.hydrate()
			k.spill()
			sameState(s.t, contents(s.t, k.db), k.model, what+" hydrated")
		}
		states[i], _ = k.checkpoint(s.id, restoredFrom)
		sameState(s.t, restored(s.t, s.store, states[i]), k.atCut, what+" after its checkpoint")
		maps.Copy(model, k.atCut)
		k.close()
	}
	s.states, s.model = states, model
}

func checkDisjoint(t *testing.T, state *manifest.KeyedState, what string) {
	t.Helper()
	if state == nil {
		return
	}
	next := int(state.KeyGroups.First)
	for _, p := range state.Pieces {
		if int(p.KeyGroups.First) < next || p.KeyGroups.Last > state.KeyGroups.Last {
			t.Fatalf("%s: piece %s overlaps another or leaves %s", what, p.KeyGroups, state.KeyGroups)
		}
		next = int(p.KeyGroups.Last) + 1
	}
}

// B45: rescaling up and down and back, in odd splits too, keeps every key in
// exactly one task, with its newest value.
func TestB45_RescaleSweep(t *testing.T) {
	for _, c := range []struct {
		max  int
		path []int
	}{
		{128, []int{1, 2, 1, 2, 8, 2, 7, 2, 3, 2, 8, 3, 7, 7, 1}},
		{64, []int{3, 64, 5, 4, 11}},
		{7, []int{7, 1, 3, 2, 5}},
		{1, []int{1, 1, 1}},
		{128, []int{1, 8, 3, 7}},
	} {
		seeds := uint64(1)
		if heavy() {
			seeds = 5
		}
		for seed := range seeds {
			for _, lazy := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d/%v/%d/lazy=%t", c.max, c.path, seed, lazy), func(t *testing.T) {
					s := &stage{t: t, r: rand.New(rand.NewPCG(seed, 2)), store: objectstore.NewMem(), max: c.max, lazy: lazy}
					for _, p := range c.path {
						s.at(p)
					}
					if lazy != (s.remote > 0) {
						t.Errorf("%d objects were left in the store", s.remote)
					}
				})
			}
		}
	}
}

func groups(first, last uint16) manifest.KeyGroupRange {
	return manifest.KeyGroupRange{First: first, Last: last}
}

func testDelta(position uint64) manifest.Delta {
	return manifest.Delta{Position: position, Object: manifest.Object{Key: fmt.Sprint("delta", position)}}
}

func testBase(name string) *manifest.Base {
	return &manifest.Base{Position: 9, Files: []manifest.File{{Name: "000001.sst", Object: manifest.Object{Key: name}}}}
}

func TestRescaleComposition(t *testing.T) {
	d1, d2, d3 := testDelta(1), testDelta(2), testDelta(3)
	base := testBase("a")
	left := manifest.KeyedState{
		KeyGroups: groups(0, 9),
		Pieces:    []manifest.Piece{{KeyGroups: groups(0, 9), Base: base}},
		Deltas:    []manifest.Delta{d1},
	}
	partly := manifest.KeyedState{ // nothing was ever in 10-11 and 14-19 before d3
		KeyGroups: groups(10, 19),
		Pieces:    []manifest.Piece{{KeyGroups: groups(12, 13), Base: base, Deltas: []manifest.Delta{d2}}},
		Deltas:    []manifest.Delta{d3},
	}
	empty := manifest.KeyedState{KeyGroups: groups(20, 29)}
	parents := []manifest.KeyedState{empty, partly, left}
	for _, c := range []struct {
		name string
		r    manifest.KeyGroupRange
		want manifest.KeyedState
	}{
		{"the same range is unchanged", groups(0, 9), left},
		{"the same range of an empty parent", groups(20, 29), empty},
		{"part of one parent", groups(3, 7), manifest.KeyedState{
			KeyGroups: groups(3, 7),
			Pieces:    []manifest.Piece{{KeyGroups: groups(3, 7), Base: base, Deltas: []manifest.Delta{d1}}},
		}},
		{"parts of all, deltas over the gaps too", groups(8, 25), manifest.KeyedState{
			KeyGroups: groups(8, 25),
			Pieces: []manifest.Piece{
				{KeyGroups: groups(8, 9), Base: base, Deltas: []manifest.Delta{d1}},
				{KeyGroups: groups(10, 11), Deltas: []manifest.Delta{d3}},
				{KeyGroups: groups(12, 13), Base: base, Deltas: []manifest.Delta{d2, d3}},
				{KeyGroups: groups(14, 19), Deltas: []manifest.Delta{d3}},
			},
		}},
		{"only of an empty parent", groups(21, 22), manifest.KeyedState{KeyGroups: groups(21, 22)}},
		{"of no parent", groups(40, 50), manifest.KeyedState{KeyGroups: groups(40, 50)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Rescale(parents, c.r); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// The halves of one base that come together again are one piece.
func TestRescaleJoinsPieces(t *testing.T) {
	whole := manifest.KeyedState{
		KeyGroups: groups(0, 9),
		Pieces:    []manifest.Piece{{KeyGroups: groups(0, 9), Base: testBase("a"), Deltas: []manifest.Delta{testDelta(4)}}},
	}
	halves := []manifest.KeyedState{
		Rescale([]manifest.KeyedState{whole}, groups(0, 3)),
		Rescale([]manifest.KeyedState{whole}, groups(4, 9)),
	}
	if got := Rescale(halves, groups(0, 9)); !reflect.DeepEqual(got, whole) {
		t.Errorf("got %+v, want %+v", got, whole)
	}
	halves[1].Deltas = []manifest.Delta{testDelta(1)}
	if got := Rescale(halves, groups(0, 9)); len(got.Pieces) != 2 {
		t.Errorf("pieces with different deltas were joined: %+v", got.Pieces)
	}
}

// Rescale leaves its arguments alone.
func TestRescaleOwnsResult(t *testing.T) {
	parent := manifest.KeyedState{
		KeyGroups: groups(0, 9),
		Pieces:    []manifest.Piece{{KeyGroups: groups(0, 9), Base: testBase("a"), Deltas: make([]manifest.Delta, 1, 8)}},
		Deltas:    append(make([]manifest.Delta, 0, 8), testDelta(1)),
	}
	before := slices.Clone(parent.Deltas[:8])
	for _, r := range []manifest.KeyGroupRange{groups(0, 9), groups(0, 4)} {
		got := Rescale([]manifest.KeyedState{parent}, r)
		got.Deltas = append(got.Deltas, testDelta(7))
		got.Pieces[0].Deltas = append(got.Pieces[0].Deltas, testDelta(8))
	}
	if after := parent.Deltas[:8]; !reflect.DeepEqual(after, before) {
		t.Errorf("parent's deltas changed to %v", after)
	}
}
