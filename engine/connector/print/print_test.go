package print

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ckpt-io/ckpt/engine"
)

// calls remembers each Write.
type calls struct{ got []string }

func (c *calls) Write(p []byte) (int, error) {
	c.got = append(c.got, string(p))
	return len(p), nil
}

func format(dst []byte, n int) []byte { return fmt.Appendf(dst, "record %d\n", n) }

func TestRecordsStayWhole(t *testing.T) {
	var out calls
	sink := New(&out, format)
	var subtasks sync.WaitGroup
	for i := range 4 {
		w, err := sink.Writer(engine.SinkContext{Subtask: i, Parallelism: 4})
		if err != nil {
			t.Fatal(err)
		}
		subtasks.Go(func() {
			for n := range 100 {
				if err := w.Write(100*i + n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	subtasks.Wait()
	var want []string
	for n := range 400 {
		want = append(want, string(format(nil, n)))
	}
	slices.Sort(out.got)
	slices.Sort(want)
	if !slices.Equal(out.got, want) {
		t.Errorf("%d records came, want %d", len(out.got), len(want))
	}
}

func TestAtOnceAndNothingPrepared(t *testing.T) {
	var out strings.Builder
	w, err := New(&out, format).Writer(engine.SinkContext{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(7); err != nil {
		t.Fatal(err)
	}
	if out.String() != "record 7\n" {
		t.Errorf("wrote %q", out.String())
	}
	if h, err := w.Prepare(t.Context(), 1); len(h) > 0 || err != nil {
		t.Errorf("Prepare = %q, %v", h, err)
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func TestWriteError(t *testing.T) {
	full := errors.New("disk full")
	w, err := New(broken{full}, format).Writer(engine.SinkContext{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(1); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}
