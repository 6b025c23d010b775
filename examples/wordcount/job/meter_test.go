package job

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest"
)

// numbered is a source of which each reader emits lines lines, batch at a time.
type numbered struct{ lines, batch int }

func (numbered) Splits(context.Context) ([]manifest.Split, error) { return nil, nil }

func (n numbered) Reader(engine.SourceContext) (engine.SourceReader[string], error) {
	return &numberedReader{left: n.lines, batch: n.batch}, nil
}

type numberedReader struct {
	engine.SourceReader[string]
	left, batch int
}

func (r *numberedReader) Poll(_ context.Context, emit func(string)) error {
	for range min(r.batch, r.left) {
		r.left--
		emit("line")
	}
	if r.left == 0 {
		return io.EOF
	}
	return nil
}

func TestRateIsOfTheWholeJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const readers, lines, batch, perSecond = 3, 500, 5, 100
		m := Meter{Limiter: rate.NewLimiter(perSecond, batch)}
		s := m.Over(numbered{lines, batch})
		begin := time.Now()
		var done sync.WaitGroup
		for range readers {
			r, err := s.Reader(engine.SourceContext{})
			if err != nil {
				t.Fatal(err)
			}
			done.Go(func() {
				for {
					polled := time.Now()
					err := r.Poll(t.Context(), func(string) {})
					if took := time.Since(polled); took > maxWait {
						t.Errorf("one Poll took %v", took)
					}
					if errors.Is(err, io.EOF) {
						return
					}
				}
			})
		}
		done.Wait()
		if got := m.Lines.Load(); got != readers*lines {
			t.Errorf("%d lines, want %d", got, readers*lines)
		}
		const want = readers * lines / perSecond * time.Second
		if got := time.Since(begin); got < want-time.Second || got > want+time.Second {
			t.Errorf("took %v, want about %v", got, want)
		}
	})
}

func TestNoRateDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		r, err := m.Over(numbered{1_000_000, 1000}).Reader(engine.SourceContext{})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for err == nil {
			err = r.Poll(t.Context(), func(string) {})
		}
		if !errors.Is(err, io.EOF) || m.Lines.Load() != 1_000_000 || time.Since(begin) > 0 {
			t.Errorf("%v after %d lines and %v", err, m.Lines.Load(), time.Since(begin))
		}
	})
}
