package catalog

import (
	"errors"

	"github.com/ckpt-io/ckpt/manifest"
)

var (
	// ErrNotFound is a job without HEAD, or a checkpoint that HEAD does not
	// list.
	ErrNotFound = errors.New("not found")
	// ErrFenced says that another owner took over, or that HEAD is no longer
	// the one this owner wrote. Its holder stops; it says nothing about
	// whether a checkpoint that was being committed counts.
	ErrFenced = errors.New("fenced: another process has taken over the job")
	// ErrUnresolved is a write of HEAD whose outcome was still unknown when
	// the context ended: it may have happened, or may yet. Nothing may be
	// deleted or reported as failed on the ground of it.
	ErrUnresolved = errors.New("outcome of the HEAD swap is unknown")
	// ErrForeignObject is an object under a name that only this owner writes,
	// with other content. It is never overwritten.
	ErrForeignObject = errors.New("name is taken by an object of somebody else")
	// ErrBaseGone refuses a checkpoint whose base is no longer listed, for the
	// objects it shares with that base may be deleted.
	ErrBaseGone = errors.New("base checkpoint is no longer listed")
	// ErrNewest refuses to unlink the newest checkpoint.
	ErrNewest = errors.New("the newest checkpoint is never unlinked")
	// ErrHeadLost is a job that has objects but no HEAD. It is never started
	// anew over them.
	ErrHeadLost = errors.New("job has objects but its HEAD is missing")
	// ErrEncryption refuses a job that is encrypted where the store is not, or
	// the other way round: the objects of one job are all the one or the other.
	ErrEncryption = errors.New("encryption of the job and of the store differ")
	// ErrPinLost is a pin that was not renewed in time: what it guarded may
	// be deleted.
	ErrPinLost = errors.New("pin was lost")
)

// CorruptError names the damaged or missing object. It matches
// [manifest.ErrCorrupt].
type CorruptError = manifest.CorruptError
