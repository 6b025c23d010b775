package s3_test

import (
	"bytes"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

// A body is paid for when it is sent, once for each attempt, and not when its
// checksum is computed; and an attempt is not cut off for what it was held back.
func TestLimitPaysForWhatIsSent(t *testing.T) {
	for _, tc := range []struct {
		name     string
		size     int
		failures int
		want     time.Duration
	}{
		{"put", 4 << 20, 0, 64 * time.Second},
		{"put with a retry", 2 << 20, 1, 64 * time.Second},
		{"parts", 3 * partSize, 0, 240 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kind := "put"
				if tc.size > partSize {
					kind = "part"
				}
				s, w := inBubble(t, upTo(kind, tc.failures, answer(503, "SlowDown")), inParts, func(o *s3.Options) {
					o.AttemptTimeout = 100 * time.Millisecond
				})
				l, err := objectstore.NewLimiter(objectstore.LimiterOptions{BytesPerSecond: 64 << 10, Burst: 4 << 10})
				if err != nil {
					t.Fatal(err)
				}
				limited := objectstore.Limit(s, l, objectstore.Urgent)
				began := time.Now()
				if _, err := limited.Put(t.Context(), "k", bytes.NewReader(make([]byte, tc.size)), absent); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(began); d < tc.want*98/100 || d > tc.want*102/100 {
					t.Errorf("took %v at 64 KiB/s, want %v", d, tc.want)
				}
				if n, want := w.sent(kind), 1+tc.failures; kind == "put" && n != want {
					t.Errorf("%d requests, want %d", n, want)
				}
			})
		})
	}
}

// However large objects are, the limiter bounds the requests they go up in, and
// each has at least one.
func TestLimitBoundsParts(t *testing.T) {
	var now, most atomic.Int64
	s, _ := wired(t, always("part", func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		return next.RoundTrip(r)
	}), inParts)
	for _, tc := range []struct {
		requests int
		want     int64 // lower classes have three quarters
	}{{2, 1}, {4, 3}, {64, 12}} {
		most.Store(0)
		l, err := objectstore.NewLimiter(objectstore.LimiterOptions{Requests: tc.requests})
		if err != nil {
			t.Fatal(err)
		}
		limited := objectstore.Limit(s, l, objectstore.Materializing)
		errs := make(chan error)
		for i := range 3 {
			go func() {
				_, err := limited.Put(t.Context(), string(rune('a'+i)), bytes.NewReader(large()), objectstore.PutOptions{})
				errs <- err
			}()
		}
		for range 3 {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		if n := most.Load(); n > tc.want || n < 1 {
			t.Errorf("limit %d: %d parts at a time, want at most %d", tc.requests, n, tc.want)
		}
	}
}
