// Package catalog keeps a job's HEAD, the one object that says which
// checkpoints exist and who owns the job, and is the only place that commits
// a checkpoint. Which checkpoints to keep, and deleting what they held, is
// left to package retention.
//
// All changes of HEAD are swaps: one conditional write of the whole object
// that succeeds only over the HEAD it was made from. Every swap carries a
// nonce of its own, by which its writer recognises it when the answer of the
// store was lost.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// Catalog reads and changes the HEAD of one job. Its methods may be called
// concurrently, by any number of processes.
type Catalog struct {
	store objectstore.Store
	job   string
	uuid  atomic.Pointer[string] // of the HEAD seen last

	mu       sync.Mutex
	outlines map[string]*manifest.Outline // read or written here, by key
}

// New returns the catalog of a job over a store that holds the job's objects
// only (objectstore.Prefix(store, job) as a rule). It does no I/O; an invalid
// job name is refused by the methods.
func New(store objectstore.Store, job string) *Catalog {
	return &Catalog{store: store, job: job, outlines: make(map[string]*manifest.Outline)}
}

// Head reads HEAD. It fails with ErrNotFound if the job has none, and with
// errors that match manifest.ErrCorrupt or manifest.ErrNewerFormat.
func (c *Catalog) Head(ctx context.Context) (Head, error) {
	s, err := c.load(ctx)
	if err != nil {
		return Head{}, err
	}
	if !s.exists {
		return Head{}, fmt.Errorf("read HEAD of job %q: %w", c.job, ErrNotFound)
	}
	return s.head, nil
}

// Resolve finds the checkpoint that ref names: "latest", or an id in decimal,
// leading zeros or not. It fails with ErrNotFound if HEAD does not list it.
func (c *Catalog) Resolve(ctx context.Context, ref string) (Head, Entry, error) {
	h, err := c.Head(ctx)
	if err != nil {
		return Head{}, Entry{}, err
	}
	if ref == "latest" {
		if e, ok := h.Newest(); ok {
			return h, e, nil
		}
		return h, Entry{}, fmt.Errorf("job %q has no checkpoint yet: %w", c.job, ErrNotFound)
	}
	if strings.TrimLeft(ref, "0123456789") == "" {
		if id, err := strconv.ParseUint(ref, 10, 64); err == nil {
			if e, ok := h.Find(manifest.ID(id)); ok {
				return h, e, nil
			}
		}
	}
	return h, Entry{}, fmt.Errorf("checkpoint %q of job %q: %w", ref, c.job, ErrNotFound)
}

// snapshot is HEAD as it was read or written, with the ETag that a swap over
// it names.
type snapshot struct {
	exists bool
	head   Head
	etag   string
}

func (c *Catalog) load(ctx context.Context) (snapshot, error) {
	if !manifest.ValidJob(c.job) {
		return snapshot{}, fmt.Errorf("invalid job name %q", c.job)
	}
	data, info, err := objectstore.ReadAll(ctx, c.store, manifest.HeadKey, maxHead)
	switch {
	case errors.Is(err, objectstore.ErrNotExist):
		return snapshot{}, nil
	case errors.Is(err, objectstore.ErrTooLarge):
		return snapshot{}, fmt.Errorf("read HEAD: %w", &CorruptError{Key: manifest.HeadKey, Err: err})
	case err != nil:
		return snapshot{}, fmt.Errorf("read HEAD: %w", err)
	case info.ETag == "":
		// A swap without an ETag would be an unconditional write.
		return snapshot{}, errors.New("read HEAD: the store gave no ETag")
	}
	h, err := decodeHead(data, c.job)
	if errors.Is(err, manifest.ErrNewerFormat) {
		return snapshot{}, fmt.Errorf("read HEAD: %w", err)
	}
	if err != nil {
		return snapshot{}, fmt.Errorf("read HEAD: %w", &CorruptError{Key: manifest.HeadKey, Err: err})
	}
	return c.seen(h, info.ETag), nil
}

// seen is the snapshot of a HEAD that is known to be in place.
func (c *Catalog) seen(h Head, etag string) snapshot {
	uuid := h.UUID
	c.uuid.Store(&uuid)
	return snapshot{exists: true, head: h, etag: etag}
}
