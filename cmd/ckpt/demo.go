package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-io/ckpt/examples/text"
	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/internal/wordcheck"
)

// demoJob is the name of the demo's job in its store.
const demoJob = "demo"

const demoHelp = `Run the whole story on this machine, with nothing to set up.

A job counts the words of Newton's Opticks: lines, words, counts by word in
keyed state, exactly-once output. It runs in a worker process of its own with a
directory as its object store. The demo kills the worker with SIGKILL again and
again, also between the trigger of a checkpoint and its commit, and starts it
anew. In the end it compares every line of the output with a sequential count.

Everything stands in one directory, which is removed at the end unless --dir
names it. Run again with the same --dir, the demo goes on where it was; after
the end it compares the output again.

Exit status: 0 if the output is exactly once, 1 if not.

--json prints an object:
  exactly_once        whether every line is there once and in order
  lines, words        lines of output, different words in it
  wrong, differences  how many differences, and the first of them
  kills               workers killed, kills_in_checkpoint of them between a
                      trigger and its commit
  checkpoints         committed
  duration_ns         of the whole demo`

// demoFlags are what a user may choose.
type demoFlags struct {
	dir         string
	kills       int
	parallelism int
	interval    time.Duration
	rate        float64
}

// demoDoc is what --json prints.
type demoDoc struct {
	ExactlyOnce       bool          `json:"exactly_once"`
	Lines             int64         `json:"lines"`
	Words             int           `json:"words"`
	Wrong             int64         `json:"wrong"`
	Differences       []string      `json:"differences"`
	Kills             int           `json:"kills"`
	KillsInCheckpoint int           `json:"kills_in_checkpoint"`
	Checkpoints       int           `json:"checkpoints"`
	Duration          time.Duration `json:"duration_ns"`
}

// errNotExactlyOnce is the demo's verdict, already printed.
var errNotExactlyOnce = errors.New("the output is not exactly once")

func (a *app) demoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Run a job, kill it, let it recover, check that nothing is lost",
		Long:    demoHelp,
		Example: "  ckpt demo\n  ckpt demo --dir /tmp/demo --kills 10\n  ckpt inspect latest --store file:///tmp/demo/store --job demo",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.kills < 0 || f.parallelism < 1 || f.interval <= 0 || f.rate <= 0 {
				return exit.Usagef("demo: want --kills 0 or more, --parallelism 1 or more, --interval and --rate above 0")
			}
			return a.demo(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "", "keep everything in this `directory`")
	flags.IntVar(&f.kills, "kills", 5, "how often the worker is killed")
	flags.IntVar(&f.parallelism, "parallelism", 2, "subtasks of each operator")
	flags.DurationVar(&f.interval, "interval", 400*time.Millisecond, "time between checkpoints")
	flags.Float64Var(&f.rate, "rate", 1000, "lines a second")
	return cmd
}

// demo prepares the directory, has the worker run to its end, and checks what
// it wrote.
func (a *app) demo(ctx context.Context, f demoFlags) error {
	began := time.Now()
	dir, remove, err := demoDir(f.dir)
	if err != nil {
		return exit.Local(err)
	}
	defer remove()
	place := demoPlace{dir}
	if err := place.writeInput(text.Opticks); err != nil {
		return exit.Local(err)
	}
	d := &director{app: a, flags: f, place: place, open: make(map[uint64][]taskTimes)}
	a.note("counting the words of Newton's Opticks in %s", dir)
	if err := d.run(ctx); err != nil {
		return err
	}
	report, err := wordcheck.Check(place.output(), wordcheck.Count(text.Opticks), wordcheck.Options{})
	if err != nil {
		return exit.Local(err)
	}
	if f.dir != "" {
		a.note("look into it: ckpt list --store %s --job %s", place.storeURL(), demoJob)
	}
	return a.verdict(d, report, time.Since(began))
}

// verdict prints how the story ended.
func (a *app) verdict(d *director, r *wordcheck.Report, took time.Duration) error {
	if a.json {
		doc := demoDoc{
			ExactlyOnce: r.OK(), Lines: r.Lines, Words: r.Words, Wrong: r.Wrong, Differences: []string{},
			Kills: d.kills, KillsInCheckpoint: d.killsInside, Checkpoints: d.completed, Duration: took,
		}
		for _, diff := range r.Differences {
			doc.Differences = append(doc.Differences, diff.String())
		}
		if err := a.printJSON(doc); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.stdout, "%s, killed %s (%d between a trigger and its commit), %s, in %s\n",
			count(d.completed, "checkpoint"), times(d.kills), d.killsInside, recoveries(d.kills), took.Round(100*time.Millisecond))
		fmt.Fprintf(a.stdout, "compared with a sequential count of the same text: %s lines, %s different words\n",
			grouped(r.Lines), grouped(int64(r.Words)))
		for _, diff := range r.Differences {
			fmt.Fprintf(a.stdout, "  %s\n", printable(diff.String()))
		}
	}
	if !r.OK() {
		return withHint(fmt.Errorf("%w: %d differences", errNotExactlyOnce, r.Wrong), "somebody changed the output, or this is a bug: please report it")
	}
	if !a.json {
		fmt.Fprintln(a.stdout, "every word from 1 to its count, each line exactly once and in order")
	}
	return nil
}

// demoDir makes the demo's directory, and the function that removes it if the
// user did not ask for it.
func demoDir(dir string) (string, func(), error) {
	if dir == "" {
		made, err := os.MkdirTemp("", "ckpt-demo-")
		return made, func() { os.RemoveAll(made) }, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", nil, err
	}
	return dir, func() {}, os.MkdirAll(dir, 0o777)
}

// demoPlace is the layout of the demo's directory.
type demoPlace struct{ dir string }

func (p demoPlace) input() string  { return filepath.Join(p.dir, "input.txt") }
func (p demoPlace) output() string { return filepath.Join(p.dir, "output") }
func (p demoPlace) state() string  { return filepath.Join(p.dir, "state") }
func (p demoPlace) store() string  { return filepath.Join(p.dir, "store") }

func (p demoPlace) storeURL() string {
	path := filepath.ToSlash(p.store())
	if path[0] != '/' {
		path = "/" + path // a drive letter
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
}

// writeInput puts the text where the worker reads it. A directory in which
// something else stands under that name is refused.
func (p demoPlace) writeInput(content string) error {
	have, err := os.ReadFile(p.input())
	switch {
	case err == nil && string(have) == content:
		return nil
	case err == nil:
		return fmt.Errorf("use %s for the demo: input.txt there is not the demo's", p.dir)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	return os.WriteFile(p.input(), []byte(content), 0o666)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func recoveries(n int) string {
	if n == 1 {
		return "1 recovery"
	}
	return fmt.Sprintf("%d recoveries", n)
}

// grouped writes a number with a thousands separator.
func grouped(n int64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}
