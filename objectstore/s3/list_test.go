package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

// filled is options for a server with n objects d/0000 and on.
func filled(t *testing.T, n int) s3.Options {
	t.Helper()
	opts := fake(t)
	s := open(t, opts)
	for i := range n {
		if err := put(t.Context(), s, fmt.Sprintf("d/%04d", i), "x", absent); err != nil {
			t.Fatal(err)
		}
	}
	return opts
}

func list(t *testing.T, s objectstore.Store) (keys []string, err error) {
	for info, e := range s.List(t.Context(), "d/", "") {
		if e != nil {
			return keys, e
		}
		keys = append(keys, info.Key)
	}
	return keys, nil
}

// TestBadListingEndsWithError has a server repeat, reorder or cut short its
// pages: whoever deletes by a listing must not take that for a whole one.
func TestBadListingEndsWithError(t *testing.T) {
	opts := filled(t, 1100)
	double := editBody(func(page []byte) []byte { return bytes.ReplaceAll(page, []byte("d/0004"), []byte("d/0003")) })
	swap := func(a, b string) fault {
		return editBody(func(page []byte) []byte {
			page = bytes.ReplaceAll(page, []byte(a), []byte("#"))
			page = bytes.ReplaceAll(page, []byte(b), []byte(a))
			return bytes.ReplaceAll(page, []byte("#"), []byte(b))
		})
	}
	repeat := func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		q := r.URL.Query()
		q.Del("continuation-token")
		r.URL.RawQuery = q.Encode()
		return next.RoundTrip(r)
	}
	drop := func(tag string) fault {
		return editBody(func(page []byte) []byte {
			a, b := bytes.Index(page, []byte("<"+tag+">")), bytes.Index(page, []byte("</"+tag+">"))
			if a < 0 {
				return page
			}
			return append(page[:a:a], page[b+len(tag)+3:]...)
		})
	}
	for _, tc := range []struct {
		name string
		page int
		do   fault
		want int // objects seen before the error
	}{
		{"reordered", 1, swap("d/0003", "d/0004"), 0},
		{"doubled", 1, double, 0},
		{"second page repeats the first", 2, repeat, 1000},
		{"no continuation", 1, drop("NextContinuationToken"), 0},
		{"foreign key", 1, swap("d/0003", "e/0003"), 0},
		{"broken XML", 2, editBody(func(b []byte) []byte { return b[:len(b)/2] }), 1000},
		{"second page refused", 2, answer(400, "InvalidArgument"), 1000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := wiredTo(t, opts, func(kind string, n int) fault {
				if kind == "list" && n >= tc.page {
					return tc.do
				}
				return nil
			}, func(o *s3.Options) { o.MaxAttempts = 2 })
			got, err := list(t, s)
			if err == nil || len(got) != tc.want {
				t.Errorf("listed %d objects, %v, want %d and an error", len(got), err, tc.want)
			}
		})
	}
	t.Run("passing faults", func(t *testing.T) {
		s, w := wiredTo(t, opts, func(kind string, n int) fault {
			switch n {
			case 1:
				return answer(503, "SlowDown")
			case 2:
				return swap("d/0003", "d/0004")
			case 4:
				return lostAnswer
			}
			return nil
		})
		got, err := list(t, s)
		if err != nil || len(got) != 1100 || !slices.IsSorted(got) || w.sent("list") != 5 {
			t.Errorf("listed %d objects, %v, by %d requests", len(got), err, w.sent("list"))
		}
	})
}

func TestListLeavesOutForeignKeys(t *testing.T) {
	opts := filled(t, 3)
	raw, err := http.NewRequest(http.MethodPut, opts.Endpoint+"/"+opts.Bucket+"/d/0001/", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(raw)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("put directory marker: %v", err)
	}
	resp.Body.Close()
	got, err := list(t, open(t, opts))
	if want := []string{"d/0000", "d/0001", "d/0002"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("listed %q, %v, want %q", got, err, want)
	}
}

// deleteErrors answers a DeleteObjects by the server's answer with errors for
// some keys, which are not deleted.
func deleteErrors(code string, keys ...string) fault {
	return func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body.Close()
		var errs strings.Builder
		for _, k := range keys {
			b = bytes.ReplaceAll(b, []byte("<Object><Key>"+k+"</Key></Object>"), nil)
			fmt.Fprintf(&errs, "<Error><Key>%s</Key><Code>%s</Code><Message>m</Message></Error>", k, code)
		}
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
		return editBody(func(page []byte) []byte {
			return bytes.Replace(page, []byte("</DeleteResult>"), []byte(errs.String()+"</DeleteResult>"), 1)
		})(next, r)
	}
}

func TestDeletePartFails(t *testing.T) {
	all := []string{"d/0000", "d/0001", "d/0002", "d/0003"}
	t.Run("for ever", func(t *testing.T) {
		for code, want := range map[string]error{"AccessDenied": objectstore.ErrPermission, "InternalError": objectstore.ErrUnavailable} {
			opts := filled(t, 4)
			s, _ := wiredTo(t, opts, always("delete", deleteErrors(code, "d/0001", "d/0003")))
			err := s.Delete(t.Context(), all...)
			wantError(t, code, err, want)
			var partial *objectstore.DeleteError
			if !errors.As(err, &partial) || len(partial.Failed) != 2 || partial.Failed["d/0001"] == nil || partial.Failed["d/0003"] == nil {
				t.Errorf("%s: %v", code, err)
			}
			if got, err := list(t, open(t, opts)); err != nil || !slices.Equal(got, []string{"d/0001", "d/0003"}) {
				t.Errorf("%s: left %q, %v", code, got, err)
			}
		}
	})
	t.Run("for a while", func(t *testing.T) {
		s, w := wiredTo(t, filled(t, 4), upTo("delete", 2, deleteErrors("SlowDown", "d/0001")))
		if err := s.Delete(t.Context(), all...); err != nil || w.sent("delete") != 3 {
			t.Errorf("Delete: %v, %d requests", err, w.sent("delete"))
		}
		if got, err := list(t, s); err != nil || len(got) != 0 {
			t.Errorf("left %q, %v", got, err)
		}
	})
	t.Run("missing already", func(t *testing.T) {
		s, _ := wiredTo(t, filled(t, 4), always("delete", deleteErrors("NoSuchKey", "d/0001")))
		if err := s.Delete(t.Context(), all...); err != nil {
			t.Errorf("Delete: %v", err)
		}
	})
	t.Run("all", func(t *testing.T) {
		s, _ := wiredTo(t, filled(t, 4), always("delete", answer(503, "SlowDown")))
		var partial *objectstore.DeleteError
		if err := s.Delete(t.Context(), all...); !errors.As(err, &partial) || len(partial.Failed) != 4 || !errors.Is(err, objectstore.ErrUnavailable) {
			t.Errorf("Delete: %v", err)
		}
	})
}
