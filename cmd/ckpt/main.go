// Command ckpt shows, checks, restores and cleans up the checkpoints of a job.
// Run it without arguments for its commands; each has a --help of its own,
// which describes what --json prints.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
