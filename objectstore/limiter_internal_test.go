package objectstore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The first of the highest class is next, and each lower one that waits gets
// its turn after 15 of them.
func TestLineOrder(t *testing.T) {
	var l line
	for range 40 {
		l.join(Urgent, 1)
	}
	first := l.join(Sweeping, 1)
	for range 2 {
		l.join(Restoring, 1)
		l.join(Sweeping, 1)
	}
	if !l.leave(first) || l.leave(first) {
		t.Error("a waiter leaves not exactly once")
	}
	var got []Class
	for w := l.next(classes); w != nil; w = l.next(classes) {
		got = append(got, w.class)
	}
	var want []Class
	urgent := func(n int) { want = append(want, make([]Class, n)...) }
	urgent(15)
	want = append(want, Restoring, Sweeping)
	urgent(15)
	want = append(want, Restoring, Sweeping)
	urgent(10)
	if !slices.Equal(got, want) {
		t.Errorf("order is\n%v, want\n%v", got, want)
	}
}

// A class before which room ends is left in line, whatever it has waited.
func TestLineLimit(t *testing.T) {
	var l line
	l.join(Restoring, 1)
	for range 2 * patience {
		l.join(Urgent, 1)
		if w := l.next(Restoring); w == nil || w.class != Urgent {
			t.Fatalf("next is %+v, want an urgent one", w)
		}
	}
	if l.next(Restoring) != nil {
		t.Error("a class past the limit is next")
	}
	if !l.empty(Urgent) || l.empty(Restoring) || l.empty(Sweeping) {
		t.Error("line is not empty before Restoring alone")
	}
}

func newLimiter(t *testing.T, opts LimiterOptions) *Limiter {
	t.Helper()
	l, err := NewLimiter(opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// transfer paces n bytes as a transfer does, in pieces of 32 KiB, and returns
// how long it took.
func transfer(t *testing.T, l *Limiter, class Class, n int) time.Duration {
	began := time.Now()
	for ; n > 0; n -= 32 << 10 {
		if err := l.pace(context.Background(), class, min(n, 32<<10)); err != nil {
			t.Error(err)
		}
	}
	return time.Since(began)
}

const mb = 1_000_000

// within wants a duration of at least one and at most another.
func within(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s took %v, want %v to %v", what, got, low, high)
	}
}

// A class that is alone has all of the bandwidth, whichever it is, and no more.
func TestLimiterBandwidth(t *testing.T) {
	for class := range Class(classes) {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(t, LimiterOptions{BytesPerSecond: mb, Burst: 100_000})
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { transfer(t, l, class, mb) })
			}
			began := time.Now()
			wg.Wait()
			within(t, "4 MB at 1 MB/s", time.Since(began), 3900*time.Millisecond, 3910*time.Millisecond)
		})
	}
}

// A transfer goes ahead of those of lower classes that are under way and
// queued, which go on slowly meanwhile and at full speed afterwards.
func TestLimiterPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, LimiterOptions{BytesPerSecond: mb, Burst: 64 << 10})
		var low sync.WaitGroup
		began := time.Now()
		for range 8 {
			low.Go(func() { transfer(t, l, Materializing, mb) })
		}
		time.Sleep(time.Second)
		took := transfer(t, l, Urgent, mb)
		within(t, "urgent 1 MB beside 8 MB", took, 1000*time.Millisecond, 1200*time.Millisecond)
		low.Wait()
		within(t, "9 MB in all", time.Since(began), 8900*time.Millisecond, 9*time.Second)
	})
}

// While higher classes ask for more than there is, a lower one still gets a
// little.
func TestLimiterTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, LimiterOptions{BytesPerSecond: mb})
		ctx, stop := context.WithCancel(t.Context())
		var urgent sync.WaitGroup
		for range 3 {
			urgent.Go(func() {
				for l.pace(ctx, Urgent, 32<<10) == nil {
				}
			})
		}
		took := transfer(t, l, Sweeping, mb)
		stop()
		urgent.Wait()
		within(t, "1 MB at 1/16 of 1 MB/s", took, 12*time.Second, 18*time.Second)
	})
}

// Who waits can give up, in line and at the head of it, without a trace.
func TestLimiterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, LimiterOptions{BytesPerSecond: mb, Burst: 1000, Requests: 2})
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("no patience"))
		defer cancel()
		var wg sync.WaitGroup
		if err := l.begin(ctx, Sweeping); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			wg.Go(func() {
				if err := l.pace(ctx, Restoring, 1000*mb); err == nil || err.Error() != "no patience" {
					t.Errorf("pace: %v", err)
				}
			})
			wg.Go(func() {
				if err := l.begin(ctx, Sweeping); err == nil || err.Error() != "no patience" {
					t.Errorf("begin: %v", err)
				}
			})
		}
		wg.Wait()
		l.end(Sweeping)
		if err := l.begin(t.Context(), Sweeping); err != nil {
			t.Error(err)
		}
		within(t, "10 kB afterwards", transfer(t, l, Sweeping, 10_000), 9*time.Millisecond, 11*time.Millisecond)
		time.Sleep(time.Hour)
		if l.timed || l.line.next(classes) != nil || l.waiting.next(classes) != nil {
			t.Error("somebody is still waited for")
		}
	})
}

// Lower classes leave a quarter of the requests to urgent ones, and whoever is
// let in next is of the highest class that waits.
func TestLimiterRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, LimiterOptions{Requests: 8})
		var mu sync.Mutex
		var order []Class
		start := func(class Class) {
			go func() {
				if err := l.begin(context.Background(), class); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, class)
			}()
			synctest.Wait()
		}
		under := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(order)
		}
		for range 10 {
			start(Sweeping)
		}
		if n := under(); n != 6 {
			t.Errorf("%d of 8 requests are of the lowest class, want 6", n)
		}
		if l.tryBegin(Restoring) || !l.tryBegin(Urgent) {
			t.Error("room for others than urgent ones, or none for those")
		}
		l.end(Urgent)
		for _, class := range []Class{Materializing, Urgent, Restoring, Urgent, Urgent} {
			start(class)
		}
		for len(order) < 15 {
			l.end(Sweeping)
			synctest.Wait()
		}
		want := []Class{Urgent, Urgent, Urgent, Restoring, Materializing, Sweeping, Sweeping, Sweeping, Sweeping}
		if got := order[6:]; !slices.Equal(got, want) {
			t.Errorf("let in are %v, want %v", got, want)
		}
	})
}

func TestNewLimiterRefuses(t *testing.T) {
	for _, opts := range []LimiterOptions{{BytesPerSecond: -1}, {Burst: -1}, {Requests: -1}, {Requests: 1}} {
		if _, err := NewLimiter(opts); err == nil {
			t.Errorf("limits %+v are taken", opts)
		}
	}
}
