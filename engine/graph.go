package engine

import (
	"context"

	"github.com/ckpt-io/ckpt/engine/internal/exchange"
	"github.com/ckpt-io/ckpt/manifest"
)

// role says what an operator does at a checkpoint.
type role int

const (
	roleSource role = iota
	roleStateless
	roleKeyed
	roleSink
)

// node is an operator of the graph.
type node struct {
	uid         string
	role        role
	parallelism int // 0: the Config's
	noChain     bool
	inputs      []*edge
	outputs     []*edge

	// newOperator makes the operator of one subtask. outs are the collectors
	// of its outputs, in order; each is a collector of the node's type.
	newOperator func(sub *subtask, outs []any) (operator, error)
	// splits is a source's Splits.
	splits func(context.Context) ([]manifest.Split, error)
	// keyCodec names the codec of a keyed operator's keys.
	keyCodec string
}

// edgeKind says which subtask of the receiver gets a record.
type edgeKind int

const (
	edgeForward   edgeKind = iota // the same one; round robin if the parallelisms differ
	edgeRebalance                 // round robin by batch
	edgeKeyed                     // the owner of the record's key group
)

// edge connects two operators. Its functions know the type of its records.
type edge struct {
	from, to *node
	kind     edgeKind
	// newSender makes the sending end for one subtask: also a collector.
	newSender func(out exchange.Partitions, r routing) sender
	// newReceiver makes the receiving end for one subtask of the operator to.
	newReceiver func(to operator) (receiver, error)
}

// connect adds an edge to the graph.
func connect(e *edge) {
	e.from.outputs = append(e.from.outputs, e)
	e.to.inputs = append(e.to.inputs, e)
}

// add adds an operator to the job.
func (j *Job) add(n *node, opts []OperatorOption) *node {
	for _, o := range opts {
		o(n)
	}
	j.nodes = append(j.nodes, n)
	return n
}
