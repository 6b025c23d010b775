package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ckpt-io/ckpt/manifest"
)

// OperatorStater is a KeyedFunc with state of its own that belongs to no key:
// lists of items, each with a name and a mode that says which subtask gets what
// when the parallelism changes (manifest.ListState, UnionState, BroadcastState).
// It is small, for it stands in every checkpoint's manifest.
type OperatorStater interface {
	// RestoreState is called once, after Open and before the first record,
	// with what is restored of each state, ordered by name; there may be none.
	// At the parallelism that it was captured at, a subtask gets the items of
	// a list state that it gave itself.
	RestoreState(states []manifest.OperatorState) error
	// SnapshotState returns all states of this subtask as they are at
	// checkpoint id. It is part of the pause at a barrier. The engine keeps
	// the slices.
	SnapshotState(id manifest.ID) ([]manifest.OperatorState, error)
}

// restoreStates hands a function the operator state that it is restored from.
func (s *subtask) restoreStates(f any) error {
	states := s.restored.OperatorStates
	if o, ok := f.(OperatorStater); ok {
		return o.RestoreState(states)
	}
	if len(states) > 0 && !s.dropState {
		return fmt.Errorf("checkpoint has the operator state %q, and %T is no OperatorStater to take it", states[0].Name, f)
	}
	return nil
}

// snapshotStates captures the operator state of a function.
func snapshotStates(f any, id manifest.ID) ([]manifest.OperatorState, error) {
	o, ok := f.(OperatorStater)
	if !ok {
		return nil, nil
	}
	states, err := o.SnapshotState(id)
	if err != nil {
		return nil, err
	}
	states = slices.Clone(states)
	slices.SortFunc(states, func(a, b manifest.OperatorState) int { return strings.Compare(a.Name, b.Name) })
	return states, manifest.ValidateOperatorStates(states)
}

// deal deals the items of some lists out over n others, round robin, in order.
func deal[T any](from [][]T, n int) [][]T {
	to := make([][]T, n)
	i := 0
	for _, list := range from {
		for _, item := range list {
			to[i%n] = append(to[i%n], item)
			i++
		}
	}
	return to
}

// redistribute gives the operator states of n subtasks, from those of the
// subtasks that captured them. Of a list state each item goes to one subtask,
// to its own if their number is the same; of a union state all items go to all;
// of a broadcast state each subtask gets a copy of one, of its own if it had it.
func redistribute(from [][]manifest.OperatorState, n int) [][]manifest.OperatorState {
	parts := make(map[string][]statePart)
	for i, states := range from {
		for _, s := range states {
			parts[s.Name] = append(parts[s.Name], statePart{i, s})
		}
	}
	to := make([][]manifest.OperatorState, n)
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		mode := parts[name][0].Mode
		for i, items := range divide(mode, parts[name], len(from), n) {
			to[i] = append(to[i], manifest.OperatorState{Name: name, Mode: mode, Items: items})
		}
	}
	return to
}

// statePart is what one subtask captured of a state.
type statePart struct {
	subtask int
	manifest.OperatorState
}

// divide gives the items of one state that each of n subtasks gets, of the parts
// that some of the subtasks before, so many, had of it.
func divide(mode manifest.Redistribution, parts []statePart, before, n int) [][][]byte {
	var lists [][][]byte
	for _, p := range parts {
		lists = append(lists, p.Items)
	}
	to := make([][][]byte, n)
	switch mode {
	case manifest.UnionState:
		for i := range to {
			to[i] = slices.Concat(lists...)
		}
	case manifest.BroadcastState:
		for i := range to {
			to[i] = slices.Clone(lists[i%len(lists)])
		}
		for _, p := range parts {
			if p.subtask < n {
				to[p.subtask] = slices.Clone(p.Items)
			}
		}
	default:
		if before != n {
			return deal(lists, n)
		}
		for _, p := range parts {
			to[p.subtask] = slices.Clone(p.Items)
		}
	}
	return to
}
