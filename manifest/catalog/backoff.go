package catalog

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// maxAttempts bounds how often a write that was certainly not done is
	// tried: 8 attempts take about 10 seconds beside what the store itself
	// spends. A write of HEAD with an unknown outcome has no such bound.
	maxAttempts = 8

	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// backoff paces the attempts of one write. The zero value is ready.
type backoff struct{ attempts int }

// exhausted reports whether a write that was not done is to be given up.
func (b *backoff) exhausted() bool { return b.attempts+1 >= maxAttempts }

// wait pauses before the next attempt, each time about twice as long, by a
// random share so that several writers fall out of step. It ends early with
// the reason why ctx ended.
func (b *backoff) wait(ctx context.Context) error {
	pause := min(firstPause<<min(b.attempts, 16), maxPause)
	b.attempts++
	t := time.NewTimer(pause/2 + rand.N(pause/2))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
