package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/file"
	"github.com/ckpt-io/ckpt/examples/wordcount/job"
	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
)

// run executes the command line args (without the program's name) until the
// input ends or ctx does, which ends the job after a last checkpoint. It
// returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parseFlags(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return exit.OK
	}
	if err == nil {
		err = execute(ctx, c, slog.New(slog.NewTextHandler(stderr, nil)))
	}
	if err == nil {
		return exit.OK
	}
	fmt.Fprintf(stderr, "wordcount: %v\n", err)
	if h := hint(err); h != "" {
		fmt.Fprintf(stderr, "hint: %s\n", h)
	}
	return exitCode(err)
}

func execute(ctx context.Context, c config, logger *slog.Logger) (err error) {
	var m job.Meter
	graph, err := newJob(c, &m)
	if err != nil {
		return err
	}
	keys, err := loadKeys(c.keyFile, logger)
	if err != nil {
		return err
	}
	store, url, err := openStore(ctx, c)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	if closer, ok := store.(io.Closer); ok {
		defer func() { err = errors.Join(err, closer.Close()) }()
	}
	from, err := checkStart(ctx, c, store)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	if err := os.MkdirAll(c.stateDir, 0o755); err != nil {
		return exit.Local(fmt.Errorf("make state directory: %w", err))
	}

	done := make(chan struct{})
	var progress sync.WaitGroup
	progress.Go(func() { report(&m, done, logger) })
	defer progress.Wait()
	defer close(done)

	defer context.AfterFunc(ctx, func() {
		logger.Info("stopping after a last checkpoint; a second signal ends it at once")
	})()

	// The end of ctx asks the job to stop; it is not to be torn down.
	return engine.Run(context.WithoutCancel(ctx), graph, engine.Config{
		Store:       store,
		Keys:        keys,
		StateDir:    c.stateDir,
		Parallelism: c.parallelism,
		Checkpoint:  coordinator.Config{Interval: c.interval},
		Restart:     restart(c),
		Logger:      logger,
		Events:      events(logger),
		Stop:        ctx.Done(),
		StopTimeout: 30 * time.Second,
		Fresh:       c.fresh,
		From:        from,
		SkipProbe:   url.UnsafeSingleWriter,
	})
}

// loadKeys reads the key file; nil without one.
func loadKeys(path string, logger *slog.Logger) (*seal.Keys, error) {
	if path == "" {
		return nil, nil
	}
	keys, exposed, err := seal.LoadKeys(path)
	if err != nil {
		return nil, exit.UsageError{Err: err}
	}
	if exposed {
		logger.Warn("others than its owner may read the key file", "file", path)
	}
	return keys, nil
}

// restart bears with trouble for half a minute, as long as trouble is new. A
// peer that a tcp input cannot connect to is given up sooner.
func restart(c config) engine.RestartStrategy {
	if c.address != "" {
		return engine.FixedDelay(3, time.Second)
	}
	return engine.Exponential(engine.ExponentialDelay{Attempts: 6})
}

// unlessStopped makes nothing of an error that comes from a request to stop:
// the job had not begun.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// openStore opens the job's store. A directory that is missing is made only if
// a job that begins there would not be refused.
func openStore(ctx context.Context, c config) (objectstore.Store, storeurl.URL, error) {
	store, url, err := storeurl.Open(ctx, c.store, false)
	if url.Scheme != storeurl.SchemeFile || !errors.Is(err, objectstore.ErrNoBucket) {
		return store, url, err
	}
	if _, err := checkStart(ctx, c, objectstore.NewMem()); err != nil {
		return nil, url, err
	}
	return storeurl.Open(ctx, c.store, true)
}

// checkStart refuses what would only fail later, when the job has been taken
// over: output that is not this job's, and input or a checkpoint to begin from
// that is not there. It returns that checkpoint; 0 is the newest.
func checkStart(ctx context.Context, c config, store objectstore.Store) (manifest.ID, error) {
	if err := checkFiles(ctx, c, store); err != nil {
		return 0, err
	}
	return resolveFrom(ctx, c, store)
}

// checkFiles looks at the output and the input.
func checkFiles(ctx context.Context, c config, store objectstore.Store) error {
	// Before HEAD is read: another process may be committing the job's first
	// checkpoint, and its output appears after HEAD lists it.
	notEmpty := checkOutputEmpty(c.output)
	head, err := catalog.New(objectstore.Prefix(store, c.job), c.job).Head(ctx)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	newest, ok := head.Newest()
	if notEmpty != nil && (!ok || c.fresh) {
		return notEmpty
	}
	if ok && !c.fresh && newest.Kind == manifest.Final || c.address != "" {
		return nil // nothing to read any more, or nothing to look at
	}
	return checkInput(ctx, c.input, !ok || c.fresh)
}

// checkInput reads where the input of a job that begins anew would be cut, and
// else only looks whether it is there.
func checkInput(ctx context.Context, path string, anew bool) error {
	if !anew {
		if _, err := os.Stat(path); err != nil {
			return exit.Local(fmt.Errorf("read input: %w", err))
		}
		return nil
	}
	source, err := file.New(path, file.Options{})
	if err != nil {
		return exit.UsageError{Err: err}
	}
	if _, err := source.Splits(ctx); err != nil {
		return exit.Local(err)
	}
	return nil
}

// resolveFrom finds the checkpoint that --from names; 0 is the newest.
func resolveFrom(ctx context.Context, c config, store objectstore.Store) (manifest.ID, error) {
	if c.from == "" {
		return 0, nil
	}
	_, entry, err := catalog.New(objectstore.Prefix(store, c.job), c.job).Resolve(ctx, c.from)
	if err != nil {
		return 0, fmt.Errorf("--from %q: %w", c.from, err)
	}
	if c.from == "latest" {
		return 0, nil // also if a newer one is committed until the job is taken over
	}
	return entry.ID, nil
}

// checkOutputEmpty accepts uncommitted output of former lives, which the sink
// removes.
func checkOutputEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return exit.Local(fmt.Errorf("read output directory: %w", err))
	}
	for _, e := range entries {
		if e.Name() != ".pending" {
			return exit.Usagef("--output %s holds %s: a job that begins anew needs an empty directory", dir, e.Name())
		}
	}
	return nil
}
