package engine

import (
	"context"
	"fmt"
	"sync"
	"unsafe"

	"github.com/ckpt-io/ckpt/engine/internal/exchange"
	"github.com/ckpt-io/ckpt/engine/keygroup"
	"github.com/ckpt-io/ckpt/engine/state"
)

// batchRecords is how many records travel together at most, and credit how
// many batches wait in one channel.
const (
	batchRecords = 256
	credit       = 4
)

// collector takes the records of one input of an operator or of a sender.
type collector[T any] interface {
	collect(rec T) error
}

// routing is what a sender must know of the receiving task.
type routing struct {
	// ctx ends with the run. A record's way to a sender goes through user
	// code, which cannot hand it on.
	ctx            context.Context
	operator       string // uid of the receiver
	kind           edgeKind
	self           int // the sending subtask
	from, to       int // parallelism of both ends
	maxParallelism int
	hasher         keygroup.Hasher
}

// sender is the sending end of an edge. It is also a collector of the edge's
// type.
type sender interface {
	// flush sends what is held back.
	flush() error
	// barrier flushes and then sends b to all receivers.
	barrier(b exchange.Barrier) error
}

// receiver hands the records of a batch to an operator and releases it.
type receiver interface {
	receive(r exchange.Records) error
}

func sendBarrier(r *routing, out exchange.Partitions, b exchange.Barrier) error {
	for to := range r.to {
		if err := out.Send(r.ctx, to, exchange.Batch{Barrier: b}); err != nil {
			return err
		}
	}
	return nil
}

// batch is records without keys.
type batch[T any] struct {
	records []T
	pool    *sync.Pool
}

func (b *batch[T]) Len() int { return len(b.records) }

func (b *batch[T]) Size() int64 {
	var rec T
	return int64(len(b.records)) * int64(unsafe.Sizeof(rec))
}

// Release drops the references to the records and keeps the memory.
func (b *batch[T]) Release() {
	clear(b.records)
	b.records = b.records[:0]
	b.pool.Put(b)
}

// plainSender sends each batch to one receiver: always the one with its own
// index, or each in turn.
type plainSender[T any] struct {
	routing
	out  exchange.Partitions
	cur  *batch[T]
	next int
	pool sync.Pool
}

func newPlainSender[T any](out exchange.Partitions, r routing) sender {
	s := &plainSender[T]{routing: r, out: out, next: r.self % r.to}
	s.pool.New = func() any {
		return &batch[T]{records: make([]T, 0, batchRecords), pool: &s.pool}
	}
	return s
}

func (s *plainSender[T]) collect(rec T) error {
	if s.cur == nil {
		s.cur = s.pool.Get().(*batch[T])
	}
	s.cur.records = append(s.cur.records, rec)
	if len(s.cur.records) < batchRecords {
		return nil
	}
	return s.flush()
}

func (s *plainSender[T]) flush() error {
	if s.cur == nil {
		return nil
	}
	if err := s.out.Send(s.ctx, s.next, exchange.Batch{Records: s.cur}); err != nil {
		return err
	}
	s.cur = nil
	if s.kind != edgeForward || s.from != s.to {
		s.next = (s.next + 1) % s.to
	}
	return nil
}

func (s *plainSender[T]) barrier(b exchange.Barrier) error {
	if err := s.flush(); err != nil {
		return err
	}
	return sendBarrier(&s.routing, s.out, b)
}

type plainReceiver[T any] struct{ to collector[T] }

func newPlainReceiver[T any](to operator) (receiver, error) {
	c, ok := to.(collector[T])
	if !ok {
		return nil, errWiring
	}
	return &plainReceiver[T]{to: c}, nil
}

func (r *plainReceiver[T]) receive(recs exchange.Records) error {
	b := recs.(*batch[T])
	for i := range b.records {
		if err := r.to.collect(b.records[i]); err != nil {
			return err
		}
	}
	b.Release()
	return nil
}

