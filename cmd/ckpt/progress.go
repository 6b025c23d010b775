package main

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress is a bar on stderr, or nothing if stderr is not a terminal.
type progress struct{ bar *progressbar.ProgressBar }

// newProgress starts a bar over total bytes, or objects if bytes is false.
func (a *app) newProgress(label string, total int64, bytes bool) progress {
	f, ok := a.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return progress{}
	}
	return progress{progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(f),
		progressbar.OptionSetDescription(printable(label)),
		progressbar.OptionShowBytes(bytes),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionFullWidth(),
	)}
}

// add moves the bar on. A bar that cannot be drawn is no reason to fail.
func (p progress) add(n int64) {
	if p.bar != nil {
		_ = p.bar.Add64(n)
	}
}

// set moves the bar to n.
func (p progress) set(n int64) {
	if p.bar != nil {
		_ = p.bar.Set64(n)
	}
}

// done removes the bar.
func (p progress) done() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
