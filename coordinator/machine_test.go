package coordinator

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

func testJob(operators ...manifest.Operator) Job {
	if len(operators) == 0 {
		operators = []manifest.Operator{{UID: "count", Parallelism: 1}}
	}
	return Job{Name: "job", UUID: "uuid", Epoch: 1, NextID: 1, Operators: operators}
}

func TestRefusedWithAllReasons(t *testing.T) {
	_, err := NewMachine(
		Config{Timeout: -1, MinPause: -1, MaxConcurrent: 3, Keep: 2},
		Job{Name: "a/b", Restored: 7, Operators: []manifest.Operator{
			{UID: "count", Parallelism: 1}, {UID: "count"}, {UID: "..", Parallelism: 1},
		}},
	)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"timeout -1ns", "min pause -1ns", "keep 2", `name "a/b"`, "next id 0", "restored checkpoint 7",
		`"count": uid used twice`, `"count": parallelism 0`, `"..": not an operator uid`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if _, err := NewMachine(Config{}, Job{Name: "job", NextID: 1}); err == nil {
		t.Error("a job without operators is accepted")
	}
}

func TestConfigDefaults(t *testing.T) {
	for name, tc := range map[string]struct{ in, want Config }{
		"zero": {
			Config{},
			Config{Interval: 10 * time.Second, Timeout: 10 * time.Minute, MaxConcurrent: 1, Tolerable: 3, Keep: 3},
		},
		"keep follows max concurrent": {
			Config{MaxConcurrent: 5},
			Config{Interval: 10 * time.Second, Timeout: 10 * time.Minute, MaxConcurrent: 5, Tolerable: 3, Keep: 5},
		},
		"B8": {
			Config{Interval: 12 * time.Millisecond, MinPause: 50 * time.Millisecond, Tolerable: TolerateNone},
			Config{Interval: 50 * time.Millisecond, MinPause: 50 * time.Millisecond, Timeout: 10 * time.Minute, MaxConcurrent: 1, Keep: 3},
		},
		"no interval in spite of a pause": {
			Config{Interval: NoInterval, MinPause: time.Second},
			Config{Interval: NoInterval, MinPause: time.Second, Timeout: 10 * time.Minute, MaxConcurrent: 1, Tolerable: 3, Keep: 3},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.in.WithDefaults()
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tc.want)
			}
		})
	}
}

func TestF65_KeepBelowMaxConcurrentIsRefused(t *testing.T) {
	for keep := -1; keep <= 3; keep++ {
		_, err := Config{MaxConcurrent: 2, Keep: keep}.WithDefaults()
		if refused := err != nil; refused != (keep == -1 || keep == 1) {
			t.Errorf("max concurrent 2, keep %d: %v", keep, err)
		}
	}
}

func TestB5_TooManyRequests(t *testing.T) {
	m, err := NewMachine(Config{Interval: NoInterval}, testJob())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	m.Step(now, Start{})
	m.Step(now, Hold{On: true})
	for ticket := range uint64(maxQueued) {
		if got := m.Step(now, Requested{Ticket: ticket, Kind: manifest.Periodic}); got != nil {
			t.Fatalf("request %d: %v", ticket, got)
		}
	}
	refused := func(r Requested, want uint64) {
		t.Helper()
		got := m.Step(now, r)
		if len(got) != 1 || got[0].(Answer).Ticket != want || !errors.Is(got[0].(Answer).Err, ErrTooManyRequests) {
			t.Errorf("request of a %s: got %+v, want ticket %d refused", r.Kind, got, want)
		}
	}
	// A checkpoint that comes last is the least important; a savepoint takes
	// the place of the youngest checkpoint.
	refused(Requested{Ticket: maxQueued, Kind: manifest.Periodic}, maxQueued)
	refused(Requested{Ticket: maxQueued + 1, Kind: manifest.Savepoint}, maxQueued-1)
	got := m.Step(now, Hold{})
	if want := manifest.Savepoint; len(got) != 1 || got[0].(SendTrigger).Kind != want {
		t.Errorf("let go of: got %+v, want the %s triggered", got, want)
	}
}

