package engine

// Stream is the output of an operator, or of several joined by [Union], while
// a graph is built. Any number of operators may read it; each gets every
// record.
type Stream[T any] struct {
	job       *Job
	from      []*node
	rebalance bool
}

// From adds a source.
func From[T any](job *Job, uid string, src Source[T], opts ...OperatorOption) Stream[T] {
	n := &node{uid: uid, role: roleSource, splits: src.Splits}
	n.newOperator = func(sub *subtask, outs []any) (operator, error) {
		return newSourceOp(sub, src, outs)
	}
	return streamOf[T](job, job.add(n, opts))
}

// Map adds an operator that turns each record into one other. f is called by
// all subtasks at once.
func Map[In, Out any](s Stream[In], uid string, f func(In) (Out, error), opts ...OperatorOption) Stream[Out] {
	return FlatMap(s, uid, func(in In, emit func(Out)) error {
		out, err := f(in)
		if err == nil {
			emit(out)
		}
		return err
	}, opts...)
}

// Filter adds an operator that passes on the records for which f is true. f is
// called by all subtasks at once.
func Filter[T any](s Stream[T], uid string, f func(T) (bool, error), opts ...OperatorOption) Stream[T] {
	return FlatMap(s, uid, func(in T, emit func(T)) error {
		ok, err := f(in)
		if ok && err == nil {
			emit(in)
		}
		return err
	}, opts...)
}

// FlatMap adds an operator that emits any number of records for each it is
// given. f is called by all subtasks at once; it may call emit only until it
// returns.
func FlatMap[In, Out any](s Stream[In], uid string, f func(in In, emit func(Out)) error, opts ...OperatorOption) Stream[Out] {
	n := &node{uid: uid, role: roleStateless}
	n.newOperator = func(sub *subtask, outs []any) (operator, error) {
		return newFlatMapOp(sub, f, outs)
	}
	s.job.add(n, opts)
	s.connectTo(n)
	return streamOf[Out](s.job, n)
}

// To adds a sink.
func To[T any](s Stream[T], uid string, sink Sink[T], opts ...OperatorOption) {
	n := &node{uid: uid, role: roleSink}
	n.newOperator = func(sub *subtask, _ []any) (operator, error) {
		return newSinkOp(sub, sink)
	}
	s.job.add(n, opts)
	s.connectTo(n)
}

// Union joins streams of one type; the order between them is not defined.
func Union[T any](first Stream[T], more ...Stream[T]) Stream[T] {
	out := Stream[T]{job: first.job, rebalance: first.rebalance}
	out.from = append(out.from, first.from...)
	for _, s := range more {
		out.from = append(out.from, s.from...)
		out.rebalance = out.rebalance || s.rebalance
	}
	return out
}

// Rebalance spreads the records evenly over the subtasks of the operators that
// read the result. The order of the records of one source subtask is not kept.
func Rebalance[T any](s Stream[T]) Stream[T] {
	s.rebalance = true
	return s
}

func streamOf[T any](job *Job, n *node) Stream[T] {
	return Stream[T]{job: job, from: []*node{n}}
}

func (s Stream[T]) connectTo(to *node) {
	kind := edgeForward
	if s.rebalance {
		kind = edgeRebalance
	}
	for _, from := range s.from {
		connect(&edge{from: from, to: to, kind: kind, newSender: newPlainSender[T], newReceiver: newPlainReceiver[T]})
	}
}
