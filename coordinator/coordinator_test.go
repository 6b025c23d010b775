package coordinator

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// stage is a job of two tasks beside a coordinator, in the fake time of
// synctest. By default its tasks report after a second, and a commit takes two.
type stage struct {
	t     *testing.T
	c     *Coordinator
	start time.Time
	tasks []TaskID

	trigger   func(Trigger) error                             // nil: see above
	commit    func(context.Context, *manifest.Manifest) error // nil: see above
	completed func()                                          // if not nil

	mu  sync.Mutex
	log []string
}

func newStage(t *testing.T, cfg Config) *stage {
	t.Helper()
	s := &stage{t: t, start: time.Now(), tasks: []TaskID{{"source", 0}, {"count", 0}}}
	job := testJob(manifest.Operator{UID: "source", Parallelism: 1}, manifest.Operator{UID: "count", Parallelism: 1})
	c, err := New(cfg, job, s, s, Listener{
		Aborted: func(a Aborted) { s.say("aborted %d: %v", a.ID, a.Err.Reason) },
		Ignored: func(i Ignored) { s.say("ignored %v of %d", i.Task, i.ID) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.c = c
	return s
}

func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf("%v ", time.Since(s.start))+fmt.Sprintf(format, args...))
}

func (s *stage) report(id manifest.ID, tasks ...TaskID) {
	for _, task := range tasks {
		s.c.Report(Report{Task: task, ID: id, Epoch: 1})
	}
}

func (s *stage) Trigger(t Trigger) error {
	s.say("trigger %d %s", t.ID, t.Kind)
	if s.trigger != nil {
		return s.trigger(t)
	}
	time.AfterFunc(time.Second, func() { s.report(t.ID, s.tasks...) })
	return nil
}

func (s *stage) Completed(id manifest.ID, at time.Time) {
	s.say("tasks hear: %d completed, of %v", id, at.Sub(s.start))
	if s.completed != nil {
		s.completed()
	}
}

func (s *stage) Aborted(id, latest manifest.ID) {
	s.say("tasks hear: %d aborted, latest %d", id, latest)
}

func (s *stage) Commit(ctx context.Context, m *manifest.Manifest) error {
	s.say("commit %d", m.ID)
	if s.commit != nil {
		return s.commit(ctx, m)
	}
	time.Sleep(2 * time.Second)
	return nil
}

// run runs the coordinator until it ends by itself or after d, and returns why.
func (s *stage) run(d time.Duration) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), d)
	defer cancel()
	return s.c.Run(ctx)
}

func (s *stage) want(lines ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.log, lines) {
		s.t.Errorf("got:\n%q\nwant:\n%q", s.log, lines)
	}
}

func TestB16_RunTakesCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{Interval: 10 * time.Second})
		if err := s.run(24 * time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run: %v", err)
		}
		s.want(
			"10s trigger 1 checkpoint", "11s commit 1", "13s tasks hear: 1 completed, of 10s",
			"20s trigger 2 checkpoint", "21s commit 2", "23s tasks hear: 2 completed, of 20s",
		)
	})
}

func TestF86_TimeoutOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{Timeout: time.Minute})
		s.trigger = func(t Trigger) error {
			s.report(t.ID, s.tasks[0]) // from inside Trigger, and the other never
			return nil
		}
		s.run(71 * time.Second)
		s.want(
			"10s trigger 1 checkpoint",
			"1m10s tasks hear: 1 aborted, latest 0", "1m10s aborted 1: "+ErrExpired.Error(),
			"1m10s trigger 2 checkpoint",
			"1m11s tasks hear: 2 aborted, latest 0", "1m11s aborted 2: "+ErrShutdown.Error(),
		)
	})
}

func TestB22_F84_UnknownReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{Interval: NoInterval})
		s.report(7, s.tasks...)
		s.c.Decline(Decline{Task: s.tasks[0], ID: 7, Epoch: 1})
		s.run(time.Second)
		s.report(7, s.tasks...) // after the end: not even listened to
		s.want("0s ignored source/0 of 7", "0s ignored count/0 of 7", "0s ignored source/0 of 7")
	})
}

func TestSourcesFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{})
		time.AfterFunc(15*time.Second, s.c.SourcesFinished)
		if err := s.run(time.Hour); err != nil {
			t.Errorf("Run: %v", err)
		}
		s.want(
			"10s trigger 1 checkpoint", "11s commit 1", "13s tasks hear: 1 completed, of 10s",
			"15s trigger 2 final", "16s commit 2", "18s tasks hear: 2 completed, of 15s",
		)
	})
}

func TestRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{Interval: NoInterval})
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			id, err := s.c.Request(t.Context(), manifest.Periodic) // before Run
			if id != 1 || err != nil {
				t.Errorf("request: %d, %v", id, err)
			}
			s.say("answered %d", id)

			impatient, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if _, err := s.c.Request(impatient, manifest.Periodic); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("impatient request: %v", err)
			}
			id, err = s.c.Request(t.Context(), manifest.Stop)
			s.say("answered %d, %v", id, err)
		}()
		synctest.Wait()
		if err := s.run(time.Hour); err != nil {
			t.Errorf("Run: %v", err)
		}
		<-asked
		s.want(
			"0s trigger 1 checkpoint", "1s commit 1", "3s tasks hear: 1 completed, of 0s", "3s answered 1",
			"3s trigger 2 checkpoint", "4s commit 2",
			"5s trigger 3 stop", "6s tasks hear: 2 completed, of 3s", "6s commit 3",
			"8s tasks hear: 3 completed, of 5s", "8s answered 3, <nil>",
		)
		if _, err := s.c.Request(t.Context(), manifest.Periodic); !errors.Is(err, ErrShutdown) {
			t.Errorf("request after the end: %v", err)
		}
	})
}

func TestB40_IDsOfConcurrentRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{Interval: NoInterval, MaxConcurrent: 8})
		s.commit = func(context.Context, *manifest.Manifest) error { return nil }
		var last manifest.ID
		s.trigger = func(tr Trigger) error {
			if tr.ID <= last {
				t.Errorf("id %d after %d", tr.ID, last)
			}
			last = tr.ID
			s.report(tr.ID, s.tasks...)
			return nil
		}
		var mu sync.Mutex
		var ids []manifest.ID
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for range 25 {
					id, err := s.c.Request(t.Context(), manifest.Savepoint)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					ids = append(ids, id)
					mu.Unlock()
				}
			})
		}
		go func() {
			callers.Wait()
			s.c.SourcesFinished()
		}()
		if err := s.run(time.Hour); err != nil {
			t.Error(err)
		}
		slices.Sort(ids)
		want := make([]manifest.ID, 200)
		for i := range want {
			want[i] = manifest.ID(i + 1)
		}
		if !reflect.DeepEqual(ids, want) {
			t.Errorf("got ids %d, want 1 to 200, each once", ids)
		}
	})
}

func TestRunEnds(t *testing.T) {
	tolerated := &FailureError{}
	for name, tc := range map[string]struct {
		cfg     Config
		trigger error
		commit  error
		is      error
		as      any
	}{
		"fenced":                 {commit: fmt.Errorf("swap HEAD: %w", ErrFenced), is: ErrFenced},
		"unresolved":             {commit: fmt.Errorf("swap HEAD: %w", ErrUnresolved), is: ErrUnresolved},
		"B25 the commits fail":   {commit: errors.New("no"), cfg: Config{Tolerable: 2}, is: ErrFinalize, as: &tolerated},
		"B13 the triggers fail":  {trigger: errors.New("no"), cfg: Config{Tolerable: 2}, is: ErrTrigger, as: &tolerated},
		"B12 the job never runs": {trigger: ErrNotReady, is: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, tc.cfg)
				s.commit = func(context.Context, *manifest.Manifest) error { return tc.commit }
				if tc.trigger != nil {
					s.trigger = func(Trigger) error { return tc.trigger }
				}
				err := s.run(time.Hour)
				if !errors.Is(err, tc.is) || tc.as != nil && !errors.As(err, tc.as) {
					t.Errorf("Run: %v", err)
				}
				if tc.as != nil && time.Since(s.start) > 32*time.Second {
					t.Errorf("2 are tolerable: ended after %v", time.Since(s.start))
				}
			})
		})
	}
}

