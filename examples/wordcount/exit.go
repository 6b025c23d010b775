package main

import (
	"errors"
	"io/fs"
	"net"
	"syscall"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/file"
	"github.com/ckpt-io/ckpt/examples/wordcount/job"
	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// isLocal tells failures of the input and the output, whose tasks do not touch
// the store, and of other local files from those of the store.
func isLocal(err error) bool {
	t, ok := errors.AsType[*engine.TaskError](err)
	return exit.Is[exit.LocalError](err) || ok && (t.Operator == job.Lines || t.Operator == job.Output)
}

// exitCode is the class of an error.
func exitCode(err error) int {
	switch {
	case exit.Is[*engine.IncompatibleError](err), errors.Is(err, engine.ErrOutputBeyond):
		return exit.Usage
	case isLocal(err):
		err = exit.Local(err)
	}
	return exit.Code(err)
}

// isHead tells a job whose HEAD, and with it every checkpoint, is lost.
func isHead(err error) bool {
	c, ok := errors.AsType[*manifest.CorruptError](err)
	return ok && c.Key == manifest.HeadKey || errors.Is(err, catalog.ErrHeadLost)
}

// hint says what to do next about an error, or nothing.
func hint(err error) string {
	switch {
	case exit.Is[*engine.IncompatibleError](err):
		return "start it as it was started before, or use another --job"
	case errors.Is(err, objectstore.ErrKey):
		return "give the file that holds the keys named: --key-file FILE"
	case errors.Is(err, catalog.ErrEncryption):
		return "the job's checkpoints are not encrypted: leave out --key-file, or use another --job"
	case exit.Is[exit.UsageError](err):
		return "see wordcount --help"
	case errors.Is(err, engine.ErrOutputBeyond):
		return "start without --from: output of a later checkpoint would be written again"
	case errors.Is(err, engine.ErrFenced):
		return "a newer process runs the job; nothing is to be done here"
	case errors.Is(err, objectstore.ErrNoSpace), errors.Is(err, syscall.ENOSPC):
		return "free some space and start it again: it goes on from its newest checkpoint"
	case errors.Is(err, manifest.ErrNewerFormat):
		return "nothing was changed; use a newer version"
	case isHead(err):
		return "put the last version of HEAD back, from a backup or the bucket's versioning"
	case errors.Is(err, manifest.ErrCorrupt):
		return "ckpt verify all names every damaged object and the checkpoints it touches"
	case errors.Is(err, objectstore.ErrConditionsIgnored):
		return "two processes could both commit on this store; if only one ever runs, say unsafe-single-writer=true in the store URL"
	case errors.Is(err, file.ErrChanged):
		return "put the input back as it was when the job began, or begin anew with --fresh and an empty --output"
	case errors.Is(err, objectstore.ErrNoBucket):
		return "check --store: the bucket must exist"
	case isLocal(err) && errors.Is(err, fs.ErrPermission):
		return "this user may not read --input, or not write to --output or --state-dir"
	case isLocal(err) && errors.Is(err, fs.ErrNotExist):
		return "check --input"
	case isLocal(err) && exit.Is[*net.OpError](err):
		return "check that the peer at --input listens, then start it again"
	case errors.Is(err, objectstore.ErrPermission):
		return "the credentials may not do this on the store; docs/security.md lists what each part needs"
	case errors.Is(err, catalog.ErrNotFound):
		return "ckpt list shows the checkpoints"
	case errors.Is(err, objectstore.ErrUnavailable):
		return "check the endpoint in --store and the network, then start it again"
	}
	return ""
}
