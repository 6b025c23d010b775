package engine

import (
	"context"

	"github.com/ckpt-io/ckpt/engine/internal/exchange"
	"github.com/ckpt-io/ckpt/manifest"
)

// builder makes the tasks of an execution out of its plan.
type builder struct {
	x        *execution
	ctx      context.Context // of the run; see routing
	exchange exchange.Exchange
	assigned map[*node][]manifest.Task
}

func (b *builder) build() error {
	plan := b.x.plan
	gates := make(map[*vertex][]exchange.Gate)
	for _, v := range plan.vertices {
		for i := range v.parallelism {
			if !v.source() {
				gates[v] = append(gates[v], b.exchange.Gate(v.task(), i, v.channels))
			}
		}
	}
	for _, v := range plan.vertices {
		for i := range v.parallelism {
			t := &task{vertex: v, index: i}
			b.x.tasks = append(b.x.tasks, t)
			if err := b.operators(t); err != nil {
				return err
			}
			if v.source() {
				b.source(t)
			} else if err := b.input(t, gates[v][i]); err != nil {
				return err
			}
			t.reports = newReporter(t.subs, b.x.coord)
		}
	}
	b.x.unread.Store(int64(len(b.x.sources)))
	return nil
}

// operators makes the operators of a chain, the last first: each needs the
// collectors of its outputs.
func (b *builder) operators(t *task) error {
	collectors := make(map[*node]any)
	for i := len(t.vertex.nodes) - 1; i >= 0; i-- {
		n := t.vertex.nodes[i]
		var outs []any
		for _, e := range n.outputs {
			if c, chained := collectors[e.to]; chained {
				outs = append(outs, c)
				continue
			}
			s := b.sender(e, t.index)
			t.senders = append(t.senders, s)
			outs = append(outs, s)
		}
		if err := t.add(b.x.newSubtask(n, t.index, b.assigned[n][t.index]), outs); err != nil {
			return err
		}
		collectors[n] = t.operators[0]
	}
	return nil
}

// add puts an operator at the beginning of the task's chain.
func (t *task) add(sub *subtask, outs []any) error {
	sub.active = &t.active
	t.active = sub
	var op operator
	err := sub.guard("make operator", func() (err error) {
		op, err = sub.node.newOperator(sub, outs)
		return err
	})
	if err != nil {
		return err
	}
	t.subs = append([]*subtask{sub}, t.subs...)
	t.operators = append([]operator{op}, t.operators...)
	return nil
}

// sender makes the sending end of an edge for one subtask.
func (b *builder) sender(e *edge, subtask int) sender {
	plan := b.x.plan
	to := exchange.Edge{To: e.to.uid}
	for _, v := range plan.vertices {
		for _, in := range v.inputs {
			if in.edge == e {
				to.First = in.first
			}
		}
	}
	return e.newSender(b.exchange.Partitions(to, subtask), routing{
		ctx: b.ctx, kind: e.kind, operator: e.to.uid, self: subtask,
		from: plan.parallelism[e.from], to: plan.parallelism[e.to],
		maxParallelism: plan.maxParallelism[e.to], hasher: plan.job.hasher,
	})
}

// source makes a task that polls.
func (b *builder) source(t *task) {
	t.source, _ = t.operators[0].(poller)
	t.align = newAligner(1)
	t.woken = make(chan struct{}, 1)
	t.mail.wake = func() {
		select {
		case t.woken <- struct{}{}:
		default:
		}
	}
	t.onExhausted = b.x.exhausted
	b.x.sources = append(b.x.sources, t)
}

// input connects a task to the tasks before it.
func (b *builder) input(t *task, gate exchange.Gate) error {
	t.gate = gate
	t.align = newAligner(t.vertex.channels)
	t.mail.wake = gate.Wake
	for _, in := range t.vertex.inputs {
		r, err := in.edge.newReceiver(t.operators[0])
		if err != nil {
			return err
		}
		for range b.x.plan.parallelism[in.edge.from] {
			t.receivers = append(t.receivers, r)
		}
	}
	return nil
}