func TestUnknownKindIsRefused(t *testing.T) {
	m, err := NewMachine(Config{}, testJob())
	if err != nil {
		t.Fatal(err)
	}
	got := m.Step(time.Unix(0, 0), Requested{Ticket: 1, Kind: "backup"})
	if len(got) != 1 || got[0].(Answer).Err == nil || !strings.Contains(got[0].(Answer).Err.Error(), `"backup"`) {
		t.Errorf("got %v", got)
	}
}

// TestManifest checks what is handed to the Committer: everything reported, in
// the places and sums of the stored form.
func TestManifest(t *testing.T) {
	job := testJob(
		manifest.Operator{UID: "sink", Parallelism: 1},
		manifest.Operator{UID: "count", Parallelism: 2, MaxParallelism: 128, Hasher: "murmur3-32/1"},
	)
	job.NextID, job.Restored, job.Epoch = 8, 7, 3
	m, err := NewMachine(Config{}, job)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2030, 1, 1, 1, 0, 0, 0, time.FixedZone("CET", 3600))
	m.Step(start, Start{})
	m.Step(start, Requested{Kind: manifest.Stop})

	shared := manifest.Object{Key: "shared", Size: 100}
	keyed := func(own manifest.Object) *manifest.KeyedState {
		return &manifest.KeyedState{Deltas: []manifest.Delta{{Object: shared}, {Object: own}}}
	}
	report := func(after time.Duration, task TaskID, state manifest.Task) []Effect {
		return m.Step(start.Add(after), Report{Task: task, ID: 8, Epoch: 3, State: state})
	}
	a, b := manifest.Object{Key: "a", Size: 10}, manifest.Object{Key: "b", Size: 1}
	report(time.Second, TaskID{"count", 1}, manifest.Task{
		Keyed: keyed(b), Stats: manifest.TaskStats{Total: 5, NewBytes: 1},
	})
	report(time.Second, TaskID{"sink", 0}, manifest.Task{
		Handles: [][]byte{{1}}, Stats: manifest.TaskStats{Total: 7},
	})
	effects := report(2*time.Second, TaskID{"count", 0}, manifest.Task{
		Index: 99, // set from the task's id
		Keyed: keyed(a), Reserved: []manifest.Object{b}, Stats: manifest.TaskStats{Total: 6, NewBytes: 10},
	})

	want := &manifest.Manifest{
		Job: "job", JobUUID: "uuid", ID: 8, Epoch: 3, Kind: manifest.Stop, Base: 7, Time: start.UTC(),
		Operators: []manifest.Operator{
			{UID: "count", Parallelism: 2, MaxParallelism: 128, Hasher: "murmur3-32/1", Tasks: []manifest.Task{
				{Index: 0, Keyed: keyed(a), Reserved: []manifest.Object{b}, Stats: manifest.TaskStats{Total: 6, NewBytes: 10}},
				{Index: 1, Keyed: keyed(b), Stats: manifest.TaskStats{Total: 5, NewBytes: 1}},
			}},
			{UID: "sink", Parallelism: 1, Tasks: []manifest.Task{
				{Index: 0, Handles: [][]byte{{1}}, Stats: manifest.TaskStats{Total: 7}},
			}},
		},
		Stats: manifest.Stats{TMax: 7, Duration: 2 * time.Second, NewBytes: 11, FullBytes: 111, Objects: 3},
	}
	commit, ok := effects[len(effects)-1].(StartCommit)
	if !ok || !reflect.DeepEqual(commit.Manifest, want) {
		t.Errorf("got %+v\nwant %+v", commit.Manifest, want)
	}
}

func TestAbortErrorMatchesReasonAndCause(t *testing.T) {
	cause := errors.New("no space")
	var err error = &AbortError{ID: 3, Reason: ErrDeclined, Cause: cause}
	if !errors.Is(err, ErrDeclined) || !errors.Is(err, cause) || errors.Is(err, ErrExpired) {
		t.Errorf("%v matches the wrong errors", err)
	}
	failure := error(&FailureError{Failures: 4, Last: err})
	if !errors.Is(failure, ErrDeclined) {
		t.Errorf("%v does not match its last reason", failure)
	}
}
