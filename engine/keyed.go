package engine

import (
	"log/slog"

	"github.com/ckpt-io/ckpt/engine/internal/exchange"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
)

// KeyedStream is a stream whose records have keys while a graph is built. All
// records of one key meet the same subtask, in the order in which one subtask
// before it sent them.
type KeyedStream[K, T any] struct {
	stream Stream[T]
	codec  state.Codec[K]
	key    func(T) K
}

// KeyBy gives each record its key. key is called once per record and by all
// subtasks at once. Equal keys are those whose encoded bytes are equal.
func KeyBy[K, T any](s Stream[T], codec state.Codec[K], key func(T) K) KeyedStream[K, T] {
	return KeyedStream[K, T]{stream: s, codec: codec, key: key}
}

// KeyedFunc is user code with state for each key. One is made for each
// subtask; its methods are called by one goroutine at a time. If it is an
// io.Closer it is closed at the end, also after a failure; an [OperatorStater]
// has state of the subtask besides.
type KeyedFunc[K, In, Out any] interface {
	// Open is called once, before the first record: the place to make state
	// handles.
	Open(ctx *KeyedContext) error
	// Process is called for each record, with the state handles set to its
	// key. It may call emit only until it returns.
	Process(key K, in In, emit func(Out)) error
}

// KeyedContext says which subtask of which run a KeyedFunc is for, and gives
// access to its state.
type KeyedContext struct {
	Job         string
	Operator    string // uid
	Subtask     int    // 0 to Parallelism-1
	Parallelism int
	KeyGroups   manifest.KeyGroupRange
	Epoch       manifest.Epoch
	Logger      *slog.Logger

	store *state.Store
}

// NewValue makes the handle of a state of one value per key. The name and the
// codec belong to the stored format: under the same name the same codec must
// be used for ever.
func NewValue[T any](ctx *KeyedContext, name string, codec state.Codec[T]) (*state.Value[T], error) {
	return state.NewValue(ctx.store, name, codec)
}

// Process adds an operator with keyed state. newFunc is called once for each
// subtask of each run.
func Process[K, In, Out any](s KeyedStream[K, In], uid string, newFunc func() KeyedFunc[K, In, Out], opts ...OperatorOption) Stream[Out] {
	job := s.stream.job
	n := &node{uid: uid, role: roleKeyed, keyCodec: s.codec.Name()}
	n.newOperator = func(sub *subtask, outs []any) (operator, error) {
		return newKeyedOp(sub, newFunc(), outs)
	}
	job.add(n, opts)
	for _, from := range s.stream.from {
		connect(&edge{
			from: from, to: n, kind: edgeKeyed,
			newSender: func(out exchange.Partitions, r routing) sender {
				return newKeyedSender(out, r, s.codec, s.key)
			},
			newReceiver: newKeyedReceiver[K, In],
		})
	}
	return streamOf[Out](job, n)
}
