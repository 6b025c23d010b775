package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
	"github.com/ckpt-io/ckpt/retention"
)

// workerError is the failure of a worker process of the demo, which has told
// why. Its class is the worker's.
type workerError struct {
	error
	code int
}

func (e workerError) Unwrap() error { return e.error }

// hintError says what to do next about an error.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }

func withHint(err error, format string, args ...any) error {
	return hintError{err, fmt.Sprintf(format, args...)}
}

// exitCode is the class of an error.
func exitCode(err error) int {
	if worker, ok := errors.AsType[workerError](err); ok {
		return worker.code
	}
	return exit.Code(err)
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
	case errors.Is(err, seal.ErrBadKeys):
		return "age-keygen -o FILE makes a key file; docs/security.md says more"
	case errors.Is(err, objectstore.ErrKey):
		return "give the file that holds the keys named: --key-file FILE, or set CKPT_KEY_FILE"
	case errors.Is(err, catalog.ErrEncryption):
		return "the job is not encrypted: leave out --key-file, and unset CKPT_KEY_FILE"
	case exit.Is[exit.UsageError](err):
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
	case exit.Is[exit.LocalError](err) && errors.Is(err, fs.ErrPermission):
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
