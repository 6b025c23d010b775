//go:build unix

package crashtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(childMain())
	}
	code := m.Run()
	if programs.dir != "" {
		if err := os.RemoveAll(programs.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// programs are the real ones, built when the first test needs them.
var programs struct {
	once sync.Once
	dir  string
	err  error
}

// program returns the path of a built program: wordcount or ckpt.
func program(t *testing.T, name string) string {
	t.Helper()
	p := &programs
	p.once.Do(func() {
		if p.dir, p.err = os.MkdirTemp("", "crashtest-"); p.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", p.dir, "../../examples/wordcount", "../../cmd/ckpt")
		if out, err := cmd.CombinedOutput(); err != nil {
			p.err = fmt.Errorf("build programs: %w\n%s", err, out)
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return filepath.Join(p.dir, name)
}

// process is a child process. Its standard error is read by lines.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // not yet waited for; closed at the end

	mu  sync.Mutex
	log strings.Builder
}

// maxLines is above what any child here writes, so that none is held back by
// a test that does not read.
const maxLines = 1 << 16

// start starts a child that is killed at the end of the test, if it still
// runs.
func start(t *testing.T, env []string, path string, args ...string) *process {
	t.Helper()
	ctx := t.Context()
	if deadline, ok := t.Deadline(); ok {
		// Soon enough to show what the child had to say.
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-5*time.Second))
		t.Cleanup(cancel)
	}
	p := &process{t: t, cmd: exec.CommandContext(ctx, path, args...), lines: make(chan string, maxLines)}
	p.cmd.Env = append(os.Environ(), env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.kill()
			p.end()
		}
	})
	go func() {
		defer close(p.lines)
		sc := bufio.NewScanner(stderr)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			p.mu.Lock()
			p.log.WriteString(sc.Text() + "\n")
			p.mu.Unlock()
			p.lines <- sc.Text()
		}
	}()
	return p
}

// text is all that the child has written so far.
func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// waitFor reads lines up to the nth that holds what. It reports whether there
// was one before the child ended.
func (p *process) waitFor(what string, n int) bool {
	for line := range p.lines {
		if strings.Contains(line, what) {
			if n--; n == 0 {
				return true
			}
		}
	}
	return false
}

// mustSee is waitFor for what has to come.
func (p *process) mustSee(what string, n int) {
	p.t.Helper()
	if !p.waitFor(what, n) {
		p.t.Fatalf("process ended (%v) before it logged %q %d times:\n%s", p.end(), what, n, p.text())
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
}

func (p *process) kill() { p.signal(syscall.SIGKILL) }

// end waits for the end of the child.
func (p *process) end() syscall.WaitStatus {
	for range p.lines {
	}
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Wait() // how it ended is in its state
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		p.t.Fatalf("process state %v has no wait status", p.cmd.ProcessState)
	}
	return status
}

// killed reports whether SIGKILL is what ended a process.
func killed(s syscall.WaitStatus) bool { return s.Signaled() && s.Signal() == syscall.SIGKILL }

// wantExit waits for the end and demands an exit code.
func (p *process) wantExit(code int) {
	p.t.Helper()
	if s := p.end(); !s.Exited() || s.ExitStatus() != code {
		p.t.Fatalf("process ended with %v, want exit %d:\n%s", p.cmd.ProcessState, code, p.text())
	}
}

// mustHave demands a text in the log of a child that has ended.
func (p *process) mustHave(what string) {
	p.t.Helper()
	if !strings.Contains(p.text(), what) {
		p.t.Errorf("process did not log %q:\n%s", what, p.text())
	}
}
