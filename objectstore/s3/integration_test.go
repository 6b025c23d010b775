package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ckpt-io/ckpt/internal/versitygw"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

// TestF25_ProxyStripsConditions has a proxy take the conditions out of the
// requests.
func TestF25_ProxyStripsConditions(t *testing.T) {
	for _, header := range []string{"If-None-Match", "If-Match"} {
		s, _ := wired(t, always("put", func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Header.Del(header)
			return next.RoundTrip(r)
		}))
		_, err := objectstore.Probe(t.Context(), s, "probe/")
		wantError(t, "Probe without "+header, err, objectstore.ErrConditionsIgnored)
		for info, err := range s.List(t.Context(), "", "") {
			t.Errorf("left behind: %q %v", info.Key, err)
		}
	}
}

// TestF30_TroubleLeavesNothingBehind puts a store through each kind of trouble
// and counts goroutines afterwards.
func TestF30_TroubleLeavesNothingBehind(t *testing.T) {
	opts := stored(t, "k", bigBody())
	before := runtime.NumGoroutine()
	for name, f := range map[string]fault{
		"429": answer(429, "SlowDown"), "500": answer(500, "InternalError"), "reset": lostAnswer,
		"silence": silence, "slow body": stallBody(1), "cut body": cutBody(5),
		"TLS": func(http.RoundTripper, *http.Request) (*http.Response, error) {
			return nil, errors.New("tls: handshake failure")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, w := wiredTo(t, opts, func(string, int) fault { return f }, short, func(o *s3.Options) { o.AttemptTimeout = 30 * time.Millisecond })
			for what, err := range everyCall(t, s) {
				if err == nil && !strings.HasSuffix(name, "body") {
					t.Errorf("%s succeeded", what)
				}
			}
			if err := put(t.Context(), open(t, opts), "k", bigBody(), objectstore.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			_, _, err := objectstore.ReadAll(t.Context(), s, "k", 1<<20)
			wantError(t, "read", err, objectstore.ErrUnavailable)
			if n := len(w.seen); n > 9*4+3*3 { // and what a conditional Put asks between its attempts
				t.Errorf("9 calls of 4 attempts took %d requests", n)
			}
			w.next.(*http.Transport).CloseIdleConnections()
		})
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// TestIntegrationLargeRefused writes a large body onto a key that is taken.
// Servers refuse that by an answer or by a reset of the connection; both must
// end soon, and never as done.
func TestIntegrationLargeRefused(t *testing.T) {
	srv := versitygw.Start(t)
	s, w := wiredTo(t, integration(srv), nil)
	if err := put(t.Context(), s, "k", "first", absent); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1 << 10, 4 << 20, 32 << 20} {
		for _, opts := range []objectstore.PutOptions{absent, {IfMatch: `"stale"`}} {
			before := w.sent("put")
			_, err := s.Put(t.Context(), "k", objectstore.Bytes(make([]byte, size)), opts)
			if !errors.Is(err, objectstore.ErrPrecondition) && !errors.Is(err, objectstore.ErrUnknownOutcome) {
				t.Errorf("Put of %d bytes %+v: %v", size, opts, err)
			}
			if n := w.sent("put") - before; n > 1 {
				t.Errorf("Put of %d bytes took %d requests", size, n)
			}
		}
	}
	wantBody(t, s, "k", "first")
}

// TestIntegrationServerKilled kills the server under parallel writes. What was
// acknowledged must be there whole afterwards, what was not is whole or absent,
// and the store goes on by itself.
func TestIntegrationServerKilled(t *testing.T) {
	srv := versitygw.Start(t)
	opts := integration(srv)
	opts.MaxAttempts = 3
	s := open(t, opts)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const writers, size = 4, 1 << 20
	type result struct {
		key string
		err error
	}
	results := make(chan result)
	for i := range writers {
		go func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("k/%d/%d", i, n)
				_, err := s.Put(ctx, key, objectstore.Bytes(bytes.Repeat([]byte{byte(n)}, size)), absent)
				results <- result{key, err}
				if err != nil {
					break
				}
			}
			results <- result{}
		}()
	}
	outcome := map[string]error{}
	for running := writers; running > 0; {
		r := <-results
		if r.key == "" {
			running--
			continue
		}
		outcome[r.key] = r.err
		if len(outcome) == 20 {
			srv.Kill()
		}
	}
	srv.Restart()
	for key, err := range outcome {
		b, _, readErr := objectstore.ReadAll(t.Context(), s, key, size)
		switch {
		case readErr == nil && len(b) == size && bytes.Count(b, b[:1]) == size: // whole
		case err != nil && errors.Is(readErr, objectstore.ErrNotExist): // refused, or lost
		default:
			t.Errorf("%s: written: %v; read: %d bytes, %v", key, err, len(b), readErr)
		}
	}
}

func TestIntegrationWrongSecret(t *testing.T) {
	srv := versitygw.Start(t)
	opts := integration(srv)
	opts.Credentials = credentials.NewStaticCredentialsProvider(versitygw.AccessKey, "wrong", "")
	for what, err := range everyCall(t, open(t, opts)) {
		wantError(t, what, err, objectstore.ErrPermission)
	}
}

func TestIntegrationMissingBucket(t *testing.T) {
	srv := versitygw.Start(t)
	opts := integration(srv)
	opts.Bucket = "no-such-bucket"
	for what, err := range everyCall(t, open(t, opts)) {
		wantError(t, what, err, objectstore.ErrNoBucket)
	}
}

func BenchmarkIntegrationPut(b *testing.B) {
	srv := versitygw.Start(b)
	for _, size := range []int{64 << 10, 2 << 20} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			s, err := s3.Open(b.Context(), integration(srv))
			if err != nil {
				b.Fatal(err)
			}
			body := make([]byte, size)
			b.SetBytes(int64(size))
			n := 0
			for b.Loop() {
				n++
				if _, err := s.Put(b.Context(), fmt.Sprintf("b/%d/%d/%d", size, b.N, n), objectstore.Bytes(body), objectstore.PutOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
