package s3

import (
	"testing"
	"time"
)

// TestDelaysAddUp bounds how long the default attempts take against a server
// that refuses connections at once.
func TestDelaysAddUp(t *testing.T) {
	s := &Store{opts: Options{}.withDefaults()}
	for range 1000 {
		var total, last time.Duration
		for attempt := 1; attempt < s.opts.MaxAttempts; attempt++ {
			d := s.delay(attempt)
			if d <= 0 || d > maxDelay || d < last/4 {
				t.Fatalf("pause %d is %v after %v", attempt, d, last)
			}
			total, last = total+d, d
		}
		if total < 5*time.Second || total > 12*time.Second {
			t.Fatalf("the pauses of %d attempts add up to %v", s.opts.MaxAttempts, total)
		}
	}
	if d := s.delay(1000); d > maxDelay || d < maxDelay/2 {
		t.Errorf("pause 1000 is %v", d)
	}
}
