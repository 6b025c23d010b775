package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ckpt-io/ckpt/internal/exit"
)

// app is one run of the program: where it reads and writes, and the flags that
// all commands share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	storeURL string
	job      string
	keyFile  string
	json     bool

	// running is set once flags and arguments have been accepted: errors
	// before that are errors of usage.
	running bool
}

// outWriter remembers that output was lost, so that nobody takes half of a
// document for all of it.
type outWriter struct {
	io.Writer
	err error
}

func (w *outWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil && w.err == nil {
		w.err = withHint(exit.Local(fmt.Errorf("write output: %w", err)), "what was printed is not all of it; run the command again")
	}
	return n, w.err
}

// run executes the command line args (without the program's name) and returns
// the exit code. Data goes to stdout, everything else to stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &outWriter{Writer: stdout}
	a := &app{stdin: stdin, stdout: out, stderr: stderr}
	root := a.rootCommand()
	root.SetArgs(append([]string{}, args...))
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.running {
		err = exit.UsageError{Err: err}
	}
	if err == nil {
		err = out.err
	}
	if err == nil {
		return exit.OK
	}
	a.explain(ctx, err)
	return exitCode(err)
}

const rootHelp = `Show, check, restore and clean up the checkpoints of a stream processing job.

The store is where the job keeps its checkpoints:
  file:///abs/dir
  s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1&path-style=true
Credentials come from the AWS default chain, never from the URL. An encrypted
job takes --key-file, but for list and probe.

REF is a checkpoint's id or "latest".

With --json, a command prints one document to standard output: an array for
lists, else an object. Names are snake_case, ids and sizes (bytes) are numbers,
durations (..._ns) are nanoseconds, times are RFC 3339. Fields may be added,
never renamed or removed.

Exit status: 0 done, 1 other failure, 2 usage, 3 corrupt (a named object is
missing or damaged), 4 not found (directory, bucket, job or REF), 5 fenced,
6 store refused or out of reach, 7 disk full.`

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "ckpt",
		Short:         "Checkpoints of stream processing jobs in an object store",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		// How many letters off a command may be to be suggested.
		SuggestionsMinimumDistance: 2,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.storeURL, "store", os.Getenv("CKPT_STORE"), "store `URL` (environment: CKPT_STORE)")
	flags.StringVar(&a.job, "job", os.Getenv("CKPT_JOB"), "job `name` (environment: CKPT_JOB)")
	flags.StringVar(&a.keyFile, "key-file", os.Getenv("CKPT_KEY_FILE"), "`file` of the keys of an encrypted job (environment: CKPT_KEY_FILE)")
	flags.BoolVar(&a.json, "json", false, "print one JSON document")
	// A default from the environment is not shown: it may be long.
	for _, name := range []string{"store", "job", "key-file"} {
		flags.Lookup(name).DefValue = ""
	}
	for _, cmd := range a.commands() {
		runE := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.running = true
			return runE(cmd, args)
		}
		root.AddCommand(cmd)
	}
	return root
}

// noCommand refuses the arguments of a command that there is not.
func noCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q", args[0])
	if like := root.SuggestionsFor(args[0]); len(like) > 0 {
		return withHint(err, "did you mean %s? ckpt --help names them all", strings.Join(like, " or "))
	}
	return err
}

// commands are all there are, in the order of the help.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.demoCommand(),
		a.listCommand(),
		a.inspectCommand(),
		a.verifyCommand(),
		a.restoreCommand(),
		a.gcCommand(),
		a.probeCommand(),
		a.versionCommand(),
		a.demoWorkerCommand(),
	}
}

// note tells the user something that is not data.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.stderr, printable(fmt.Sprintf(format, args...)))
}
