package s3_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

// stored is options for a fake server that holds one object.
func stored(t *testing.T, key, body string) s3.Options {
	t.Helper()
	opts := fake(t)
	if err := put(t.Context(), open(t, opts), key, body, absent); err != nil {
		t.Fatal(err)
	}
	return opts
}

func bigBody() string {
	var b strings.Builder
	for i := 0; b.Len() < 400_000; i++ {
		b.WriteString(strings.Repeat(string(rune('a'+i%26)), 1+i%7))
	}
	return b.String()
}

func short(o *s3.Options) { o.AttemptTimeout, o.MaxAttempts = 150*time.Millisecond, 4 }

func TestGetResumes(t *testing.T) {
	body := bigBody()
	for name, f := range map[string]fault{
		"cut":     cutBody(100_000),
		"stalled": stallBody(100_000),
		"ended":   wrapBody(func(_ context.Context, r io.Reader) io.Reader { return io.LimitReader(r, 100_000) }),
	} {
		t.Run(name, func(t *testing.T) {
			s, w := wiredTo(t, stored(t, "k", body), upTo("get", 3, f), short)
			wantBody(t, s, "k", body)
			if got := w.sent("get"); got != 4 {
				t.Errorf("%d GETs, want 4", got)
			}
			if r := w.seen[1]; r.Header.Get("Range") != "bytes=100000-399999" && !strings.HasPrefix(r.Header.Get("Range"), "bytes=100000-") || r.Header.Get("If-Match") == "" {
				t.Errorf("resumed by Range %q, If-Match %q", r.Header.Get("Range"), r.Header.Get("If-Match"))
			}
		})
		t.Run(name+", range", func(t *testing.T) {
			s, _ := wiredTo(t, stored(t, "k", body), upTo("get", 2, f), short)
			r, info, err := s.Get(t.Context(), "k", 1000, 300_000)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			if err != nil || string(got) != body[1000:301_000] || info.Size != int64(len(body)) {
				t.Errorf("read %d bytes, %v; Info %+v", len(got), err, info)
			}
		})
	}
}

func TestGetGivesUp(t *testing.T) {
	body := bigBody()
	for name, tc := range map[string]struct {
		f    fault
		gets int
	}{
		// A server that gives little before it breaks off is given up, one
		// that gives enough each time is not (TestGetResumes).
		"cut at once":    {cutBody(0), 4},
		"cut soon":       {cutBody(10), 4},
		"stalled":        {stallBody(10), 4},
		"503":            {answer(503, "SlowDown"), 4},
		"no answer":      {silence, 4},
		"wrong range":    {contentRange("bytes 5-99/400000"), 4},
		"no total":       {contentRange("bytes 0-9/*"), 4},
		"absurd range":   {contentRange("seven"), 4},
		"huge total":     {contentRange("bytes 0-9/99999999999999999999"), 4},
		"answer is HTML": {answer(200, "html"), 4},
	} {
		t.Run(name, func(t *testing.T) {
			s, w := wiredTo(t, stored(t, "k", body), always("get", tc.f), short)
			_, _, err := objectstore.ReadAll(t.Context(), s, "k", 1<<20)
			wantError(t, "read", err, objectstore.ErrUnavailable)
			if got := w.sent("get"); got != tc.gets {
				t.Errorf("%d GETs, want %d", got, tc.gets)
			}
		})
	}
}

func contentRange(v string) fault {
	return func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil {
			resp.Header.Set("Content-Range", v)
		}
		return resp, err
	}
}

// TestGetOfReplacedObject replaces the object while it is read: the reader
// must not go on with the new one's bytes.
func TestGetOfReplacedObject(t *testing.T) {
	for _, change := range []string{"replace", "delete"} {
		t.Run(change, func(t *testing.T) {
			opts := stored(t, "k", strings.Repeat("a", 400_000))
			behind := open(t, opts)
			s, _ := wiredTo(t, opts, upTo("get", 1, cutBody(100_000)))
			r, _, err := s.Get(t.Context(), "k", 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			want := objectstore.ErrNotExist
			if change == "delete" {
				err = behind.Delete(t.Context(), "k")
			} else {
				want = objectstore.ErrUnavailable
				err = put(t.Context(), behind, "k", strings.Repeat("b", 400_000), objectstore.PutOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(r)
			wantError(t, "read on", err, want)
			if len(rest) > 99_000 {
				t.Errorf("read %d bytes of the new object", len(rest)-99_000)
			}
		})
	}
}

func TestGetStopsWithContext(t *testing.T) {
	ctx, cancel := contextWithCancel(t)
	s, _ := wiredTo(t, stored(t, "k", bigBody()), always("get", stallBody(10)))
	r, _, err := s.Get(ctx, "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = r.Read(make([]byte, 10))
	wantError(t, "read", err, ctx.Err())
	if errors.Is(err, objectstore.ErrUnavailable) {
		t.Errorf("read: %v blames the store", err)
	}
}

// TestGetReusesConnections reads objects to their ends, which must leave the
// connection for the next request.
func TestGetReusesConnections(t *testing.T) {
	opts := stored(t, "k", bigBody())
	conns := countConns(t, &opts)
	s := open(t, opts)
	for range 10 {
		wantBody(t, s, "k", bigBody())
	}
	if n := conns(); n != 1 {
		t.Errorf("10 reads took %d connections", n)
	}
}
