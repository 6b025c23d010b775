//go:build unix

package file

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
)

func TestClassify(t *testing.T) {
	for errno, want := range map[syscall.Errno]error{
		syscall.ENOSPC: objectstore.ErrNoSpace,
		syscall.EDQUOT: objectstore.ErrNoSpace,
		syscall.EROFS:  objectstore.ErrPermission,
		syscall.EACCES: objectstore.ErrPermission,
		syscall.EPERM:  objectstore.ErrPermission,
		syscall.ENOENT: objectstore.ErrNotExist,
		syscall.EIO:    syscall.EIO,
	} {
		err := classify(&fs.PathError{Op: "write", Path: "x", Err: errno})
		if !errors.Is(err, want) || !errors.Is(err, errno) {
			t.Errorf("classify(%v) = %v, want %v", errno, err, want)
		}
	}
}

func TestOutcome(t *testing.T) {
	link := func(e syscall.Errno) error { return &os.LinkError{Op: "link", Old: "a", New: "b", Err: e} }
	if err := outcome("link", link(syscall.EIO)); !errors.Is(err, objectstore.ErrUnknownOutcome) {
		t.Errorf("after EIO: %v", err)
	}
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EACCES, syscall.ENOENT, syscall.EXDEV} {
		if err := outcome("link", link(errno)); errors.Is(err, objectstore.ErrUnknownOutcome) || !errors.Is(err, errno) {
			t.Errorf("after %v: %v", errno, err)
		}
	}
}
