// Command socket counts the words of lines that come over TCP and prints each
// new total: the smallest job with a source, keyed state and a sink. Try it with
//
//	nc -lk 9999 &
//	go run ./examples/socket 127.0.0.1:9999
//
// A socket cannot be replayed and what is printed cannot be taken back, so that
// exactly once holds for neither; examples/wordcount is the one to learn that
// from. Checkpoints are kept in memory and end with the process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/print"
	"github.com/ckpt-io/ckpt/engine/connector/socket"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/objectstore"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		<-signals
		os.Exit(1)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes the command line args (without the program's name) and returns
// the exit code: 0 done, 1 failure, 2 usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("socket", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprintln(stderr, "socket [flags] HOST:PORT")
		fs.PrintDefaults()
	}
	interval := fs.Duration("interval", time.Second, "`time` between checkpoints")
	parallelism := fs.Int("parallelism", 2, "subtasks that count")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	source, err := socket.New(fs.Arg(0), socket.Options{})
	if err != nil || fs.NArg() != 1 || *interval <= 0 || *parallelism < 1 {
		fmt.Fprintln(stderr, "socket: want one HOST:PORT, an interval above 0 and a parallelism of 1 or more")
		return 2
	}
	err = engine.Run(context.WithoutCancel(ctx), newJob(source, stdout), engine.Config{
		Store:       objectstore.NewMem(),
		Parallelism: *parallelism,
		Checkpoint:  coordinator.Config{Interval: *interval},
		Restart:     engine.NoRestart(), // a new connection would miss lines
		Logger:      slog.New(slog.NewTextHandler(stderr, nil)),
		Stop:        ctx.Done(),
	})
	if err != nil {
		fmt.Fprintf(stderr, "socket: %v\n", err)
		return 1
	}
	return 0
}

type total struct {
	word  string
	count int64
}

func newJob(source engine.Source[string], out io.Writer) *engine.Job {
	job := engine.NewJob("socket")
	words := engine.FlatMap(engine.From(job, "lines", source), "words", func(line string, emit func(string)) error {
		for word := range strings.FieldsSeq(line) {
			emit(word)
		}
		return nil
	})
	byWord := engine.KeyBy(words, state.String, func(word string) string { return word })
	totals := engine.Process(byWord, "count", func() engine.KeyedFunc[string, string, total] { return new(counter) })
	engine.To(totals, "print", print.New(out, func(dst []byte, t total) []byte {
		return fmt.Appendf(dst, "%s\t%d\n", t.word, t.count)
	}))
	return job
}

// counter counts one word's occurrences.
type counter struct{ count *state.Value[int64] }

func (c *counter) Open(ctx *engine.KeyedContext) (err error) {
	c.count, err = engine.NewValue(ctx, "count", state.Int64)
	return err
}

func (c *counter) Process(word, _ string, emit func(total)) error {
	n, _, err := c.count.Get()
	if err != nil {
		return err
	}
	if err := c.count.Set(n + 1); err != nil {
		return err
	}
	emit(total{word, n + 1})
	return nil
}
