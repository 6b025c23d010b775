// Package exit holds the exit codes that our programs share. Scripts rely on
// them. What to tell the user is left to each program.
package exit

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
)

// The codes.
const (
	OK       = 0
	Failure  = 1
	Usage    = 2 // bad flag, bad URL, unknown scheme, keys that do not fit
	Corrupt  = 3 // a named object is missing or damaged
	NotFound = 4 // directory, bucket, job or checkpoint
	Fenced   = 5 // another process took the job over
	Store    = 6 // the store refused or is out of reach
	DiskFull = 7
)

// UsageError is a command line that cannot be executed.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }
func (e UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// LocalError is a failure on this machine's files, outside the store. Its class
// is never that of the store, though both may be fs.ErrPermission.
type LocalError struct{ Err error }

func (e LocalError) Error() string { return e.Err.Error() }
func (e LocalError) Unwrap() error { return e.Err }

// Local makes a LocalError of an error; nil stays nil.
func Local(err error) error {
	if err == nil {
		return nil
	}
	return LocalError{err}
}

// Code is the class of an error. The order counts: whoever was fenced may miss
// objects that its successor retired, a damaged object may be a missing one,
// and a full disk may be the store's or ours.
func Code(err error) int {
	switch {
	case err == nil:
		return OK
	case Is[UsageError](err), errors.Is(err, storeurl.ErrBadURL),
		errors.Is(err, objectstore.ErrKey), errors.Is(err, catalog.ErrEncryption):
		return Usage
	case errors.Is(err, catalog.ErrFenced):
		return Fenced
	case errors.Is(err, objectstore.ErrNoSpace), errors.Is(err, syscall.ENOSPC):
		return DiskFull
	case errors.Is(err, manifest.ErrNewerFormat):
		return Failure
	case errors.Is(err, manifest.ErrCorrupt), errors.Is(err, objectstore.ErrDamaged), errors.Is(err, objectstore.ErrNotEncrypted):
		return Corrupt
	case errors.Is(err, catalog.ErrNotFound), errors.Is(err, objectstore.ErrNoBucket), errors.Is(err, fs.ErrNotExist):
		return NotFound
	case refused(err) && !Is[LocalError](err):
		return Store
	}
	return Failure
}

// Is reports whether an error of type E is in err's tree.
func Is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func refused(err error) bool {
	for _, target := range []error{
		objectstore.ErrUnavailable, objectstore.ErrPermission, objectstore.ErrRefused, objectstore.ErrConditionsIgnored,
		objectstore.ErrUnknownOutcome, objectstore.ErrPrecondition, catalog.ErrUnresolved, seal.ErrNotEffective,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
