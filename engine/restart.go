package engine

import (
	"math/rand/v2"
	"time"
)

// RestartStrategy decides what follows a failure. It is called by one
// goroutine; one strategy serves one Run.
type RestartStrategy interface {
	// Failed is told of a failure of a run that lasted ran (0 if it did not
	// get as far as running) and says whether to start again, and after
	// which delay.
	Failed(ran time.Duration) (delay time.Duration, again bool)
}

// NoRestart ends the job with its first failure.
func NoRestart() RestartStrategy { return noRestart{} }

type noRestart struct{}

func (noRestart) Failed(time.Duration) (time.Duration, bool) { return 0, false }

// FixedDelay starts again up to attempts times over the whole Run, each after
// the same delay.
func FixedDelay(attempts int, delay time.Duration) RestartStrategy {
	return &fixedDelay{left: attempts, delay: delay}
}

type fixedDelay struct {
	left  int
	delay time.Duration
}

func (f *fixedDelay) Failed(time.Duration) (time.Duration, bool) {
	f.left--
	return f.delay, f.left >= 0
}

// ExponentialDelay starts again after a delay that doubles from failure to
// failure. The zero value is the default strategy.
type ExponentialDelay struct {
	Initial time.Duration // the first delay; 0 means 500 ms
	Max     time.Duration // the longest; 0 means 30 s
	// ResetAfter is how long a run must last for the delay to begin anew; 0
	// means 2 minutes.
	ResetAfter time.Duration
	// Attempts without such a run before the job ends; 0 means without end.
	Attempts int
	// Jitter is the part of the delay that is random, 0 to 1; 0 means 0.2.
	Jitter float64
}

// Exponential makes the strategy that e describes.
func Exponential(e ExponentialDelay) RestartStrategy {
	if e.Initial <= 0 {
		e.Initial = 500 * time.Millisecond
	}
	if e.Max <= 0 {
		e.Max = 30 * time.Second
	}
	if e.ResetAfter <= 0 {
		e.ResetAfter = 2 * time.Minute
	}
	if e.Jitter <= 0 || e.Jitter > 1 {
		e.Jitter = 0.2
	}
	return &exponential{ExponentialDelay: e}
}

type exponential struct {
	ExponentialDelay
	failures int
	delay    time.Duration
}

func (e *exponential) Failed(ran time.Duration) (time.Duration, bool) {
	if ran >= e.ResetAfter {
		e.failures, e.delay = 0, 0
	}
	e.failures++
	if e.Attempts > 0 && e.failures > e.Attempts {
		return 0, false
	}
	if e.delay == 0 {
		e.delay = e.Initial
	} else {
		e.delay = 2 * e.delay
	}
	e.delay = min(e.delay, e.Max)
	spread := time.Duration(e.Jitter * float64(e.delay))
	return e.delay - spread + time.Duration(rand.Int64N(int64(2*spread)+1)), true
}
