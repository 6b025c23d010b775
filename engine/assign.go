package engine

import (
	"fmt"

	"github.com/ckpt-io/ckpt/engine/keygroup"
	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
)

// incompatible returns why the plan cannot go on from a checkpoint.
func (p *plan) incompatible(from *manifest.Manifest, allowDropped bool) []string {
	var reasons []string
	refuse := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	nodes := make(map[string]*node)
	for _, n := range p.job.nodes {
		nodes[n.uid] = n
		op := from.Operator(n.uid)
		if op == nil || op.Hasher == "" || n.role != roleKeyed {
			continue
		}
		if have := p.maxParallelism[n]; op.MaxParallelism != have {
			refuse("operator %q: max parallelism is %d and cannot become %d", n.uid, op.MaxParallelism, have)
		}
		if have := p.hasher(n); op.Hasher != have {
			refuse("operator %q: keys are hashed by %q and cannot be by %q", n.uid, op.Hasher, have)
		}
	}
	if allowDropped {
		return reasons
	}
	for i := range from.Operators {
		op := &from.Operators[i]
		for _, what := range dropped(op, nodes[op.UID]) {
			refuse("operator %q: checkpoint %d has its %s, and the graph no operator to take them", op.UID, from.ID, what)
		}
	}
	return reasons
}

// dropped names what an operator's state holds that n, which may be nil, would
// not take.
func dropped(op *manifest.Operator, n *node) []string {
	var splits, handles, keyed, states bool
	for i := range op.Tasks {
		t := &op.Tasks[i]
		splits = splits || len(t.Splits) > 0
		handles = handles || len(t.Handles) > 0
		states = states || len(t.OperatorStates) > 0
		keyed = keyed || t.Keyed != nil && len(t.Keyed.Pieces)+len(t.Keyed.Deltas) > 0
	}
	var out []string
	add := func(have bool, taker role, what string) {
		if have && (n == nil || n.role != taker) {
			out = append(out, what)
		}
	}
	add(splits, roleSource, "source positions")
	add(handles, roleSink, "prepared output")
	add(keyed, roleKeyed, "keyed state")
	add(states, roleKeyed, "operator state")
	return out
}

// assign deals the state of an operator out over the subtasks it has now. op
// is nil if it has none. Splits and handles are dealt round robin, each to one
// subtask; operator states by their modes; key groups go to their owners.
func (p *plan) assign(n *node, op *manifest.Operator) []manifest.Task {
	parallelism := p.parallelism[n]
	tasks := make([]manifest.Task, parallelism)
	for i := range tasks {
		tasks[i].Index = i
	}
	if op == nil {
		return tasks
	}
	var splits [][]manifest.Split
	var handles [][][]byte
	var states [][]manifest.OperatorState
	var keyed []manifest.KeyedState
	for _, t := range op.Tasks {
		splits, handles, states = append(splits, t.Splits), append(handles, t.Handles), append(states, t.OperatorStates)
		if t.Keyed != nil {
			keyed = append(keyed, *t.Keyed)
		}
	}
	splits, handles, states = deal(splits, parallelism), deal(handles, parallelism), redistribute(states, parallelism)
	for i := range tasks {
		tasks[i].Splits, tasks[i].Handles, tasks[i].OperatorStates = splits[i], handles[i], states[i]
	}
	if n.role != roleKeyed || len(keyed) == 0 {
		return tasks
	}
	for i := range tasks {
		state := incremental.Rescale(keyed, keygroup.Range(p.maxParallelism[n], parallelism, i))
		tasks[i].Keyed = &state
		if len(op.Tasks) == parallelism {
			tasks[i].Reserved = op.Tasks[i].Reserved
		}
	}
	return tasks
}

// dealSplits deals the splits of a source that starts out over its subtasks.
func dealSplits(splits []manifest.Split, parallelism int) []manifest.Task {
	tasks := make([]manifest.Task, parallelism)
	for i, s := range deal([][]manifest.Split{splits}, parallelism) {
		tasks[i].Splits = s
	}
	return tasks
}
