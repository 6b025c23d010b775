// Command wordcount counts words exactly once. It reads lines from a file, a
// directory or a TCP address, splits them on white space, and for every
// occurrence of a word writes a line "word<TAB>count" with the new total, so
// that a word that occurs n times has the counts 1..n in the output, each once
// and in order, whatever crashes in between.
//
// Started again with the same store and job it goes on from the newest
// checkpoint, at any parallelism. SIGTERM and SIGINT end it after a last
// checkpoint; a second signal ends it at once. Run it with --help for its flags.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
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
