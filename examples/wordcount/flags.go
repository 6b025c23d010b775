package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
)

// maxKeyGroups is the largest --max-parallelism.
const maxKeyGroups = 32768

// config is what the flags say.
type config struct {
	input, output  string
	address        string // of a tcp:// input, which has no path
	store, job     string
	keyFile        string
	stateDir       string
	parallelism    int
	maxParallelism int
	interval       time.Duration
	loop           int
	rate           float64
	from           string
	fresh          bool
}

const usageHead = `wordcount counts words exactly once.

  wordcount --input PATH|tcp://HOST:PORT --output DIR --store URL --job NAME --state-dir DIR [flags]

Started again with the same store and job it goes on from the newest checkpoint.
Exit: 0 done, 1 other failure, 2 usage, 3 corrupt, 4 not found, 5 fenced,
6 store refused or out of reach, 7 disk full.

`

// parseFlags reads the command line. Its errors are exit.UsageErrors, with all
// reasons at once, or flag.ErrHelp after the help was written to stdout.
func parseFlags(args []string, stdout io.Writer) (config, error) {
	var c config
	fs := flag.NewFlagSet("wordcount", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are told by run
	fs.Usage = func() {}
	fs.StringVar(&c.input, "input", "", "`PATH` of a file or directory of text, or tcp://HOST:PORT, which cannot be replayed")
	fs.StringVar(&c.output, "output", "", "`DIR` for the parts of the output")
	fs.StringVar(&c.store, "store", "", "`URL` of the checkpoints' store: file:///abs/dir or s3://bucket/prefix")
	fs.StringVar(&c.job, "job", "", "`NAME` of the job in the store")
	fs.StringVar(&c.keyFile, "key-file", "", "`FILE` of age identities under which the checkpoints are encrypted; the first is for new ones")
	fs.StringVar(&c.stateDir, "state-dir", "", "`DIR` for local working state, which is disposable; kept, it makes the next start faster")
	fs.IntVar(&c.parallelism, "parallelism", 2, "subtasks of each operator")
	fs.IntVar(&c.maxParallelism, "max-parallelism", 128, "key groups, and so the most subtasks; cannot be changed later")
	fs.DurationVar(&c.interval, "interval", time.Second, "`time` between checkpoints")
	fs.IntVar(&c.loop, "loop", 1, "how often the input is read")
	fs.Float64Var(&c.rate, "rate", 0, "input `lines` a second for the whole job; 0 is no limit")
	fs.StringVar(&c.from, "from", "", "`REF` of the checkpoint to go on from, its id or latest; refused where later output was committed")
	fs.BoolVar(&c.fresh, "fresh", false, "begin anew where checkpoints exist; the output directory must be empty")
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fs.SetOutput(stdout)
		fmt.Fprint(stdout, usageHead)
		fs.PrintDefaults()
		return c, err
	case err != nil:
		return c, exit.UsageError{Err: err}
	}
	if err := c.check(fs.Args()); err != nil {
		return c, exit.UsageError{Err: err}
	}
	return c, nil
}

func (c *config) check(rest []string) error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(len(rest) > 0, "unexpected argument %q", strings.Join(rest, " "))
	for _, f := range []struct{ name, value string }{
		{"input", c.input}, {"output", c.output}, {"store", c.store}, {"job", c.job}, {"state-dir", c.stateDir},
	} {
		refuse(f.value == "", "--%s is missing", f.name)
	}
	refuse(c.job != "" && !manifest.ValidJob(c.job), "--job %q: want 1 to 100 letters, digits, dots, underscores and hyphens", c.job)
	if c.store != "" {
		_, err := storeurl.Parse(c.store)
		refuse(err != nil, "--store: %w", err)
	}
	refuse(c.maxParallelism < 1 || c.maxParallelism > maxKeyGroups, "--max-parallelism %d: want 1 to %d", c.maxParallelism, maxKeyGroups)
	refuse(c.parallelism < 1, "--parallelism %d: want 1 or more", c.parallelism)
	refuse(c.parallelism > c.maxParallelism, "--parallelism %d: want at most --max-parallelism, %d", c.parallelism, c.maxParallelism)
	refuse(c.interval <= 0, "--interval %v: want more than 0", c.interval)
	refuse(c.fresh && c.from != "", "--fresh begins anew, --from %s does not: choose one", c.from)
	refuse(c.loop < 1, "--loop %d: want 1 or more", c.loop)
	refuse(!(c.rate >= 0) || math.IsInf(c.rate, 0), "--rate %v: want 0 or more", c.rate)
	errs = append(errs, c.checkInput())
	return errors.Join(errs...)
}

func (c *config) checkInput() error {
	scheme, address, isURL := strings.Cut(c.input, "://")
	switch {
	case !isURL && c.input != "" && samePath(c.input, c.output):
		return fmt.Errorf("--output %s is the input", c.output)
	case !isURL:
		return nil
	case scheme != "tcp":
		return fmt.Errorf("--input %s: want a path or tcp://HOST:PORT", c.input)
	case c.loop > 1:
		return fmt.Errorf("--loop %d: a tcp input is read once", c.loop)
	}
	c.address = address
	return nil
}

func samePath(a, b string) bool {
	a, err := filepath.Abs(a)
	b, err2 := filepath.Abs(b)
	return err == nil && err2 == nil && a == b
}
