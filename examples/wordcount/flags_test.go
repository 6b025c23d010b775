package main

import (
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/internal/exit"
)

// good are flags that are accepted.
func good(more ...string) []string {
	return append([]string{
		"--input", "in", "--output", "out", "--store", "file:///tmp/store", "--job", "wordcount", "--state-dir", "state",
	}, more...)
}

func TestFlagDefaults(t *testing.T) {
	c, err := parseFlags(good(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := config{
		input: "in", output: "out", store: "file:///tmp/store", job: "wordcount", stateDir: "state",
		parallelism: 2, maxParallelism: 128, interval: time.Second, loop: 1,
	}
	if c != want {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestFlagsSet(t *testing.T) {
	c, err := parseFlags(good("--input", "tcp://localhost:9999", "--parallelism", "5", "--max-parallelism=5",
		"--interval", "250ms", "--rate", "0.5", "--fresh"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.address != "localhost:9999" || c.parallelism != 5 || c.maxParallelism != 5 ||
		c.interval != 250*time.Millisecond || c.rate != 0.5 || !c.fresh {
		t.Errorf("got %+v", c)
	}
}

func TestFlagsRefused(t *testing.T) {
	tests := []struct {
		args []string
		want string // in the error
	}{
		{good("--parallelism", "0"), "--parallelism 0"},
		{good("--parallelism", "129"), "--max-parallelism, 128"},
		{good("--max-parallelism", "0"), "--max-parallelism 0"},
		{good("--max-parallelism", "32769"), "--max-parallelism 32769"},
		{good("--interval", "0s"), "--interval 0s"},
		{good("--interval", "-1s"), "--interval -1s"},
		{good("--interval", "soon"), "interval"},
		{good("--loop", "0"), "--loop 0"},
		{good("--rate", "-1"), "--rate -1"},
		{good("--rate", "NaN"), "--rate NaN"},
		{good("--rate", "Inf"), "--rate +Inf"},
		{good("--job", "a/b"), `--job "a/b"`},
		{good("--job", ".."), `--job ".."`},
		{good("--store", "ftp://x/y"), "--store"},
		{good("--store", "/tmp/x"), "--store"},
		{good("--input", "http://x/y"), "http://x/y"},
		{good("--input", "tcp://x:1", "--loop", "2"), "--loop 2"},
		{good("--output", "./in"), "is the input"},
		{good("--fresh", "--from", "3"), "--from 3"},
		{good("extra"), `"extra"`},
		{good("--unknown"), "unknown"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args[10:], " "), func(t *testing.T) {
			_, err := parseFlags(tt.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) || exitCode(err) != exit.Usage {
				t.Errorf("error %v, exit %d; want one with %q and exit 2", err, exitCode(err), tt.want)
			}
		})
	}
}

func TestFlagsAllReasonsAtOnce(t *testing.T) {
	_, err := parseFlags([]string{"--loop", "0", "--rate", "-1"}, io.Discard)
	for _, want := range []string{"--input", "--output", "--store", "--job", "--state-dir", "--loop", "--rate"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s: %v", want, err)
		}
	}
}

func TestHelp(t *testing.T) {
	var stdout strings.Builder
	if _, err := parseFlags([]string{"--help"}, &stdout); !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("error %v", err)
	}
	for _, name := range []string{"input", "output", "store", "job", "state-dir", "parallelism", "max-parallelism", "interval", "loop", "rate", "from", "fresh"} {
		if !strings.Contains(stdout.String(), "-"+name+" ") && !strings.Contains(stdout.String(), "-"+name+"\n") {
			t.Errorf("help does not tell of --%s:\n%s", name, stdout.String())
		}
	}
}
