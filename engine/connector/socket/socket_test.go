package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest"
)

// serve sends text to each that connects, in the pieces given, and closes.
func serve(t *testing.T, pieces ...string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			for _, p := range pieces {
				if _, err := io.WriteString(conn, p); err != nil {
					break // the reader has gone
				}
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func reading(t *testing.T, address string, opts Options, log io.Writer) (engine.SourceReader[string], error) {
	t.Helper()
	s, err := New(address, opts)
	if err != nil {
		t.Fatal(err)
	}
	splits, err := s.Splits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Reader(engine.SourceContext{Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, r.Restore(t.Context(), splits)
}

func drain(ctx context.Context, r engine.SourceReader[string]) (lines []string, err error) {
	for {
		err := r.Poll(ctx, func(l string) { lines = append(lines, l) })
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
	}
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 300_000)
	tests := []struct {
		name   string
		pieces []string
		want   []string
	}{
		{"nothing", nil, nil},
		{"lines", []string{"a\nb\r\n\nc"}, []string{"a", "b", "", "c"}},
		{"pieces", []string{"to ", "be\nor", " not\n", "\r", "\n"}, []string{"to be", "or not", ""}},
		{"long", []string{long, long, "\nrest\n"}, []string{long + long, "rest"}},
		{"many", []string{strings.Repeat("line\n", 100_000)}, slices.Repeat([]string{"line"}, 100_000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := reading(t, serve(t, tt.pieces...), Options{BatchLines: 3}, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			got, err := drain(t.Context(), r)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%d lines, %v, want %d", len(got), err, len(tt.want))
			}
		})
	}
}

func TestPollReturnsWithoutInput(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := reading(t, l.Addr().String(), Options{}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Poll(t.Context(), func(l string) { t.Errorf("line %q", l) }); err != nil {
		t.Errorf("Poll of a silent peer: %v", err)
	}
}

func TestEndIsRemembered(t *testing.T) {
	address := serve(t, "a\n")
	r, err := reading(t, address, Options{}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	splits, err := r.Snapshot(1)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(address, Options{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Reader(engine.SourceContext{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Restore(t.Context(), splits); err != nil {
		t.Fatal(err)
	}
	if got, err := drain(t.Context(), again); err != nil || len(got) > 0 {
		t.Errorf("read %q, %v after the end", got, err)
	}
}

func TestSaysThatItCannotReplay(t *testing.T) {
	var log strings.Builder
	if _, err := reading(t, serve(t), Options{}, &log); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "cannot be replayed") || !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("log %q", log.String())
	}
}

func TestRefusedAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, err = reading(t, address, Options{}, io.Discard)
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), address) {
		t.Errorf("error %v", err)
	}
}

func TestOtherSubtasksHaveNothingToDo(t *testing.T) {
	s, err := New("127.0.0.1:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Reader(engine.SourceContext{Subtask: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Restore(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got, err := drain(t.Context(), r); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	if splits, err := r.Snapshot(1); err != nil || len(splits) > 0 {
		t.Errorf("splits %v, %v", splits, err)
	}
}

func TestMaxLineBytes(t *testing.T) {
	for _, tt := range []struct {
		text string
		ok   bool
	}{
		{"0123456789\r\n0123456789", true},
		{"0123456789x\n", false},
		{"0123456789x", false},
		{strings.Repeat("x", 1_000_000), false},
	} {
		r, err := reading(t, serve(t, tt.text), Options{MaxLineBytes: 10}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := drain(t.Context(), r); (err == nil) != tt.ok {
			t.Errorf("%.20q: error %v", tt.text, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{"", "host", "host:", ":80", "a:b:c", "host:80/path", "host:99999"} {
		if _, err := New(address, Options{}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", address)) {
			t.Errorf("address %q: error %v", address, err)
		}
	}
	if _, err := New("host:1", Options{BatchLines: -1}); err == nil {
		t.Error("a negative option was taken")
	}
}

func TestForeignSplitsRefused(t *testing.T) {
	s, err := New("127.0.0.1:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	good := manifest.Split{ID: splitID, Position: []byte(ended)}
	for _, splits := range [][]manifest.Split{
		{{ID: "a.txt:0-4", Position: []byte(open)}},
		{{ID: splitID, Position: []byte("17")}},
		{good, good},
	} {
		r, err := s.Reader(engine.SourceContext{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Restore(t.Context(), splits); err == nil {
			t.Errorf("splits %v were taken", splits)
		}
	}
}
