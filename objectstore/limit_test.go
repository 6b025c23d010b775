package objectstore_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

func newLimiter(t *testing.T, opts objectstore.LimiterOptions) *objectstore.Limiter {
	t.Helper()
	l, err := objectstore.NewLimiter(opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLimitConformance(t *testing.T) {
	l := newLimiter(t, objectstore.LimiterOptions{BytesPerSecond: 1 << 30, Requests: 2})
	storetest.Run(t, func(t *testing.T) objectstore.Store {
		return objectstore.Limit(objectstore.NewMem(), l, objectstore.Materializing)
	})
}

func TestLimitWithoutLimiter(t *testing.T) {
	s := objectstore.NewMem()
	if got := objectstore.Limit(s, nil, objectstore.Sweeping); got != objectstore.Store(s) {
		t.Errorf("store without limits is %T", got)
	}
}

// What is written and read takes the time of its bytes, once each way, and a
// part of an object that of the part.
func TestLimitPaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, objectstore.LimiterOptions{BytesPerSecond: 1 << 20, Burst: 8 << 10})
		s := objectstore.Limit(objectstore.NewMem(), l, objectstore.Restoring)
		took := func(what string, want time.Duration, do func() error) {
			t.Helper()
			began := time.Now()
			if err := do(); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(began); d < want-want/50 || d > want+want/50 {
				t.Errorf("%s took %v, want %v", what, d, want)
			}
		}
		read := func(length int64) error {
			r, _, err := s.Get(t.Context(), "k", 0, length)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			return errors.Join(err, r.Close())
		}
		took("put of 4 MiB", 4*time.Second, func() error {
			_, err := s.Put(t.Context(), "k", objectstore.Bytes(make([]byte, 4<<20)), objectstore.PutOptions{})
			return err
		})
		took("get", 4*time.Second, func() error { return read(-1) })
		took("get of 1 MiB", time.Second, func() error { return read(1 << 20) })
	})
}

// gauge counts the calls under way, but for listings, which go on while their
// caller does something else.
type gauge struct{ now, most atomic.Int64 }

func (g *gauge) hook(_ context.Context, c storetest.Call) error {
	if c.Op == storetest.List {
		return nil
	}
	if c.Phase == storetest.After {
		g.now.Add(-1)
		return nil
	}
	n := g.now.Add(1)
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
	time.Sleep(time.Second)
	return nil
}

// No more requests are under way than are allowed, and fewer of lower classes,
// so that an urgent one begins at once.
func TestLimitRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gauge
		faulty := storetest.NewFaulty(objectstore.NewMem(), 1)
		faulty.Hook = g.hook
		l := newLimiter(t, objectstore.LimiterOptions{Requests: 8})
		low := objectstore.Limit(faulty, l, objectstore.Sweeping)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := low.Put(t.Context(), "k", objectstore.Bytes(nil), objectstore.PutOptions{}); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if _, err := low.Stat(t.Context(), "k"); err != nil && !errors.Is(err, objectstore.ErrNotExist) {
					t.Error(err)
				}
			})
			wg.Go(func() {
				for info, err := range low.List(t.Context(), "", "") {
					// The one who lists may use the store meanwhile.
					if _, statErr := low.Stat(t.Context(), info.Key); err != nil || statErr != nil {
						t.Error(err, statErr)
					}
				}
			})
			wg.Go(func() {
				if err := low.Delete(t.Context(), "other"); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Millisecond)
		began := time.Now()
		urgent := objectstore.Limit(faulty, l, objectstore.Urgent)
		if _, err := urgent.Put(t.Context(), "u", objectstore.Bytes(nil), objectstore.PutOptions{}); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d != time.Second {
			t.Errorf("urgent request of 1 s took %v", d)
		}
		wg.Wait()
		if n := g.most.Load(); n != 7 {
			t.Errorf("%d requests at a time, want 6 and the urgent one", n)
		}
	})
}

// A reader counts as a request until its end, or until it is closed.
func TestLimitReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := objectstore.NewMem()
		if _, err := mem.Put(t.Context(), "k", objectstore.Bytes([]byte("body")), objectstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		s := objectstore.Limit(mem, newLimiter(t, objectstore.LimiterOptions{Requests: 2}), objectstore.Restoring)
		get := func(ctx context.Context) (io.ReadCloser, error) {
			r, _, err := s.Get(ctx, "k", 0, -1)
			return r, err
		}
		held, err := get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get beside an open reader: %v", err)
		}
		if err := held.Close(); err != nil {
			t.Error(err)
		}
		read, err := get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(read); string(b) != "body" || err != nil {
			t.Errorf("read %q, %v", b, err)
		}
		again, err := get(t.Context()) // though read is not closed
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(read.Close(), again.Close()); err != nil {
			t.Error(err)
		}
		if _, _, err := s.Get(t.Context(), "missing", 0, -1); !errors.Is(err, objectstore.ErrNotExist) {
			t.Errorf("missing object: %v", err)
		}
		if r, err := get(t.Context()); err != nil {
			t.Errorf("after a get that failed: %v", err)
		} else if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}
