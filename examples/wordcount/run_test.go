package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/internal/wordcheck"
)

const opticks = "../text/opticks.txt"

// place is where one job runs.
type place struct{ input, output, store, stateDir string }

func newPlace(t *testing.T) place {
	t.Helper()
	dir := t.TempDir()
	return place{opticks, filepath.Join(dir, "out"), "file://" + filepath.ToSlash(filepath.Join(dir, "store")), filepath.Join(dir, "state")}
}

func (p place) args(more ...string) []string {
	return append([]string{
		"--input", p.input, "--output", p.output, "--store", p.store, "--job", "wordcount", "--state-dir", p.stateDir,
		"--interval", "50ms",
	}, more...)
}

// text is a stderr that can be looked at while it is written.
type text struct {
	mu sync.Mutex
	b  strings.Builder
	// see is called with each line, or part of one, that is written.
	see func(string)
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.b.Write(p)
	t.mu.Unlock()
	if t.see != nil {
		t.see(string(p))
	}
	return len(p), nil
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

func (p place) run(t *testing.T, want int, more ...string) (stderr string) {
	t.Helper()
	var log text
	if code := run(t.Context(), p.args(more...), io.Discard, &log); code != want {
		t.Fatalf("exit %d, want %d:\n%s", code, want, log.String())
	}
	return log.String()
}

// expected are the counts of the input read times times.
func (p place) expected(t *testing.T, times int64) map[string]int64 {
	t.Helper()
	content, err := os.ReadFile(p.input)
	if err != nil {
		t.Fatal(err)
	}
	return wordcheck.Times(wordcheck.Count(string(content)), times)
}

func (p place) check(t *testing.T, times int64, opts wordcheck.Options) *wordcheck.Report {
	t.Helper()
	report, err := wordcheck.Check(p.output, p.expected(t, times), opts)
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() {
		t.Fatal(report)
	}
	if !opts.Partial && report.Pending > 0 {
		t.Errorf("%d files are left uncommitted", report.Pending)
	}
	return report
}

func TestWholeTextOnce(t *testing.T) {
	for _, parallelism := range []string{"1", "2", "7"} {
		t.Run(parallelism, func(t *testing.T) {
			p := newPlace(t)
			p.run(t, exit.OK, "--parallelism", parallelism, "--loop", "2")
			p.check(t, 2, wordcheck.Options{})
			if left := names(t, p.stateDir); len(left) > 0 {
				t.Errorf("state directory holds %q", left)
			}
		})
	}
}

func TestStartedAgainAfterTheEnd(t *testing.T) {
	p := newPlace(t)
	p.run(t, exit.OK)
	before := names(t, p.output)
	p.input = filepath.Join(t.TempDir(), "gone")
	p.run(t, exit.OK, "--parallelism", "3")
	if after := names(t, p.output); !slices.Equal(before, after) {
		t.Errorf("output was %q and is %q", before, after)
	}
}

// TestF14_StopAndGoOn stops the job again and again, each time going on at
// another parallelism.
func TestF14_StopAndGoOn(t *testing.T) {
	p := newPlace(t)
	for life := range 5 {
		ctx, stop := context.WithCancel(t.Context())
		log := &text{see: func(line string) {
			if strings.Contains(line, "checkpoint completed") {
				stop()
			}
		}}
		args := p.args("--parallelism", fmt.Sprint(1+life%3), "--rate", "20000", "--loop", "3")
		if code := run(ctx, args, io.Discard, log); code != exit.OK {
			t.Fatalf("life %d: exit %d:\n%s", life, code, log)
		}
		stop()
		if !strings.Contains(log.String(), "kind=stop") {
			t.Errorf("life %d took no last checkpoint:\n%s", life, log)
		}
		p.check(t, 3, wordcheck.Options{Partial: true})
	}
	p.run(t, exit.OK, "--loop", "3")
	p.check(t, 3, wordcheck.Options{})
}

func TestFresh(t *testing.T) {
	p := newPlace(t)
	p.run(t, exit.OK)
	stderr := p.run(t, exit.Usage, "--fresh")
	if !strings.Contains(stderr, p.output) || !strings.Contains(stderr, "empty") {
		t.Errorf("stderr %q", stderr)
	}
	p.output = filepath.Join(t.TempDir(), "again")
	p.run(t, exit.OK, "--fresh")
	p.check(t, 1, wordcheck.Options{})
}

func TestNewJobNeedsEmptyOutput(t *testing.T) {
	p := newPlace(t)
	p.run(t, exit.OK)
	p.store += "-other"
	if stderr := p.run(t, exit.Usage); !strings.Contains(stderr, "part-") {
		t.Errorf("stderr %q", stderr)
	}
	if _, err := os.Stat(strings.TrimPrefix(p.store, "file://") + "/wordcount"); err == nil {
		t.Error("the refused job was begun")
	}
}

func TestMaxParallelismIsKept(t *testing.T) {
	p := newPlace(t)
	p.run(t, exit.OK, "--max-parallelism", "16")
	if stderr := p.run(t, exit.Usage, "--max-parallelism", "32"); !strings.Contains(stderr, "16") {
		t.Errorf("stderr %q", stderr)
	}
}

func TestMissingInput(t *testing.T) {
	p := newPlace(t)
	p.input = filepath.Join(t.TempDir(), "none")
	if stderr := p.run(t, exit.NotFound); !strings.Contains(stderr, p.input) {
		t.Errorf("stderr %q", stderr)
	}
	leavesNoStore(t, p)
}

func TestEmptyInput(t *testing.T) {
	p := newPlace(t)
	p.input = filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(p.input, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.run(t, exit.OK)
	if got := names(t, p.output); !slices.Equal(got, []string{".pending"}) {
		t.Errorf("output %q", got)
	}
}

func TestCorruptHeadIsNeverStartedOver(t *testing.T) {
	p := newPlace(t)
	p.run(t, exit.OK)
	head := filepath.Join(strings.TrimPrefix(p.store, "file://"), "wordcount", "HEAD")
	if err := os.WriteFile(head, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run(t, exit.Corrupt)
}

func TestTCPInput(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = io.WriteString(conn, "to be or\nnot to be\n")
			conn.Close()
		}
		sent <- err
	}()
	p := newPlace(t)
	p.input = "tcp://" + l.Addr().String()
	if stderr := p.run(t, exit.OK); !strings.Contains(stderr, "exactly once does not hold") {
		t.Errorf("stderr %q", stderr)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	report, err := wordcheck.Check(p.output, wordcheck.Count("to be or not to be"), wordcheck.Options{})
	if err != nil || !report.OK() {
		t.Errorf("%v, %v", report, err)
	}
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
