package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
)

// session is an open store and the job in it.
type session struct {
	app   *app
	root  objectstore.Store // keys relative to the store URL
	store objectstore.Store // keys relative to the job
	cat   *catalog.Catalog
}

// openStore opens the store that --store names. It creates nothing.
func (a *app) openStore(ctx context.Context) (objectstore.Store, error) {
	if a.storeURL == "" {
		return nil, exit.Usagef("no store given: use --store URL or set CKPT_STORE")
	}
	store, _, err := storeurl.Open(ctx, a.storeURL, false)
	return store, err
}

// open opens the store and the job. Whether the job exists shows with the
// first read. The caller closes the session.
func (a *app) open(ctx context.Context) (*session, error) {
	if a.storeURL != "" && a.job == "" {
		return nil, exit.Usagef("no job given: use --job NAME or set CKPT_JOB")
	}
	if a.job != "" && !manifest.ValidJob(a.job) {
		return nil, exit.Usagef("%q cannot be a job's name: want 1 to 100 of letters, digits and . _ -", a.job)
	}
	root, err := a.openStore(ctx)
	if err != nil {
		return nil, err
	}
	store, err := a.openKeys(objectstore.Prefix(root, a.job))
	if err != nil {
		closeStore(root)
		return nil, err
	}
	return &session{app: a, root: root, store: store, cat: catalog.New(store, a.job)}, nil
}

// openKeys puts the keys of --key-file, if it is given, over the job's store.
func (a *app) openKeys(store objectstore.Store) (objectstore.Store, error) {
	if a.keyFile == "" {
		return store, nil
	}
	keys, exposed, err := seal.LoadKeys(a.keyFile)
	if err != nil {
		return nil, exit.UsageError{Err: err}
	}
	if exposed {
		a.note("warning: others than its owner may read the key file %q", a.keyFile)
	}
	return seal.New(store, keys)
}

func (s *session) close() { closeStore(s.root) }

// closeStore gives back what a store holds open. Reading leaves nothing to
// fail.
func closeStore(s objectstore.Store) {
	if c, ok := s.(io.Closer); ok {
		_ = c.Close()
	}
}

// head reads HEAD of the job.
func (s *session) head(ctx context.Context) (catalog.Head, error) {
	head, err := s.cat.Head(ctx)
	if errors.Is(err, catalog.ErrNotFound) {
		return head, s.noJob(ctx, err)
	}
	return head, err
}

// resolve finds the checkpoint that ref names.
func (s *session) resolve(ctx context.Context, ref string) (catalog.Entry, error) {
	head, err := s.head(ctx)
	if err != nil {
		return catalog.Entry{}, err
	}
	_, entry, err := s.cat.Resolve(ctx, ref)
	if !errors.Is(err, catalog.ErrNotFound) {
		return entry, err
	}
	if len(head.Checkpoints) == 0 {
		return entry, withHint(err, "the job has no checkpoint yet")
	}
	return entry, withHint(err, "there are %s; or say latest", idsText(entryIDs(head.Checkpoints)))
}

func entryIDs(entries []catalog.Entry) []manifest.ID {
	ids := make([]manifest.ID, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
	}
	return ids
}

// maxJobsNamed bounds the names in a hint.
const maxJobsNamed = 10

// noJob adds to err, which says that there is no such job, what the store does
// hold: objects of a job whose HEAD is gone, or other jobs.
func (s *session) noJob(ctx context.Context, err error) error {
	if key, lerr := firstAfter(ctx, s.store, manifest.DataPrefix, ""); lerr == nil && key != "" {
		return withHint(err, "the job's objects are there (%s) but HEAD, which lists its checkpoints, is gone: put its last version back, from a backup or the bucket's versioning",
			s.app.storeKey(key))
	}
	jobs, lerr := jobNames(ctx, s.root, maxJobsNamed)
	switch {
	case lerr != nil:
		return err
	case len(jobs) == 0:
		return withHint(err, "the store is empty: check --store and its prefix")
	}
	return withHint(err, "jobs in this store: %s", strings.Join(jobs, ", "))
}

// jobNames are the first names in a store below which there is a HEAD. It
// lists one object for each.
func jobNames(ctx context.Context, root objectstore.Store, limit int) ([]string, error) {
	var jobs []string
	after := ""
	for len(jobs) < limit {
		key, err := firstAfter(ctx, root, "", after)
		if err != nil || key == "" {
			return jobs, err
		}
		name, _, ok := strings.Cut(key, "/")
		if _, err := root.Stat(ctx, name+"/"+manifest.HeadKey); ok && err == nil {
			jobs = append(jobs, name)
		}
		// "0" follows "/" in byte order: past everything below name.
		after = name + "0"
	}
	return jobs, nil
}

func firstAfter(ctx context.Context, store objectstore.Store, prefix, after string) (string, error) {
	for info, err := range store.List(ctx, prefix, after) {
		return info.Key, err
	}
	return "", nil
}

// refArg accepts exactly one argument, which names a checkpoint.
func refArg(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s: want one REF, a checkpoint's id or latest", cmd.Name())
	}
	return nil
}

// noArgs accepts no argument.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s: unexpected argument %q", cmd.Name(), args[0])
	}
	return nil
}
