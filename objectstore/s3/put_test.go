package s3_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

func put(ctx context.Context, s objectstore.Store, key, body string, opts objectstore.PutOptions) error {
	_, err := s.Put(ctx, key, objectstore.Bytes([]byte(body)), opts)
	return err
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func wantBody(t *testing.T, s objectstore.Store, key, want string) objectstore.Info {
	t.Helper()
	b, info, err := objectstore.ReadAll(t.Context(), s, key, 1<<30)
	if err != nil || string(b) != want {
		t.Fatalf("%q holds %d bytes, %v, want %d bytes", key, len(b), err, len(want))
	}
	return info
}

var absent = objectstore.PutOptions{IfAbsent: true}

// TestF18_OwnWriteRefusedOnRetry loses the answer to a conditional write that
// was done. What then refuses the retry is the write itself.
func TestF18_OwnWriteRefusedOnRetry(t *testing.T) {
	for _, match := range []bool{false, true} {
		for _, tc := range []struct {
			name     string
			headFail fault
			puts     int
		}{
			{"seen before the retry", nil, 1},
			{"412 on the retry", answer(403, ""), 2},
		} {
			opts := fake(t)
			key, cond, name := "k", absent, tc.name+", If-None-Match"
			if match {
				name = tc.name + ", If-Match"
				info, err := open(t, opts).Put(t.Context(), key, objectstore.Bytes([]byte("old")), absent)
				if err != nil {
					t.Fatal(err)
				}
				cond = objectstore.PutOptions{IfMatch: info.ETag}
			}
			t.Run(name, func(t *testing.T) {
				s, w := wiredTo(t, opts, func(kind string, n int) fault {
					switch {
					case kind == "put" && n == 1:
						return lostAnswer
					case kind == "head":
						return tc.headFail
					}
					return nil
				})
				err := put(t.Context(), s, key, "ours", cond)
				wantError(t, "Put", err, objectstore.ErrUnknownOutcome)
				if errors.Is(err, objectstore.ErrPrecondition) {
					t.Errorf("Put takes its own write for another's: %v", err)
				}
				if got := w.sent("put"); got != tc.puts {
					t.Errorf("%d PUTs, want %d", got, tc.puts)
				}
				wantBody(t, s, key, "ours")
			})
		}
	}
}

func TestPutRetriesUntilDone(t *testing.T) {
	for name, f := range map[string]fault{
		"request lost":   lostRequest,
		"500":            answer(500, "InternalError"),
		"502 of a proxy": answer(502, ""),
		"503":            answer(503, "SlowDown"),
		"429":            answer(429, "TooManyRequests"),
		"bad digest":     answer(400, "BadDigest"),
		"body too slow":  answer(400, "RequestTimeout"),
		"clock":          answer(403, "RequestTimeTooSkewed"),
		"dial": func(http.RoundTripper, *http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, w := wired(t, upTo("put", 3, f))
			if err := put(t.Context(), s, "k", "body", absent); err != nil || w.sent("put") != 4 {
				t.Errorf("Put after 3 faults: %v, %d PUTs", err, w.sent("put"))
			}
			wantBody(t, s, "k", "body")
		})
	}
}

// TestPutGivesUp checks what a Put says that never succeeded: only what is
// certain.
func TestPutGivesUp(t *testing.T) {
	const attempts = 4
	for _, tc := range []struct {
		name string
		do   fault
		want error
		puts int
	}{
		{"request lost", lostRequest, objectstore.ErrUnknownOutcome, attempts},
		{"no answer", silence, objectstore.ErrUnknownOutcome, attempts},
		{"500", answer(500, "InternalError"), objectstore.ErrUnknownOutcome, attempts},
		{"503", answer(503, "SlowDown"), objectstore.ErrUnknownOutcome, attempts},
		{"429", answer(429, "SlowDown"), objectstore.ErrUnavailable, attempts},
		{"409", answer(409, "ConditionalRequestConflict"), objectstore.ErrUnavailable, attempts},
		{"dial", func(http.RoundTripper, *http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}, objectstore.ErrUnavailable, attempts},
		{"412", answer(412, "PreconditionFailed"), objectstore.ErrPrecondition, 1},
		{"403", answer(403, "AccessDenied"), objectstore.ErrPermission, 1},
		{"wrong key", answer(403, "InvalidAccessKeyId"), objectstore.ErrPermission, 1},
		{"full", answer(507, "XMinioStorageFull"), objectstore.ErrNoSpace, 1},
		{"conditions unknown", answer(501, "NotImplemented"), objectstore.ErrRefused, 1},
		{"key is a directory", answer(409, "ObjectParentIsFile"), objectstore.ErrBadKey, 1},
		{"400", answer(400, "InvalidRequest"), objectstore.ErrRefused, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, w := wired(t, always("put", tc.do), func(o *s3.Options) {
				o.MaxAttempts, o.AttemptTimeout = attempts, 150*time.Millisecond
			})
			err := put(t.Context(), s, "k", "body", absent)
			wantError(t, "Put", err, tc.want)
			for _, other := range []error{objectstore.ErrUnknownOutcome, objectstore.ErrPrecondition, context.DeadlineExceeded, context.Canceled} {
				if other != tc.want && errors.Is(err, other) {
					t.Errorf("Put: %v, which is also %q", err, other)
				}
			}
			if got := w.sent("put"); got != tc.puts {
				t.Errorf("%d PUTs, want %d", got, tc.puts)
			}
		})
	}
}

