package state

import (
	"iter"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
)

// disk is the local file system. Where there are copies of objects that nothing
// depends on, a full disk takes their room before anything fails for it.
func (s *Store) disk() vfs.FS {
	disk := s.opts.fs
	if disk == nil {
		disk = vfs.Default
	}
	if s.opts.Local == nil {
		return disk
	}
	return vfs.OnDiskFull(disk, s.opts.Local.GiveWay)
}

// restorable are the objects that the store begins with.
func (s *Store) restorable() iter.Seq[manifest.Object] {
	if s.opts.Restored == nil {
		return func(func(manifest.Object) bool) {}
	}
	return named(s.opts.Restored, s.opts.Reserved)
}

// named yields all objects that a report keeps alive.
func named(keyed *manifest.KeyedState, reserved []manifest.Object) iter.Seq[manifest.Object] {
	return func(yield func(manifest.Object) bool) {
		for o := range keyed.NeededObjects() {
			if !yield(o) {
				return
			}
		}
		for _, o := range reserved {
			if !yield(o) {
				return
			}
		}
	}
}
