package objectstore

import (
	"context"
	"fmt"
	"io"
	"iter"
)

// Limit is s within the limits that l shares out, for transfers of one class. A
// nil l gives s itself.
//
// What is read is paced as the caller reads it, what is written as the store
// reads the body, so that an attempt that is made again pays again. A Get
// counts as a request until its reader came to its end or was closed. Calls
// that wait for their turn end with their context. Of a [Transformer] the store
// underneath is limited: that is what is sent.
func Limit(s Store, l *Limiter, class Class) Store {
	if l == nil {
		return s
	}
	if t, ok := s.(Transformer); ok {
		return t.Over(func(under Store) Store { return Limit(under, l, class) })
	}
	return &limited{store: s, limiter: l, class: class}
}

// Transformer is a Store that stores other bytes in a store underneath than it
// is given.
type Transformer interface {
	Store
	// Over is the same Store over another one underneath: what wrap makes of the
	// one that there is.
	Over(wrap func(under Store) Store) Store
}

type limited struct {
	store   Store
	limiter *Limiter
	class   Class
}

func (s *limited) begin(ctx context.Context, doing, key string) error {
	if err := s.limiter.begin(ctx, s.class); err != nil {
		return fmt.Errorf("%s %q: wait for its turn: %w", doing, key, err)
	}
	return nil
}

func (s *limited) end() { s.limiter.end(s.class) }

func (s *limited) Put(ctx context.Context, key string, body Body, opts PutOptions) (Info, error) {
	if err := s.begin(ctx, "put", key); err != nil {
		return Info{}, err
	}
	defer s.end()
	b := &pacedBody{Body: body, ctx: ctx, store: s, own: make(chan struct{}, 1)}
	b.own <- struct{}{}
	return s.store.Put(ctx, key, b, opts)
}

func (s *limited) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	if err := s.begin(ctx, "get", key); err != nil {
		return nil, Info{}, err
	}
	r, info, err := s.store.Get(ctx, key, offset, length)
	if err != nil {
		s.end()
		return nil, info, err
	}
	return &pacedReader{ReadCloser: r, ctx: ctx, store: s}, info, nil
}

func (s *limited) Stat(ctx context.Context, key string) (Info, error) {
	if err := s.begin(ctx, "stat", key); err != nil {
		return Info{}, err
	}
	defer s.end()
	return s.store.Stat(ctx, key)
}

// List counts as a request except while the caller looks at what it yields: it
// may use the store then.
func (s *limited) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := s.begin(ctx, "list", prefix); err != nil {
			yield(Info{}, err)
			return
		}
		held := true
		defer func() {
			if held {
				s.end()
			}
		}()
		for info, err := range s.store.List(ctx, prefix, after) {
			s.end()
			held = false
			if !yield(info, err) || err != nil {
				return
			}
			if err := s.begin(ctx, "list", prefix); err != nil {
				yield(Info{}, err)
				return
			}
			held = true
		}
	}
}

func (s *limited) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	if err := s.begin(ctx, "delete", keys[0]); err != nil {
		return err
	}
	defer s.end()
	return s.store.Delete(ctx, keys...)
}

// UnquoteETags passes Probe's finding on to the store underneath.
func (s *limited) UnquoteETags(unquoted bool) bool { return unquoteETags(s.store, unquoted) }

// pacedReader is what a limited Get returns.
type pacedReader struct {
	io.ReadCloser
	ctx   context.Context // of the Get that the reader is part of
	store *limited
	ended bool
}

// Read pays for what has come: how much that will be is not known before.
func (r *pacedReader) Read(p []byte) (int, error) {
	if c := r.store.limiter.chunk; c > 0 && len(p) > c {
		p = p[:c]
	}
	n, err := r.ReadCloser.Read(p)
	if paceErr := r.store.limiter.pace(r.ctx, r.store.class, n); paceErr != nil && err == nil {
		err = fmt.Errorf("read body: wait for bandwidth: %w", paceErr)
	}
	if err != nil {
		r.end()
	}
	return n, err
}

func (r *pacedReader) end() {
	if !r.ended {
		r.ended = true
		r.store.end()
	}
}

// Close implements io.Closer.
func (r *pacedReader) Close() error {
	r.end()
	return r.ReadCloser.Close()
}

// pacedBody is what a limited Put gives to the store.
type pacedBody struct {
	Body
	ctx   context.Context // of the Put that the body is part of
	store *limited
	own   chan struct{} // holds a token while no part uses the Put's own request
}

// ReadAt pays for what is about to be sent.
func (b *pacedBody) ReadAt(p []byte, off int64) (read int, err error) {
	for read < len(p) && err == nil {
		part := p[read:]
		if c := b.store.limiter.chunk; c > 0 && len(part) > c {
			part = part[:c]
		}
		left := b.Size() - off
		if err := b.store.limiter.pace(b.ctx, b.store.class, int(max(0, min(int64(len(part)), left)))); err != nil {
			return read, fmt.Errorf("read body: wait for bandwidth: %w", err)
		}
		var n int
		n, err = b.Body.ReadAt(part, off)
		read, off = read+n, off+int64(n)
	}
	return read, err
}

// Unpaced implements Rereadable.
func (b *pacedBody) Unpaced() Body { return Unpaced(b.Body) }

// BeginPart implements Partitioned. One part goes under the Put's own request,
// so that a Put always comes on; others, when there is room.
func (b *pacedBody) BeginPart(ctx context.Context) (end func(), err error) {
	own := func() { b.own <- struct{}{} }
	select {
	case <-b.own:
		return own, nil
	default:
	}
	if b.store.limiter.tryBegin(b.store.class) {
		return b.store.end, nil
	}
	select {
	case <-b.own:
		return own, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Rereadable is a Body that may hold back who reads it, because what is read is
// sent. A store that also reads it for another purpose, as to compute a
// checksum, reads [Unpaced] of it then. A store that wraps bodies passes it on.
type Rereadable interface {
	Body
	// Unpaced is the same content, to be read at any speed.
	Unpaced() Body
}

// Unpaced is a body to be read for another purpose than to send it.
func Unpaced(b Body) Body {
	if r, ok := b.(Rereadable); ok {
		return r.Unpaced()
	}
	return b
}

// Partitioned is a Body whose owner bounds the requests under way. A store that
// sends a body by several at a time calls [BeginPart] before each.
type Partitioned interface {
	Body
	// BeginPart waits until one more request may be sent; end says that it is
	// over.
	BeginPart(ctx context.Context) (end func(), err error)
}

// BeginPart waits until a request with a part of a body may be sent.
func BeginPart(ctx context.Context, b Body) (end func(), err error) {
	if p, ok := b.(Partitioned); ok {
		return p.BeginPart(ctx)
	}
	return func() {}, nil
}
