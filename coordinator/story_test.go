package coordinator

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the stories in testdata with what the machine does now")

// TestStories plays the files of testdata through the machine. A line that
// begins with "> " is a command, the lines up to the next command are the
// effects it must have, each with the time since the start. "#" begins a
// comment. The commands:
//
//	job source=2 count=1 next=5 restored=4 epoch=2   parallelism by operator
//	config interval=10s max-concurrent=2 ...         before start
//	start
//	advance 10s                    time passes, with a tick at every deadline
//	sleep 10s                      time passes, but nobody ticks
//	report count/0 1 [epoch]       one task reports checkpoint 1
//	report-all 1                   every task that has not reported does
//	decline count/0 1 reason
//	commit-done 1 [reason]
//	trigger-failed 1 reason
//	request name kind
//	hold on|off
//	shutdown reason
//	pending                        lists the pending checkpoints
//
// A reason is free text; not-ready, subsumed, fenced and unresolved stand for
// the errors of those names.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("find stories: %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newTeller(t).play(want)
			if bytes.Equal(got, want) {
				return
			}
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s\n%s", file, firstDifference(string(got), string(want)))
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			from := max(0, i-3)
			return fmt.Sprintf("line %d, got:\n%s\nwant:\n%s", i+1,
				strings.Join(g[from:min(i+4, len(g))], "\n"), strings.Join(w[from:min(i+4, len(w))], "\n"))
		}
	}
	return fmt.Sprintf("want %d more lines", len(w)-len(g))
}
