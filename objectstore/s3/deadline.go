package s3

import (
	"context"
	"sync"
	"time"
)

// deadline ends an attempt after a time in which reading the caller's body does
// not count: it may be held back on purpose, by a limiter.
type deadline struct {
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	timer   *time.Timer
	left    time.Duration // when it began to run, at since
	since   time.Time
	reading int // reads of the body under way
	over    bool
}

// boundBody is bound for an attempt that sends a body. The context ends when
// the attempt has taken too long, and with stop.
func (s *Store) boundBody(ctx context.Context, size int64) (context.Context, *deadline) {
	ctx, cancel := context.WithCancelCause(ctx)
	d := &deadline{cancel: cancel, left: s.allowance(size), since: time.Now()}
	d.timer = time.AfterFunc(d.left, func() { cancel(context.DeadlineExceeded) })
	return ctx, d
}

func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	d.timer.Stop()
	d.cancel(nil)
}

// pause stops the clock while the body is read.
func (d *deadline) pause() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reading++; d.reading == 1 && d.timer.Stop() {
		d.left -= time.Since(d.since)
	}
}

func (d *deadline) resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reading--; d.reading == 0 && !d.over {
		d.since = time.Now()
		d.timer.Reset(max(0, d.left))
	}
}
