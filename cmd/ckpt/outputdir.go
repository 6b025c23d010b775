package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/internal/exit"
)

// outputDir is a directory that appears only when everything is in it: it is
// built in temp, beside dir.
type outputDir struct {
	dir, temp string
}

// newOutputDir refuses a dir that is there and not an empty directory, and
// makes its parent and an empty temp.
func newOutputDir(dir string) (*outputDir, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, exit.Local(err)
	}
	// The directory behind a link is the one to fill.
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	entries, err := os.ReadDir(dir)
	switch {
	case err == nil && len(entries) > 0:
		return nil, withHint(exit.Local(fmt.Errorf("%q: %w", dir, incremental.ErrDirNotEmpty)),
			"name another directory, or empty this one first")
	case errors.Is(err, syscall.ENOTDIR):
		return nil, withHint(exit.Local(fmt.Errorf("%q is not a directory", dir)), "name one that is, or that is not there yet")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, exit.Local(err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, exit.Local(err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".tmp-")
	if err != nil {
		return nil, exit.Local(fmt.Errorf("make directory beside %q: %w", dir, err))
	}
	return &outputDir{dir, temp}, nil
}

// commit gives temp its name.
func (o *outputDir) commit() error {
	// An empty directory in the way is removed; one that was filled since
	// is not, and the rename then fails.
	if err := os.Remove(o.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return exit.Local(err)
	}
	if err := os.Chmod(o.temp, 0o755); err != nil {
		return exit.Local(err)
	}
	if err := os.Rename(o.temp, o.dir); err != nil {
		return exit.Local(err)
	}
	return nil
}

// discard removes what was not committed.
func (o *outputDir) discard() { _ = os.RemoveAll(o.temp) }

// classify makes an error about a file below temp a local one.
func (o *outputDir) classify(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok && strings.HasPrefix(pe.Path, o.temp) {
		return exit.Local(err)
	}
	return err
}
