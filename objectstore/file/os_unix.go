//go:build unix && !solaris && !aix

package file

import (
	"errors"
	"os"
	"syscall"
)

var (
	diskFull = []error{syscall.ENOSPC, syscall.EDQUOT}
	readOnly = []error{syscall.EROFS}
)

// tryLock takes the lock on an open file unless another open file has it.
func tryLock(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}

// syncDir makes the names in a directory durable.
func syncDir(open func() (*os.File, error)) error {
	d, err := open()
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
