package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// scratch is a directory for the working state of this process alone. Beside
// it lies a lock that dies with the process, by which others know that it is
// in use.
type scratch struct {
	dir  string
	lock io.Closer
}

const (
	scratchPrefix = "attempt-"
	lockSuffix    = ".lock"
	// turnWait bounds the wait for processes that start at the same time.
	turnWait = 10 * time.Second
)

// openScratch makes a fresh directory under parent, and removes those that
// processes which are gone have left there.
func openScratch(ctx context.Context, parent string) (s *scratch, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make state directory: %w", err)
		}
	}()
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	turn, err := waitTurn(ctx, filepath.Join(parent, "turn"+lockSuffix))
	if err != nil {
		return nil, err
	}
	defer turn.Close()
	if err := sweepScratch(parent); err != nil {
		return nil, err
	}
	dir := filepath.Join(parent, scratchPrefix+rand.Text()[:12])
	lock, err := vfs.Default.Lock(dir + lockSuffix)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &scratch{dir: dir, lock: lock}, nil
}

// waitTurn takes the lock under which directories are made and swept, so that
// none is swept before its own lock is held.
func waitTurn(ctx context.Context, path string) (io.Closer, error) {
	deadline := time.Now().Add(turnWait)
	for {
		lock, err := vfs.Default.Lock(path)
		if err == nil {
			return lock, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		retry := time.NewTimer(10 * time.Millisecond)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return nil, ctx.Err()
		}
	}
}

// sweepScratch removes the directories whose lock nobody holds, each before
// its lock, so that none is ever without one.
func sweepScratch(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), lockSuffix)
		if !ok || !strings.HasPrefix(name, scratchPrefix) {
			continue
		}
		path := filepath.Join(parent, name)
		lock, err := vfs.Default.Lock(path + lockSuffix)
		if err != nil {
			continue // in use
		}
		s := scratch{dir: path, lock: lock}
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Close removes the directory and its lock.
func (s *scratch) Close() error {
	err := os.RemoveAll(s.dir)
	if err == nil {
		err = os.Remove(s.dir + lockSuffix)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err := errors.Join(err, s.lock.Close()); err != nil {
		return fmt.Errorf("remove working state: %w", err)
	}
	return nil
}