// keyedBatch is records with their keys, once as values and once encoded.
type keyedBatch[K, T any] struct {
	records []keyedRecord[K, T]
	encoded []byte // the keys, one after the other
	pool    *sync.Pool
}

type keyedRecord[K, T any] struct {
	key   K
	rec   T
	end   int32 // of the encoded key
	group uint16
}

func (b *keyedBatch[K, T]) Len() int { return len(b.records) }

func (b *keyedBatch[K, T]) Size() int64 {
	var rec keyedRecord[K, T]
	return int64(len(b.records))*int64(unsafe.Sizeof(rec)) + int64(len(b.encoded))
}

// Release drops the references to the records and keeps the memory.
func (b *keyedBatch[K, T]) Release() {
	clear(b.records)
	b.records, b.encoded = b.records[:0], b.encoded[:0]
	b.pool.Put(b)
}

// keyedSender sends each record to the owner of its key group.
type keyedSender[K, T any] struct {
	routing
	out   exchange.Partitions
	codec state.Codec[K]
	key   func(T) K
	cur   []*keyedBatch[K, T] // by receiver
	enc   []byte
	pool  sync.Pool
}

func newKeyedSender[K, T any](out exchange.Partitions, r routing, codec state.Codec[K], key func(T) K) sender {
	s := &keyedSender[K, T]{routing: r, out: out, codec: codec, key: key, cur: make([]*keyedBatch[K, T], r.to)}
	s.pool.New = func() any {
		return &keyedBatch[K, T]{records: make([]keyedRecord[K, T], 0, batchRecords), pool: &s.pool}
	}
	return s
}

func (s *keyedSender[K, T]) collect(rec T) error {
	key := s.key(rec)
	enc, err := s.codec.Append(s.enc[:0], key)
	if err != nil {
		return fmt.Errorf("encode key for operator %q: %w", s.operator, err)
	}
	s.enc = enc
	group := keygroup.Of(s.hasher, enc, s.maxParallelism)
	to := keygroup.Subtask(s.maxParallelism, s.to, group)
	b := s.cur[to]
	if b == nil {
		b = s.pool.Get().(*keyedBatch[K, T])
		s.cur[to] = b
	}
	b.encoded = append(b.encoded, enc...)
	b.records = append(b.records, keyedRecord[K, T]{key: key, rec: rec, end: int32(len(b.encoded)), group: group})
	if len(b.records) < batchRecords && len(b.encoded) < 1<<20 {
		return nil
	}
	return s.send(to)
}

func (s *keyedSender[K, T]) send(to int) error {
	if err := s.out.Send(s.ctx, to, exchange.Batch{Records: s.cur[to]}); err != nil {
		return err
	}
	s.cur[to] = nil
	return nil
}

func (s *keyedSender[K, T]) flush() error {
	for to, b := range s.cur {
		if b == nil {
			continue
		}
		if err := s.send(to); err != nil {
			return err
		}
	}
	return nil
}

func (s *keyedSender[K, T]) barrier(b exchange.Barrier) error {
	if err := s.flush(); err != nil {
		return err
	}
	return sendBarrier(&s.routing, s.out, b)
}

// keyedInput is an operator that takes records with keys. encoded is valid
// until it returns.
type keyedInput[K, T any] interface {
	collectKeyed(group uint16, encoded []byte, key K, rec T) error
}

type keyedReceiver[K, T any] struct{ to keyedInput[K, T] }

func newKeyedReceiver[K, T any](to operator) (receiver, error) {
	c, ok := to.(keyedInput[K, T])
	if !ok {
		return nil, errWiring
	}
	return &keyedReceiver[K, T]{to: c}, nil
}

func (r *keyedReceiver[K, T]) receive(recs exchange.Records) error {
	b := recs.(*keyedBatch[K, T])
	start := int32(0)
	for i := range b.records {
		k := &b.records[i]
		if err := r.to.collectKeyed(k.group, b.encoded[start:k.end], k.key, k.rec); err != nil {
			return err
		}
		start = k.end
	}
	b.Release()
	return nil
}
