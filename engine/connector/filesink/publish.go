package filesink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// publish renames a prepared file to its part. It may have been done before,
// or be done by another process at the same time: prepared names are unique
// over all epochs, so that whoever finds the prepared file gone and a part of
// its size in place knows it was moved there.
func publish(root *os.Root, h handle) error {
	prepared := filepath.Join(pendingDir, h.Pending)
	there, err := partExists(root, h)
	if err != nil {
		return err
	}
	if there {
		if _, err := root.Stat(prepared); err == nil {
			return ErrConflict // a rename leaves one of the two
		}
		return nil
	}
	err = root.Rename(prepared, h.Part)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if there, err := partExists(root, h); err != nil || there {
		return err
	}
	return fmt.Errorf("neither it nor %s exists: %w", prepared, ErrLost)
}

func partExists(root *os.Root, h handle) (bool, error) {
	info, err := root.Lstat(h.Part)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() || info.Size() != h.Bytes {
		return false, fmt.Errorf("it has %d bytes instead of %d: %w", info.Size(), h.Bytes, ErrConflict)
	}
	return true, nil
}

// syncDir makes the names in a directory durable.
func syncDir(root *os.Root, path string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := root.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
