package coordinator

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// teller plays one story.
type teller struct {
	t       *testing.T
	cfg     Config
	job     Job
	machine *Machine
	start   time.Time
	now     time.Time
	out     bytes.Buffer
	names   []string // of requests, by ticket
}

func newTeller(t *testing.T) *teller {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	return &teller{
		t: t, start: start, now: start, names: []string{"nobody"},
		job: Job{Name: "story", UUID: "uuid", Epoch: 1, NextID: 1},
	}
}

func (s *teller) play(story []byte) []byte {
	s.t.Helper()
	for lines := bufio.NewScanner(bytes.NewReader(story)); lines.Scan(); {
		line := lines.Text()
		command, ok := strings.CutPrefix(line, "> ")
		if !ok {
			if line == "" || strings.HasPrefix(line, "#") {
				fmt.Fprintln(&s.out, line)
			}
			continue
		}
		fmt.Fprintln(&s.out, line)
		s.command(strings.Fields(command))
	}
	return s.out.Bytes()
}

func (s *teller) command(args []string) {
	s.t.Helper()
	switch name, args := args[0], args[1:]; name {
	case "job":
		s.setJob(args)
	case "config":
		s.setConfig(args)
	case "start":
		var err error
		if s.machine, err = NewMachine(s.cfg, s.job); err != nil {
			fmt.Fprintln(&s.out, err)
			return
		}
		s.step(Start{})
	case "advance":
		s.advance(s.duration(args[0]))
	case "sleep":
		s.now = s.now.Add(s.duration(args[0]))
	case "report-all":
		if p := s.machine.byID(s.id(args[0])); p != nil {
			for _, task := range p.missingTasks(&s.machine.job) {
				s.step(Report{Task: task, ID: p.ID, Epoch: s.job.Epoch})
			}
		}
	case "pending":
		s.say("pending %d, newest committed %d", s.machine.Pending(), s.machine.Newest())
	default:
		s.step(s.event(name, args))
	}
}

func (s *teller) event(name string, args []string) Event {
	s.t.Helper()
	switch name {
	case "report":
		return Report{Task: s.task(args[0]), ID: s.id(args[1]), Epoch: s.epoch(args[2:])}
	case "decline":
		return Decline{Task: s.task(args[0]), ID: s.id(args[1]), Epoch: s.job.Epoch, Reason: reason(args[2:])}
	case "commit-done":
		return CommitDone{ID: s.id(args[0]), Err: reason(args[1:])}
	case "trigger-failed":
		return TriggerFailed{ID: s.id(args[0]), Err: reason(args[1:])}
	case "request":
		s.names = append(s.names, args[0])
		return Requested{Ticket: uint64(len(s.names) - 1), Kind: manifest.Kind(args[1])}
	case "hold":
		return Hold{On: args[0] == "on"}
	case "shutdown":
		return Shutdown{Err: reason(args)}
	}
	s.t.Fatalf("unknown command %q", name)
	return nil
}

// advance lets d pass, with a tick at each deadline on the way.
func (s *teller) advance(d time.Duration) {
	for end := s.now.Add(d); ; {
		due, ok := s.machine.Deadline()
		if !ok || due.After(end) {
			s.now = end
			return
		}
		s.now = due
		s.step(Tick{})
		if again, ok := s.machine.Deadline(); ok && !again.After(due) {
			s.t.Fatalf("at %v: the deadline stays at %v after its tick", s.now.Sub(s.start), again.Sub(s.start))
		}
	}
}

func (s *teller) step(ev Event) {
	for _, e := range s.machine.Step(s.now, ev) {
		s.say("%s", s.describe(e))
	}
}

func (s *teller) say(format string, args ...any) {
	fmt.Fprintf(&s.out, "%v ", s.now.Sub(s.start))
	fmt.Fprintf(&s.out, format+"\n", args...)
}

func (s *teller) describe(e Effect) string {
	switch e := e.(type) {
	case SendTrigger:
		return fmt.Sprintf("trigger %d %s base=%d oldest=%d", e.ID, e.Kind, e.Base, e.OldestBase)
	case SendCompleted:
		return fmt.Sprintf("tell tasks: %d completed, of %v", e.ID, e.At.Sub(s.start))
	case SendAborted:
		return fmt.Sprintf("tell tasks: %d aborted, latest completed %d", e.ID, e.Latest)
	case StartCommit:
		return fmt.Sprintf("commit %d", e.Manifest.ID)
	case Answer:
		if e.Err != nil {
			return fmt.Sprintf("answer %s: %v", s.names[e.Ticket], e.Err)
		}
		return fmt.Sprintf("answer %s: checkpoint %d", s.names[e.Ticket], e.ID)
	case End:
		return fmt.Sprintf("end: %v", e.Err)
	case Reported:
		return fmt.Sprintf("reported %v of %d, %d missing", e.Task, e.ID, e.Missing)
	case Completed:
		return fmt.Sprintf("completed %d in %v+%v+%v", e.ID, e.Stats.Duration, e.Queue, e.Commit)
	case Aborted:
		counted := "not counted"
		if e.Counted {
			counted = fmt.Sprintf("failure %d", e.Failures)
		}
		return fmt.Sprintf("aborted %d after %v, %s, %d missing: %v", e.ID, e.Age, counted, len(e.Missing), e.Err)
	case Ignored:
		return fmt.Sprintf("ignored %v of %d: %s", e.Task, e.ID, e.Reason)
	}
	return fmt.Sprintf("unknown effect %T", e)
}

// setJob reads name=value: a number of the job, or an operator's parallelism.
func (s *teller) setJob(args []string) {
	s.t.Helper()
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch n := s.id(value); name {
		case "next":
			s.job.NextID = n
		case "restored":
			s.job.Restored = n
		case "epoch":
			s.job.Epoch = manifest.Epoch(n)
		default:
			s.job.Operators = append(s.job.Operators, manifest.Operator{UID: name, Parallelism: int(n)})
		}
	}
}

func (s *teller) setConfig(args []string) {
	s.t.Helper()
	for _, arg := range args {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "interval":
			s.cfg.Interval = s.duration(value)
		case "timeout":
			s.cfg.Timeout = s.duration(value)
		case "min-pause":
			s.cfg.MinPause = s.duration(value)
		case "max-concurrent":
			s.cfg.MaxConcurrent = s.number(value)
		case "tolerable":
			s.cfg.Tolerable = s.number(value)
		case "keep":
			s.cfg.Keep = s.number(value)
		default:
			s.t.Fatalf("unknown setting %q", name)
		}
	}
}

func (s *teller) duration(text string) time.Duration {
	s.t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *teller) number(text string) int {
	s.t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *teller) id(text string) manifest.ID {
	s.t.Helper()
	return manifest.ID(s.number(text))
}

func (s *teller) epoch(args []string) manifest.Epoch {
	s.t.Helper()
	if len(args) == 0 {
		return s.job.Epoch
	}
	return manifest.Epoch(s.number(args[0]))
}

func (s *teller) task(text string) TaskID {
	s.t.Helper()
	op, subtask, _ := strings.Cut(text, "/")
	return TaskID{Operator: op, Subtask: s.number(subtask)}
}

func reason(args []string) error {
	switch text := strings.Join(args, " "); text {
	case "":
		return nil
	case "not-ready":
		return ErrNotReady
	case "subsumed":
		return ErrSubsumed
	case "fenced":
		return ErrFenced
	case "unresolved":
		return ErrUnresolved
	default:
		return errors.New(text)
	}
}