// The end of the context ends the commit under way too, whose outcome is waited
// for and believed.
func TestContextEndsDuringCommit(t *testing.T) {
	for _, outcome := range []error{nil, ErrUnresolved} {
		t.Run(fmt.Sprint(outcome), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, Config{})
				s.commit = func(ctx context.Context, m *manifest.Manifest) error {
					<-ctx.Done()
					time.Sleep(5 * time.Second)
					return outcome
				}
				var answer error
				asked := make(chan struct{})
				go func() {
					defer close(asked)
					_, answer = s.c.Request(t.Context(), manifest.Periodic)
				}()
				if err := s.run(20 * time.Second); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Run: %v", err)
				}
				<-asked
				if !errors.Is(answer, outcome) {
					t.Errorf("answer: %v, want %v", answer, outcome)
				}
				if outcome == nil {
					s.want("0s trigger 1 checkpoint", "1s commit 1", "25s tasks hear: 1 completed, of 0s")
				} else {
					s.want("0s trigger 1 checkpoint", "1s commit 1", "25s aborted 1: "+ErrUnresolved.Error())
				}
			})
		})
	}
}

// A run that ends for another reason does not leave its commit behind.
func TestEndDuringCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{Interval: 10 * time.Second, MaxConcurrent: 2, Tolerable: TolerateNone})
		s.commit = func(ctx context.Context, m *manifest.Manifest) error {
			<-ctx.Done()
			return fmt.Errorf("swap HEAD: %w", ErrUnresolved)
		}
		time.AfterFunc(20*time.Second, func() {
			s.c.Decline(Decline{Task: s.tasks[0], ID: 2, Epoch: 1, Reason: errors.New("no")})
		})
		failure := &FailureError{}
		if err := s.run(time.Hour); !errors.As(err, &failure) || !errors.Is(err, ErrDeclined) {
			t.Errorf("Run: %v", err)
		}
		s.want(
			"10s trigger 1 checkpoint", "11s commit 1", "20s trigger 2 checkpoint",
			"20s tasks hear: 2 aborted, latest 0", "20s aborted 2: "+ErrDeclined.Error(),
			"20s aborted 1: "+ErrUnresolved.Error(),
		)
	})
}

func TestF100_RequestAsTheRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{})
		var answer error
		s.completed = func() {
			// Run is about to end and will not look into its inbox again.
			go func() { _, answer = s.c.Request(t.Context(), manifest.Periodic) }()
			synctest.Wait()
		}
		s.c.SourcesFinished()
		if err := s.run(time.Hour); err != nil {
			t.Errorf("Run: %v", err)
		}
		synctest.Wait()
		if !errors.Is(answer, ErrShutdown) {
			t.Errorf("answer: %v", answer)
		}
	})
}

func TestB3_Hold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{})
		s.c.Hold(true)
		time.AfterFunc(time.Minute, func() { s.c.Hold(false) })
		s.run(62 * time.Second)
		s.want("1m0s trigger 1 checkpoint", "1m1s commit 1", "1m3s tasks hear: 1 completed, of 1m0s")
	})
}

func TestF97_BackToBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{Interval: time.Millisecond})
		s.run(7 * time.Second)
		s.want(
			"1ms trigger 1 checkpoint", "1.001s commit 1", "3.001s tasks hear: 1 completed, of 1ms",
			"3.001s trigger 2 checkpoint", "4.001s commit 2", "6.001s tasks hear: 2 completed, of 3.001s",
			"6.001s trigger 3 checkpoint", "7s tasks hear: 3 aborted, latest 2", "7s aborted 3: "+ErrShutdown.Error(),
		)
	})
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{})
		s.run(time.Second)
		if err := s.run(time.Second); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("second Run: %v", err)
		}
	})
}

// Everything at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, Config{Interval: time.Microsecond, MaxConcurrent: 2, Tolerable: 1 << 30})
		s.commit = func(context.Context, *manifest.Manifest) error { return nil }
		var tasks sync.WaitGroup
		s.trigger = func(tr Trigger) error {
			for _, task := range s.tasks {
				tasks.Go(func() {
					s.c.Decline(Decline{Task: task, ID: tr.ID - 1, Epoch: 1, Reason: errors.New("why not")})
					s.report(tr.ID, task)
				})
			}
			return nil
		}
		tasks.Go(func() {
			for range 100 {
				s.c.Hold(true)
				s.c.Hold(false)
				s.c.Request(t.Context(), manifest.Periodic)
			}
			s.c.SourcesFinished()
		})
		if err := s.run(time.Hour); err != nil {
			t.Error(err)
		}
		tasks.Wait()
	})
}
