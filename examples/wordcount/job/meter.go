package job

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/ckpt-io/ckpt/engine"
)

// Meter counts the lines that a source's readers emit, over all runs of a job
// in this process, and keeps them to a rate.
type Meter struct {
	Lines atomic.Int64
	// Limiter, if not nil, is shared by all readers. Its burst is the most
	// lines that one Poll of the source emits.
	Limiter *rate.Limiter
}

// Over puts the meter over a source.
func (m *Meter) Over(s engine.Source[string]) engine.Source[string] {
	return &meteredSource{Source: s, meter: m}
}

// meteredSource is a source under a meter.
type meteredSource struct {
	engine.Source[string]
	meter *Meter
}

func (s *meteredSource) Reader(sc engine.SourceContext) (engine.SourceReader[string], error) {
	r, err := s.Source.Reader(sc)
	if err != nil {
		return nil, err
	}
	return &meteredReader{SourceReader: r, meter: s.meter}, nil
}

// meteredReader pays for a batch after it was read, when its size is known:
// the next one waits until the limiter allows the last.
type meteredReader struct {
	engine.SourceReader[string]
	meter *Meter
	due   time.Time
}

// maxWait bounds a Poll, so that checkpoints can begin between two.
const maxWait = 50 * time.Millisecond

func (r *meteredReader) Poll(ctx context.Context, emit func(string)) error {
	if wait := time.Until(r.due); wait > 0 {
		sleep(ctx, min(wait, maxWait))
		if wait > maxWait {
			return nil
		}
	}
	n := 0
	err := r.SourceReader.Poll(ctx, func(line string) {
		n++
		emit(line)
	})
	r.meter.Lines.Add(int64(n))
	if l := r.meter.Limiter; l != nil && n > 0 {
		now := time.Now()
		r.due = now.Add(l.ReserveN(now, n).DelayFrom(now))
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
