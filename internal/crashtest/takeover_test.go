//go:build unix

package crashtest

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// slowly are flags of a job that others take over, or stop, while it runs.
var slowly = []string{"--interval", "50ms", "--rate", "12000"}

// TestF20_F21_TwoProcesses starts several processes on one job: each takes it
// over from the one before, which stops and harms nothing.
func TestF20_F21_TwoProcesses(t *testing.T) {
	t.Parallel()
	t.Run("F21 one after the other", func(t *testing.T) {
		p := onDirectory(t)
		p.loops = 2
		var older []*process
		for i := range 3 {
			proc := p.start(slices.Concat(slowly, []string{"--parallelism", fmt.Sprint(1 + i)})...)
			proc.mustSee(`msg="checkpoint completed"`, 2)
			older = append(older, proc)
		}
		p.run("--parallelism", "4", "--interval", "50ms")
		for _, proc := range older {
			proc.wantExit(exitFenced)
		}
		p.sweepOutput()
		p.audit()
	})
	for _, tt := range []struct {
		name  string
		begun bool
	}{{"F20 at once on a new job", false}, {"F20 at once on a running job", true}} {
		t.Run(tt.name, func(t *testing.T) {
			p := onDirectory(t)
			p.loops = 2
			if tt.begun {
				p.start(slowly...).mustSee(`msg="checkpoint completed"`, 1)
			}
			p.race()
			p.sweepOutput()
			p.audit()
		})
	}
}

// race starts three processes at once, of which one must come to the end and
// those that it took the job from be fenced.
func (p *place) race() {
	p.t.Helper()
	won := 0
	for _, proc := range []*process{p.start(slowly...), p.start(slowly...), p.start(slowly...)} {
		switch s := proc.end(); {
		case s == 0 && !strings.Contains(proc.text(), "kind=final"):
			p.t.Log("a process was so late that the job had ended")
		case s == 0:
			won++
		case !s.Exited() || s.ExitStatus() != exitFenced:
			p.t.Errorf("process ended with %v:\n%s", proc.cmd.ProcessState, proc.text())
		}
	}
	if won != 1 {
		p.t.Errorf("%d processes came to the end, want one", won)
	}
}

// sweepOutput starts a job that has ended once more. A process that was
// replaced cannot know which of its prepared files its successor needs, and
// leaves them all to the next start.
func (p *place) sweepOutput() {
	p.t.Helper()
	p.checkOutput(false)
	p.run()
}

// TestF14_SecondSignal stops a process whose store does not answer: the first
// signal waits for a last checkpoint, the second ends it at once.
func TestF14_SecondSignal(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			p, _, gate := onFakeS3(t)
			proc := p.start(slowly...)
			proc.mustSee(`msg="checkpoint completed"`, 2)
			gate.shut()
			proc.signal(s)
			proc.mustSee("stopping", 1)
			proc.signal(s)
			if status := proc.end(); status == 0 || strings.Contains(proc.text(), "msg=ended") {
				t.Errorf("process ended with %v, and not at once:\n%s", proc.cmd.ProcessState, proc.text())
			}
			gate.open()
			p.checkOutput(true)
			p.run()
			p.audit()
		})
	}
}

// TestF14_StopBetweenKills mixes requests to stop with deaths.
func TestF14_StopBetweenKills(t *testing.T) {
	t.Parallel()
	p := onDirectory(t)
	p.loops = 3
	for i := range 3 {
		proc := p.start(append(slowly, "--parallelism", fmt.Sprint(3-i))...)
		proc.mustSee(`msg="checkpoint completed"`, 1)
		proc.signal(syscall.SIGTERM)
		proc.wantExit(exitOK)
		proc.mustHave("kind=stop")
		proc = p.start(slowly...)
		proc.mustSee(`msg="checkpoint triggered"`, 2)
		proc.kill()
		if status := proc.end(); !killed(status) {
			t.Fatalf("process ended with %v:\n%s", proc.cmd.ProcessState, proc.text())
		}
		p.checkOutput(true)
	}
	p.run()
	p.audit()
}

// TestF15_Frozen freezes a process for a while and thaws it.
func TestF15_Frozen(t *testing.T) {
	t.Parallel()
	t.Run("F15 alone", func(t *testing.T) {
		p := onDirectory(t)
		proc := p.start(slowly...)
		proc.mustSee(`msg="checkpoint completed"`, 2)
		head, _ := p.head()
		epoch := head.Epoch
		proc.signal(syscall.SIGSTOP)
		time.Sleep(500 * time.Millisecond) // the fault: ten intervals of nothing
		proc.signal(syscall.SIGCONT)
		proc.wantExit(exitOK)
		if head, _ := p.head(); head.Epoch != epoch {
			t.Errorf("epoch is %d after the thaw, and was %d: the job was restarted", head.Epoch, epoch)
		}
		p.audit()
	})
	t.Run("F15 while another takes over", func(t *testing.T) {
		p := onDirectory(t)
		p.loops = 2
		frozen := p.start(slowly...)
		frozen.mustSee(`msg="checkpoint triggered"`, 3)
		frozen.signal(syscall.SIGSTOP)
		other := p.start(append(slowly, "--parallelism", "3")...)
		other.mustSee(`msg="checkpoint completed"`, 2)
		frozen.signal(syscall.SIGCONT)
		frozen.wantExit(exitFenced)
		other.wantExit(exitOK)
		p.sweepOutput()
		p.audit()
	})
}
