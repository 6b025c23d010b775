package engine

import (
	"fmt"

	"github.com/ckpt-io/ckpt/engine/keygroup"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
)

// plan is a graph made ready to run: how parallel each operator is, and which
// operators share a task.
type plan struct {
	job            *Job
	parallelism    map[*node]int
	maxParallelism map[*node]int
	vertices       []*vertex // in topological order
}

// vertex is a chain of operators. It runs as one task for each subtask.
type vertex struct {
	nodes       []*node // the first takes the input of the chain
	parallelism int
	inputs      []vertexInput
	channels    int // of one task
}

// vertexInput is an edge from another vertex: its senders have the channels
// from first on.
type vertexInput struct {
	edge  *edge
	first int
}

// task names the vertex in the exchange.
func (v *vertex) task() string { return v.nodes[0].uid }

func (v *vertex) source() bool { return v.nodes[0].role == roleSource }

// newPlan checks the graph and lays it out. from is the checkpoint to go on
// from, nil if there is none: its max parallelism is adopted where the graph
// does not set one.
func newPlan(job *Job, parallelism int, from *manifest.Manifest) (*plan, error) {
	p := &plan{job: job, parallelism: make(map[*node]int), maxParallelism: make(map[*node]int)}
	reasons := job.check()
	for _, n := range job.nodes {
		p.parallelism[n] = parallelism
		if n.parallelism != 0 {
			p.parallelism[n] = n.parallelism
		}
		p.maxParallelism[n] = job.maxParallelism
		if job.maxParallelism == 0 {
			p.maxParallelism[n] = adopted(n, p.parallelism[n], from)
		}
		if n.role != roleKeyed && job.maxParallelism == 0 {
			continue
		}
		if err := keygroup.Check(p.maxParallelism[n], p.parallelism[n]); err != nil {
			reasons = append(reasons, fmt.Sprintf("operator %q: %v", n.uid, err))
		}
	}
	if len(reasons) > 0 {
		return nil, &GraphError{Job: job.name, Reasons: reasons}
	}
	p.chain()
	return p, nil
}

// adopted is the max parallelism of an operator whose graph sets none.
func adopted(n *node, parallelism int, from *manifest.Manifest) int {
	if from != nil && n.role == roleKeyed {
		if op := from.Operator(n.uid); op != nil && op.Hasher != "" {
			return op.MaxParallelism
		}
	}
	return keygroup.DefaultMaxParallelism(parallelism)
}

// check returns everything that is wrong with the graph by itself.
func (j *Job) check() []string {
	var reasons []string
	refuse := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	if !manifest.ValidJob(j.name) {
		refuse("name %q: want 1 to 100 characters of [0-9A-Za-z._-], the first no dot", j.name)
	}
	if j.maxParallelism < 0 || j.maxParallelism > keygroup.MaxParallelism {
		refuse("max parallelism %d: want 1 to %d", j.maxParallelism, keygroup.MaxParallelism)
	}
	seen := make(map[string]bool)
	ours := make(map[*node]bool)
	sources := 0
	for i, n := range j.nodes {
		switch {
		case n.uid == "":
			refuse("operator number %d has no uid", i+1)
		case !manifest.ValidUID(n.uid):
			refuse("operator uid %q: want 1 to 100 characters of [0-9A-Za-z._]", n.uid)
		case seen[n.uid]:
			refuse("operator uid %q is used twice", n.uid)
		}
		seen[n.uid], ours[n] = true, true
		if n.parallelism < 0 {
			refuse("operator %q: parallelism %d: want 1 or more", n.uid, n.parallelism)
		}
		if n.role == roleSource {
			sources++
		}
		for _, e := range n.inputs {
			if !ours[e.from] {
				refuse("operator %q reads a stream of another job", n.uid)
			}
		}
	}
	if sources == 0 {
		refuse("it has no source")
	}
	return reasons
}

// chain puts each operator in the vertex of the one before it where nothing has
// to be exchanged between them, else in one of its own.
func (p *plan) chain() {
	of := make(map[*node]*vertex)
	for _, n := range p.job.nodes {
		if v := p.chained(n, of); v != nil {
			v.nodes = append(v.nodes, n)
			of[n] = v
			continue
		}
		v := &vertex{nodes: []*node{n}, parallelism: p.parallelism[n]}
		for _, e := range n.inputs {
			v.inputs = append(v.inputs, vertexInput{edge: e, first: v.channels})
			v.channels += p.parallelism[e.from]
		}
		of[n] = v
		p.vertices = append(p.vertices, v)
	}
}

func (p *plan) chained(n *node, of map[*node]*vertex) *vertex {
	if n.noChain || len(n.inputs) != 1 {
		return nil
	}
	if e := n.inputs[0]; e.kind == edgeForward && p.parallelism[e.from] == p.parallelism[n] {
		return of[e.from]
	}
	return nil
}

// hasher names the operator's hasher: empty without keyed state.
func (p *plan) hasher(n *node) string {
	if n.role != roleKeyed {
		return ""
	}
	return p.job.hasher.Name()
}

// infos are what HEAD keeps of the operators.
func (p *plan) infos() []catalog.OperatorInfo {
	out := make([]catalog.OperatorInfo, len(p.job.nodes))
	for i, n := range p.job.nodes {
		out[i] = catalog.OperatorInfo{UID: n.uid, MaxParallelism: p.maxParallelism[n], Hasher: p.hasher(n)}
	}
	return out
}

// operators are the skeleton of every manifest.
func (p *plan) operators() []manifest.Operator {
	out := make([]manifest.Operator, len(p.job.nodes))
	for i, n := range p.job.nodes {
		out[i] = manifest.Operator{
			UID: n.uid, Parallelism: p.parallelism[n], MaxParallelism: p.maxParallelism[n], Hasher: p.hasher(n),
		}
	}
	return out
}
