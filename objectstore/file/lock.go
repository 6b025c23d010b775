package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
)

const (
	lockName = "lock"
	// lockWait bounds the wait for another process. The lock is held for two
	// system calls; who holds it longer is frozen.
	lockWait = 30 * time.Second
)

// lock makes a check and a rename one step. Between processes it is a lock of
// the operating system on <root>/.tmp/lock, which dies with its process.
type lock struct {
	turn chan struct{} // full while somebody of this process has the lock
}

func newLock() lock { return lock{turn: make(chan struct{}, 1)} }

func (l lock) acquire(ctx context.Context, root *os.Root) (unlock func(), err error) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() {
		if err != nil {
			<-l.turn
		}
	}()
	f, err := root.OpenFile(filepath.Join(tmpDir, lockName), os.O_CREATE|os.O_RDWR, 0o666)
	if errors.Is(err, fs.ErrNotExist) {
		if err = root.Mkdir(tmpDir, 0o777); err == nil || errors.Is(err, fs.ErrExist) {
			f, err = root.OpenFile(filepath.Join(tmpDir, lockName), os.O_CREATE|os.O_RDWR, 0o666)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := waitLock(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		f.Close() // gives up the lock
		<-l.turn
	}, nil
}

// waitLock polls, for a blocked system call would not end with the context.
func waitLock(ctx context.Context, f *os.File) error {
	deadline := time.Now().Add(lockWait)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		locked, err := tryLock(f)
		if err != nil {
			return fmt.Errorf("lock %q: %w", f.Name(), err)
		}
		if locked {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: another process has held %q for %v", objectstore.ErrUnavailable, f.Name(), lockWait)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
