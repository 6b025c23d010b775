package file

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/ckpt-io/ckpt/objectstore"
)

// classify adds what objectstore calls an error of the operating system.
func classify(err error) error {
	is := func(e error) bool { return errors.Is(err, e) }
	switch {
	case slices.ContainsFunc(diskFull, is):
		return fmt.Errorf("%w: %w", objectstore.ErrNoSpace, err)
	case slices.ContainsFunc(readOnly, is):
		return fmt.Errorf("%w: read-only file system: %w", objectstore.ErrPermission, err)
	}
	return err
}

// outcome marks the error of the step that makes an object visible as unknown
// where the system does not say whether the step was done.
func outcome(step string, err error) error {
	if errors.Is(err, syscall.EIO) {
		return fmt.Errorf("%w: %s: %w", objectstore.ErrUnknownOutcome, step, err)
	}
	return fmt.Errorf("%s: %w", step, err)
}
