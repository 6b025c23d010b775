package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
)

// errWiring is a graph whose ends do not fit: our own mistake, for the types
// of the graph functions rule it out.
var errWiring = errors.New("operator does not take the records of its input")

// operator is what a task calls of an operator besides its records. All calls
// come from one goroutine at a time.
type operator interface {
	// open restores the subtask. Nothing but committing recovered output is
	// visible outside.
	open(ctx context.Context) error
	// start is called when all subtasks of the job are open.
	start(ctx context.Context) error
	// snapshot is the operator's part of the pause at a barrier.
	snapshot(ctx context.Context, t coordinator.Trigger) (part, error)
	// completed says that checkpoint id, and so all before it, is committed.
	completed(ctx context.Context, id manifest.ID) error
	// aborted says that checkpoint id never will be.
	aborted(id manifest.ID)
	// close releases everything, also of an operator half opened.
	close() error
}

// part is what an operator captured at a barrier.
type part struct {
	splits  []manifest.Split
	handles [][]byte
	states  []manifest.OperatorState
	keyed   *state.Pending // nil: no keyed state
}

// output passes what user code emits on. Since emit cannot return the error
// of the operators after, it is kept until the user code returns.
type output[T any] struct {
	to  collector[T]
	err error
}

func (o *output[T]) emit(rec T) {
	if o.err == nil {
		o.err = o.to.collect(rec)
	}
}

// fanOut makes one collector of all consumers of an operator's output.
func fanOut[T any](outs []any) (collector[T], error) {
	if len(outs) == 0 {
		return discard[T]{}, nil
	}
	tee := make(tee[T], len(outs))
	for i, o := range outs {
		c, ok := o.(collector[T])
		if !ok {
			return nil, errWiring
		}
		tee[i] = c
	}
	if len(tee) == 1 {
		return tee[0], nil
	}
	return tee, nil
}

type discard[T any] struct{}

func (discard[T]) collect(T) error { return nil }

type tee[T any] []collector[T]

func (t tee[T]) collect(rec T) error {
	for _, c := range t {
		if err := c.collect(rec); err != nil {
			return err
		}
	}
	return nil
}

// stateless is an operator of which nothing is stored.
type stateless struct{}

func (stateless) open(context.Context) error                   { return nil }
func (stateless) start(context.Context) error                  { return nil }
func (stateless) completed(context.Context, manifest.ID) error { return nil }
func (stateless) aborted(manifest.ID)                          {}
func (stateless) close() error                                 { return nil }
func (stateless) snapshot(context.Context, coordinator.Trigger) (part, error) {
	return part{}, nil
}

type flatMapOp[In, Out any] struct {
	stateless
	sub  *subtask
	f    func(In, func(Out)) error
	out  output[Out]
	emit func(Out)
}

func newFlatMapOp[In, Out any](sub *subtask, f func(In, func(Out)) error, outs []any) (operator, error) {
	to, err := fanOut[Out](outs)
	if err != nil {
		return nil, err
	}
	o := &flatMapOp[In, Out]{sub: sub, f: f, out: output[Out]{to: to}}
	o.emit = o.out.emit
	return o, nil
}

func (o *flatMapOp[In, Out]) collect(in In) error {
	prev := o.sub.enter()
	err := o.f(in, o.emit)
	o.sub.leave(prev)
	if o.out.err != nil {
		return o.out.err
	}
	if err != nil {
		return o.sub.fail("process record", err)
	}
	return nil
}

type keyedOp[K, In, Out any] struct {
	stateless
	sub   *subtask
	f     KeyedFunc[K, In, Out]
	store *state.Store
	out   output[Out]
	emit  func(Out)
}

func newKeyedOp[K, In, Out any](sub *subtask, f KeyedFunc[K, In, Out], outs []any) (operator, error) {
	to, err := fanOut[Out](outs)
	if err != nil {
		return nil, err
	}
	o := &keyedOp[K, In, Out]{sub: sub, f: f, out: output[Out]{to: to}}
	o.emit = o.out.emit
	return o, nil
}

func (o *keyedOp[K, In, Out]) open(ctx context.Context) error {
	store, err := o.sub.openState(ctx)
	if err != nil {
		return err
	}
	o.store = store
	s := o.sub
	err = o.f.Open(&KeyedContext{
		Job: s.job, Operator: s.node.uid, Subtask: s.index, Parallelism: s.parallelism,
		KeyGroups: s.keyGroups, Epoch: s.epoch, Logger: s.logger, store: store,
	})
	if err != nil {
		return err
	}
	if err := s.restoreStates(o.f); err != nil {
		return fmt.Errorf("restore operator state: %w", err)
	}
	return nil
}

func (o *keyedOp[K, In, Out]) collectKeyed(group uint16, encoded []byte, key K, in In) error {
	prev := o.sub.enter()
	err := o.store.SetKey(group, encoded)
	if err == nil {
		err = o.f.Process(key, in, o.emit)
	}
	o.sub.leave(prev)
	if o.out.err != nil {
		return o.out.err
	}
	if err != nil {
		return o.sub.fail("process record", err)
	}
	return nil
}

func (o *keyedOp[K, In, Out]) snapshot(_ context.Context, t coordinator.Trigger) (part, error) {
	states, err := snapshotStates(o.f, t.ID)
	if err != nil {
		return part{}, err
	}
	keyed := o.store.Capture(state.Trigger{ID: t.ID, OldestBase: t.OldestBase, Kind: t.Kind})
	return part{states: states, keyed: keyed}, nil
}

func (o *keyedOp[K, In, Out]) completed(_ context.Context, id manifest.ID) error {
	o.store.Completed(id)
	return nil
}

func (o *keyedOp[K, In, Out]) aborted(id manifest.ID) { o.store.Aborted(id) }

func (o *keyedOp[K, In, Out]) close() (err error) {
	if o.store != nil {
		// Deferred: the user's Close may panic.
		defer func() { err = errors.Join(err, o.store.Close()) }()
	}
	if c, ok := o.f.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
