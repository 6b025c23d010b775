package engine

import (
	"testing"
	"time"
)

func TestRestartStrategies(t *testing.T) {
	t.Run("none", func(t *testing.T) {
		if _, again := NoRestart().Failed(time.Hour); again {
			t.Error("it starts again")
		}
	})
	t.Run("fixed delay", func(t *testing.T) {
		s := FixedDelay(2, time.Second)
		for i, want := range []bool{true, true, false} {
			if delay, again := s.Failed(time.Hour); again != want || delay != time.Second {
				t.Errorf("failure %d: got %v, %v, want 1s, %v", i+1, delay, again, want)
			}
		}
	})
	t.Run("exponential", func(t *testing.T) {
		s := Exponential(ExponentialDelay{Initial: time.Second, Max: 5 * time.Second, ResetAfter: time.Minute, Attempts: 4, Jitter: 0.1})
		near := func(got, want time.Duration) bool { return got >= want*9/10 && got <= want*11/10 }
		for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second} {
			if delay, again := s.Failed(time.Second); !again || !near(delay, want) {
				t.Errorf("failure %d: got %v, %v, want about %v", i+1, delay, again, want)
			}
		}
		if _, again := s.Failed(time.Second); again {
			t.Error("it starts again after the last attempt")
		}
		if delay, again := s.Failed(time.Minute); !again || !near(delay, time.Second) {
			t.Errorf("after a long run: got %v, %v, want about 1s", delay, again)
		}
	})
}
