package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
	"github.com/ckpt-io/ckpt/retention"
)

// Exit codes. Scripts rely on them.
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitCorrupt  = 3
	exitNotFound = 4
	exitFenced   = 5
	exitStore    = 6
	exitDiskFull = 7
)

// usageError is a command line that cannot be executed.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// workerError is the failure of a worker process of the demo, which has told
// why. Its class is the worker's.
type workerError struct {
	error
	code int
}

func (e workerError) Unwrap() error { return e.error }

// localError is a failure on this machine's files. Its class is never that of
// the store, though both may be fs.ErrPermission.
type localError struct{ error }

func (e localError) Unwrap() error { return e.error }

// hintError says what to do next about an error.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }

func withHint(err error, format string, args ...any) error {
	return hintError{err, fmt.Sprintf(format, args...)}
}

// exitCode is the class of an error. A damaged object may be a missing one,
// and a full disk may be the store's or ours, so the order counts.
func exitCode(err error) int {
	if worker, ok := errors.AsType[workerError](err); ok {
		return worker.code
	}
	switch {
	case err == nil:
		return exitOK
	case isA[usageError](err), errors.Is(err, storeurl.ErrBadURL):
		return exitUsage
	case errors.Is(err, objectstore.ErrNoSpace), errors.Is(err, syscall.ENOSPC):
		return exitDiskFull
	case errors.Is(err, manifest.ErrNewerFormat), isA[localError](err):
		return exitFailure
	case errors.Is(err, manifest.ErrCorrupt):
		return exitCorrupt
	case errors.Is(err, catalog.ErrFenced):
		return exitFenced
	case errors.Is(err, catalog.ErrNotFound), errors.Is(err, objectstore.ErrNoBucket), errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	case isRefusal(err):
		return exitStore
	}
	return exitFailure
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func isRefusal(err error) bool {
	for _, target := range []error{
		objectstore.ErrUnavailable, objectstore.ErrPermission, objectstore.ErrRefused, objectstore.ErrConditionsIgnored,
		objectstore.ErrUnknownOutcome, objectstore.ErrPrecondition, catalog.ErrUnresolved,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// explain tells the user what went wrong and what to do next.
func (a *app) explain(ctx context.Context, err error) {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		a.note("ckpt: interrupted")
		return
	}
	a.note("ckpt: %v", err)
	if hint := hintOf(err); hint != "" {
		a.note("hint: %s", hint)
	}
}

func hintOf(err error) string {
	if h, ok := errors.AsType[hintError](err); ok {
		return h.hint
	}
	switch {
	case errors.Is(err, storeurl.ErrBadURL):
		return "store URLs look like file:///abs/dir or s3://bucket/prefix?region=us-east-1"
	case errors.Is(err, manifest.ErrNewerFormat):
		return "nothing was changed; use a newer ckpt"
	case isA[usageError](err):
		return "see ckpt --help, and --help of the command"
	case errors.Is(err, objectstore.ErrNoSpace), errors.Is(err, syscall.ENOSPC):
		return "free some space and run the command again; nothing half-written was left"
	case errors.Is(err, objectstore.ErrNoBucket):
		return "check --store: the bucket or directory must exist; a job makes it, ckpt does not"
	case corruptKey(err) == manifest.HeadKey:
		return "HEAD lists the checkpoints, so all of them are touched: put its last version back, from a backup or the bucket's versioning"
	case errors.Is(err, manifest.ErrCorrupt):
		return "ckpt verify all names every damaged object and the checkpoints it touches"
	case errors.Is(err, retention.ErrBadPlan):
		return "ckpt gc --plan FILE writes a plan"
	case isA[localError](err) && errors.Is(err, fs.ErrPermission):
		return "this user may not read or write there: name another place, or change its rights"
	case errors.Is(err, objectstore.ErrConditionsIgnored):
		return "two processes could both commit on this store; if only one ever runs, say unsafe-single-writer=true in the store URL"
	case errors.Is(err, objectstore.ErrPermission):
		return "the credentials may not do this on the store; docs/security.md lists what each command needs"
	case errors.Is(err, objectstore.ErrUnavailable):
		return "check the endpoint in --store and the network, then run the command again"
	}
	return ""
}
