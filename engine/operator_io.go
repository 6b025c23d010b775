package engine

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/manifest"
)

// poller is the part of a source that its task calls between two barriers.
type poller interface {
	// poll reads some records and says how many, and whether the input is
	// exhausted.
	poll(ctx context.Context) (n int, exhausted bool, err error)
}

type sourceOp[T any] struct {
	stateless
	sub    *subtask
	reader SourceReader[T]
	out    output[T]
	n      int
	emit   func(T)
}

func newSourceOp[T any](sub *subtask, src Source[T], outs []any) (operator, error) {
	to, err := fanOut[T](outs)
	if err != nil {
		return nil, err
	}
	reader, err := src.Reader(SourceContext(sub.userContext()))
	if err != nil {
		return nil, err
	}
	o := &sourceOp[T]{sub: sub, reader: reader, out: output[T]{to: to}}
	o.emit = func(rec T) {
		o.n++
		o.out.emit(rec)
	}
	return o, nil
}

func (o *sourceOp[T]) open(ctx context.Context) error {
	return o.reader.Restore(ctx, o.sub.restored.Splits)
}

func (o *sourceOp[T]) poll(ctx context.Context) (int, bool, error) {
	o.n = 0
	prev := o.sub.enter()
	err := o.reader.Poll(ctx, o.emit)
	o.sub.leave(prev)
	switch {
	case o.out.err != nil:
		return o.n, false, o.out.err
	case errors.Is(err, io.EOF):
		return o.n, true, nil
	case err != nil:
		return o.n, false, o.sub.fail("poll source", err)
	}
	return o.n, false, nil
}

func (o *sourceOp[T]) snapshot(_ context.Context, t coordinator.Trigger) (part, error) {
	splits, err := o.reader.Snapshot(t.ID)
	return part{splits: splits}, err
}

func (o *sourceOp[T]) completed(_ context.Context, id manifest.ID) error {
	o.reader.Committed(id)
	return nil
}

func (o *sourceOp[T]) close() error { return o.reader.Close() }

// sinkOp keeps the prepared transactions until a checkpoint that covers them
// is committed. Those of an aborted checkpoint belong to the next one.
type sinkOp[T any] struct {
	stateless
	sub      *subtask
	writer   SinkWriter[T]
	prepared []prepared // ascending by id
}

type prepared struct {
	id      manifest.ID
	handles [][]byte
}

func newSinkOp[T any](sub *subtask, sink Sink[T]) (operator, error) {
	w, err := sink.Writer(SinkContext(sub.userContext()))
	if err != nil {
		return nil, err
	}
	return &sinkOp[T]{sub: sub, writer: w}, nil
}

func (o *sinkOp[T]) open(ctx context.Context) error {
	return o.writer.Recover(ctx, o.sub.restored.Handles)
}

func (o *sinkOp[T]) start(ctx context.Context) error {
	if a, ok := o.writer.(LeftoverAborter); ok {
		return a.AbortLeftovers(ctx)
	}
	return nil
}

func (o *sinkOp[T]) collect(rec T) error {
	prev := o.sub.enter()
	err := o.writer.Write(rec)
	o.sub.leave(prev)
	if err != nil {
		return o.sub.fail("write to sink", err)
	}
	return nil
}

func (o *sinkOp[T]) snapshot(ctx context.Context, t coordinator.Trigger) (part, error) {
	handles, err := o.writer.Prepare(ctx, t.ID)
	if err != nil {
		return part{}, err
	}
	if len(handles) > 0 {
		o.prepared = append(o.prepared, prepared{id: t.ID, handles: handles})
	}
	return part{handles: o.upTo(t.ID)}, nil
}

// upTo returns the handles of all transactions that checkpoint id covers.
func (o *sinkOp[T]) upTo(id manifest.ID) [][]byte {
	var out [][]byte
	for _, p := range o.prepared {
		if p.id <= id {
			out = append(out, p.handles...)
		}
	}
	return out
}

func (o *sinkOp[T]) completed(ctx context.Context, id manifest.ID) error {
	handles := o.upTo(id)
	if len(handles) == 0 {
		return nil
	}
	if err := o.writer.Commit(ctx, handles); err != nil {
		return err
	}
	o.prepared = slices.DeleteFunc(o.prepared, func(p prepared) bool { return p.id <= id })
	return nil
}

func (o *sinkOp[T]) close() error { return o.writer.Close() }
