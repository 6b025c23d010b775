package seal_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// counting counts the Gets of a store and the bytes they asked for.
type counting struct {
	objectstore.Store
	mu       sync.Mutex
	requests int
	bytes    int64
}

func (c *counting) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	r, info, err := c.Store.Get(ctx, key, offset, length)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	if n := info.Size - offset; length < 0 || length > n {
		length = max(n, 0)
	}
	c.bytes += length
	return r, info, err
}

// take returns what was counted since the last call.
func (c *counting) take() (requests int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	requests, bytes = c.requests, c.bytes
	c.requests, c.bytes = 0, 0
	return requests, bytes
}

// What a range costs: the chunks it touches, and for the first read of an
// object its header, which takes a request of its own past the first chunk.
func TestRequests(t *testing.T) {
	const segment, stored = 128 << 10, 2 * (64<<10 + 16)
	under := &counting{Store: objectstore.NewMem()}
	line := newIdentity(t)
	writer := newStore(t, under, line)
	want := content(1 << 20)
	put(t, writer, "data/x", want)
	for _, tc := range []struct {
		name     string
		off, n   int64
		first    int   // requests of the first read
		requests int   // of a later one
		bytes    int64 // of a later one
	}{
		{"beginning", 0, segment, 1, 1, stored},
		{"aligned", 3 * segment, segment, 2, 1, stored},
		{"anywhere", 300_000, segment, 2, 1, stored + 64<<10 + 16},
		{"one byte", 700_000, 1, 2, 1, 64<<10 + 16},
		{"end", 1<<20 - 10, 100, 2, 1, 64<<10 + 16},
		{"past the end", 1 << 20, 100, 2, 1, 0},
		{"all", 0, -1, 1, 1, 16 * (64<<10 + 16)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStore(t, under, line)
			under.take()
			checkRange(t, s, "data/x", want, tc.off, tc.n)
			if n, bytes := under.take(); n != tc.first || bytes > tc.bytes+2048 {
				t.Errorf("first read: %d requests for %d bytes, want %d for %d and a header", n, bytes, tc.first, tc.bytes)
			}
			checkRange(t, s, "data/x", want, tc.off, tc.n)
			if n, bytes := under.take(); n != tc.requests || bytes != tc.bytes {
				t.Errorf("later read: %d requests for %d bytes, want %d for %d", n, bytes, tc.requests, tc.bytes)
			}
		})
	}
}

// An object that was replaced is read by its new header.
func TestReplacedObject(t *testing.T) {
	mem := objectstore.NewMem()
	line := newIdentity(t)
	reader := newStore(t, mem, line)
	for _, size := range []int{200_000, 300_000, 200_000} {
		put(t, newStore(t, mem, line), "data/x", content(size))
		checkRange(t, reader, "data/x", content(size), 100_000, 50_000)
	}
}

// A write whose answer was lost is settled by reading back the content.
func TestLostAnswer(t *testing.T) {
	faulty := storetest.NewFaulty(objectstore.NewMem(), 1, storetest.Rule{Op: storetest.Put, Nth: 1, Do: storetest.LoseAnswer()})
	s := newStore(t, faulty)
	_, err := s.Put(t.Context(), "data/x", objectstore.Bytes([]byte("content")), objectstore.PutOptions{IfAbsent: true})
	if !errors.Is(err, objectstore.ErrUnknownOutcome) {
		t.Fatalf("Put: %v", err)
	}
	if got := raw(t, s, "data/x"); string(got) != "content" {
		t.Errorf("read back %q", got)
	}
}

// A body that the store underneath cuts short is an error, whatever it says.
func TestCutShort(t *testing.T) {
	s := newStore(t, &cutting{objectstore.NewMem()})
	put(t, s, "data/x", content(200_000))
	for _, off := range []int64{0, 100_000} {
		got, err := readAll(t, s, "data/x", off)
		if !errors.Is(err, objectstore.ErrUnavailable) || errors.Is(err, objectstore.ErrDamaged) {
			t.Errorf("from %d: %d bytes, %v", off, len(got), err)
		}
	}
}

// cutting ends each long body early, as if that were its end.
type cutting struct{ objectstore.Store }

func (c *cutting) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	r, info, err := c.Store.Get(ctx, key, offset, length)
	if err != nil {
		return nil, info, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(r, 70_000), r}, info, nil
}