// TestRefusalAfterDoubt has a lasting refusal follow an attempt that may have
// been done: the outcome stays unknown.
func TestRefusalAfterDoubt(t *testing.T) {
	s, _ := wired(t, func(kind string, n int) fault {
		switch {
		case kind == "put" && n == 1:
			return lostAnswer
		case kind == "put" || kind == "head":
			return answer(403, "AccessDenied")
		}
		return nil
	})
	err := put(t.Context(), s, "k", "body", absent)
	wantError(t, "Put", err, objectstore.ErrUnknownOutcome)
	if errors.Is(err, objectstore.ErrPermission) {
		t.Errorf("Put: %v, which reads as certainly not done", err)
	}
}

func TestF19_ConflictIsRetried(t *testing.T) {
	s, w := wired(t, upTo("put", 5, answer(409, "ConditionalRequestConflict")))
	if err := put(t.Context(), s, "k", "body", absent); err != nil || w.sent("put") != 6 {
		t.Errorf("Put after 5 conflicts: %v, %d PUTs", err, w.sent("put"))
	}
	// What is refused after conflicts alone is refused: a conflict is not doubt.
	s, w = wired(t, func(kind string, n int) fault {
		switch {
		case kind == "put" && n <= 2:
			return answer(409, "ConditionalRequestConflict")
		case kind == "put":
			return answer(412, "PreconditionFailed")
		}
		return nil
	})
	err := put(t.Context(), s, "k", "body", absent)
	wantError(t, "Put that lost", err, objectstore.ErrPrecondition)
	if errors.Is(err, objectstore.ErrUnknownOutcome) || w.sent("put") != 3 {
		t.Errorf("Put that lost: %v, %d PUTs", err, w.sent("put"))
	}
	// Conflicts without end are bounded and certainly not done.
	s, w = wired(t, always("put", answer(409, "ConditionalRequestConflict")), func(o *s3.Options) { o.MaxAttempts = 5 })
	err = put(t.Context(), s, "k", "body", absent)
	wantError(t, "Put", err, objectstore.ErrUnavailable)
	if errors.Is(err, objectstore.ErrUnknownOutcome) || w.sent("put") != 5 {
		t.Errorf("Put: %v after %d PUTs", err, w.sent("put"))
	}
}

func TestCancelDuringPutIsUnknown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, _ := wired(t, always("put", func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
		}
		cancel()
		return nil, context.Canceled
	}))
	err := put(ctx, s, "k", "body", absent)
	wantError(t, "Put", err, objectstore.ErrUnknownOutcome)
	wantError(t, "Put", err, context.Canceled)
	wantBody(t, s, "k", "body")
}

// TestPutOnTheWire checks the headers that keep payloads out of the signature
// and other servers correct.
func TestPutOnTheWire(t *testing.T) {
	s, w := wired(t, nil)
	body := bytes.Repeat([]byte("abc"), 100_000)
	if _, err := s.Put(t.Context(), "k", objectstore.Bytes(body), absent); err != nil {
		t.Fatal(err)
	}
	r := w.seen[0]
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	for name, want := range map[string]string{
		"X-Amz-Content-Sha256":  "UNSIGNED-PAYLOAD",
		"X-Amz-Checksum-Crc32c": base64.StdEncoding.EncodeToString(sum),
		"If-None-Match":         "*",
		"Content-Encoding":      "",
		"X-Amz-Trailer":         "",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if r.ContentLength != int64(len(body)) || len(r.TransferEncoding) > 0 {
		t.Errorf("body is sent with length %d, encoding %v", r.ContentLength, r.TransferEncoding)
	}
}

func TestUnquotedETags(t *testing.T) {
	s, w := wired(t, nil)
	if !s.UnquoteETags(true) {
		t.Fatal("store has no choice of spelling")
	}
	put(t.Context(), s, "k", "body", objectstore.PutOptions{IfMatch: `"abc"`})
	s.UnquoteETags(false)
	put(t.Context(), s, "k", "body", objectstore.PutOptions{IfMatch: `"abc"`})
	if a, b := w.seen[0].Header.Get("If-Match"), w.seen[1].Header.Get("If-Match"); a != `abc` || b != `"abc"` {
		t.Errorf("If-Match is %q, then %q", a, b)
	}
}
