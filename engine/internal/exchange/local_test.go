package exchange

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/manifest"
)

type number int

func (number) Len() int    { return 1 }
func (number) Size() int64 { return 8 }
func (number) Release()    {}

func barrier(id manifest.ID) Batch {
	return Batch{Barrier: Barrier{Trigger: coordinator.Trigger{ID: id}}}
}

func recv(t *testing.T, g Gate) (int, Batch) {
	t.Helper()
	from, b, err := g.Recv(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return from, b
}

func send(t *testing.T, p Partitions, b Batch) {
	t.Helper()
	if err := p.Send(t.Context(), 0, b); err != nil {
		t.Fatal(err)
	}
}

func TestOrderAndCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLocal(2)
		g := l.Gate("b", 0, 1)
		p := l.Partitions(Edge{To: "b"}, 0)
		var sent []int
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 5 {
				if err := p.Send(t.Context(), 0, Batch{Records: number(i)}); err != nil {
					t.Error(err)
				}
				sent = append(sent, i)
			}
		}()
		synctest.Wait()
		if len(sent) != 2 {
			t.Fatalf("%d batches were sent on a credit of 2", len(sent))
		}
		for i := range 5 {
			if _, b := recv(t, g); b.Records != number(i) {
				t.Fatalf("got %v, want %d", b.Records, i)
			}
		}
		<-done
		if g.Pending() {
			t.Error("something is pending in an empty gate")
		}
	})
}

func TestBarrierNeedsNoCredit(t *testing.T) {
	l := NewLocal(1)
	g := l.Gate("b", 0, 1)
	p := l.Partitions(Edge{To: "b"}, 0)
	send(t, p, Batch{Records: number(1)})
	send(t, p, barrier(7))
	recv(t, g)
	if _, b := recv(t, g); b.Records != nil || b.Barrier.Trigger.ID != 7 {
		t.Fatalf("got %+v, want the barrier", b)
	}
}

func TestBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLocal(2)
		g := l.Gate("b", 0, 2)
		left, right := l.Partitions(Edge{To: "b"}, 0), l.Partitions(Edge{To: "b", First: 1}, 0)
		g.Block(0)
		send(t, left, Batch{Records: number(1)})
		send(t, right, Batch{Records: number(2)})
		if from, b := recv(t, g); from != 1 || b.Records != number(2) {
			t.Fatalf("got %v from %d, want 2 from 1", b.Records, from)
		}
		if g.Pending() {
			t.Error("a blocked channel is pending")
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			synctest.Wait()
			cancel()
		}()
		if _, _, err := g.Recv(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want to wait until the end", err)
		}
		g.UnblockAll()
		if from, _ := recv(t, g); from != 0 {
			t.Fatalf("got a batch from %d, want 0", from)
		}
	})
}

func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLocal(1)
		g := l.Gate("b", 0, 1)
		go func() {
			synctest.Wait()
			g.Wake()
		}()
		if _, _, err := g.Recv(t.Context()); !errors.Is(err, ErrWoken) {
			t.Fatalf("got %v, want ErrWoken", err)
		}
		g.Wake()
		send(t, l.Partitions(Edge{To: "b"}, 0), Batch{Records: number(1)})
		if !g.Pending() {
			t.Error("a wake-up is not pending")
		}
		if _, _, err := g.Recv(t.Context()); !errors.Is(err, ErrWoken) {
			t.Fatalf("got %v, want ErrWoken before the batch", err)
		}
		recv(t, g)
	})
}

func TestFairness(t *testing.T) {
	l := NewLocal(3)
	g := l.Gate("b", 0, 3)
	for from := range 3 {
		for range 3 {
			send(t, l.Partitions(Edge{To: "b"}, from), Batch{Records: number(from)})
		}
	}
	var got []int
	for range 6 {
		from, _ := recv(t, g)
		got = append(got, from)
	}
	if want := []int{0, 1, 2, 0, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("channels were served %v, want %v", got, want)
	}
}

func TestSendEnds(t *testing.T) {
	l := NewLocal(1)
	l.Gate("b", 0, 1)
	p := l.Partitions(Edge{To: "b"}, 0)
	send(t, p, Batch{Records: number(1)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Send(ctx, 0, Batch{Records: number(2)}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the end of the context", err)
	}
}

func BenchmarkLocal(b *testing.B) {
	l := NewLocal(4)
	g := l.Gate("b", 0, 1)
	p := l.Partitions(Edge{To: "b"}, 0)
	ctx := b.Context()
	go func() {
		for p.Send(ctx, 0, Batch{Records: number(1)}) == nil {
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := g.Recv(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
