//go:build unix

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/internal/wordcheck"
)

// beMain makes the test binary the program itself.
const beMain = "WORDCOUNT_TEST_BE_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(beMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is the program as a process of its own.
type process struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	log   strings.Builder
}

func start(t *testing.T, args []string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), beMain+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &process{cmd: cmd, lines: bufio.NewScanner(stderr)}
}

// waitFor reads the log until n lines hold what, or it ends.
func (p *process) waitFor(what string, n int) (seen bool) {
	for p.lines.Scan() {
		p.log.WriteString(p.lines.Text() + "\n")
		if strings.Contains(p.lines.Text(), what) {
			if n--; n == 0 {
				return true
			}
		}
	}
	return false
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// end reads the rest of the log and returns the exit code, -1 after a signal.
func (p *process) end(t *testing.T) int {
	t.Helper()
	p.waitFor("no line holds this", 1)
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// TestKilledAgainAndAgain kills the program at different points between
// checkpoints, going on at another parallelism each time.
func TestKilledAgainAndAgain(t *testing.T) {
	p := newPlace(t)
	for life := range 6 {
		proc := start(t, p.args("--parallelism", fmt.Sprint(1+life%4), "--loop", "3", "--rate", "4000"))
		if !proc.waitFor("checkpoint completed", 1+life%3) {
			t.Fatalf("life %d ended by itself, exit %d:\n%s", life, proc.end(t), proc.log.String())
		}
		proc.signal(t, syscall.SIGKILL)
		if code := proc.end(t); code != -1 {
			t.Fatalf("life %d: exit %d:\n%s", life, code, proc.log.String())
		}
		p.check(t, 3, wordcheck.Options{Partial: true})
	}
	p.run(t, exit.OK, "--loop", "3")
	p.check(t, 3, wordcheck.Options{})
}

// TestF15_FrozenAndReplaced freezes the program, lets another one take over
// and finish, and thaws it.
func TestF15_FrozenAndReplaced(t *testing.T) {
	p := newPlace(t)
	frozen := start(t, p.args("--loop", "3", "--rate", "4000"))
	if !frozen.waitFor("checkpoint completed", 2) {
		t.Fatalf("exit %d:\n%s", frozen.end(t), frozen.log.String())
	}
	frozen.signal(t, syscall.SIGSTOP)
	p.run(t, exit.OK, "--loop", "3", "--parallelism", "3")
	frozen.signal(t, syscall.SIGCONT)
	if code := frozen.end(t); code != exit.Fenced {
		t.Errorf("exit %d, want %d:\n%s", code, exit.Fenced, frozen.log.String())
	}
	report, err := wordcheck.Check(p.output, p.expected(t, 3), wordcheck.Options{})
	if err != nil || !report.OK() {
		t.Errorf("%v, %v", report, err)
	}
}

func TestF14_Signals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			p := newPlace(t)
			proc := start(t, p.args("--rate", "5000"))
			if !proc.waitFor("checkpoint completed", 1) {
				t.Fatalf("exit %d:\n%s", proc.end(t), proc.log.String())
			}
			proc.signal(t, s)
			if code := proc.end(t); code != exit.OK || !strings.Contains(proc.log.String(), "kind=stop") {
				t.Errorf("exit %d:\n%s", code, proc.log.String())
			}
			p.check(t, 1, wordcheck.Options{Partial: true})
			p.run(t, exit.OK)
			p.check(t, 1, wordcheck.Options{})
		})
	}
}

// TestF14_SecondSignal holds the store's lock, so that the last checkpoint
// cannot be committed, and does not wait for it.
func TestF14_SecondSignal(t *testing.T) {
	p := newPlace(t)
	proc := start(t, p.args("--rate", "5000"))
	if !proc.waitFor("checkpoint completed", 1) {
		t.Fatalf("exit %d:\n%s", proc.end(t), proc.log.String())
	}
	lock, err := os.Open(filepath.Join(strings.TrimPrefix(p.store, "file://"), ".tmp", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	proc.signal(t, syscall.SIGTERM)
	if !proc.waitFor("stopping", 1) {
		t.Fatalf("exit %d:\n%s", proc.end(t), proc.log.String())
	}
	proc.signal(t, syscall.SIGTERM)
	if code := proc.end(t); code != exit.Failure || strings.Contains(proc.log.String(), "wordcount: ") {
		t.Errorf("exit %d, want %d and no word of why:\n%s", code, exit.Failure, proc.log.String())
	}
	lock.Close()
	p.run(t, exit.OK)
	p.check(t, 1, wordcheck.Options{})
}
