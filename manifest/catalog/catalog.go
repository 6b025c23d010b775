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
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
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
}

// New returns the catalog of a job over a store that holds the job's objects
// only (objectstore.Prefix(store, job) as a rule). It does no I/O; an invalid
// job name is refused by the methods.
func New(store objectstore.Store, job string) *Catalog {
	return &Catalog{store: store, job: job}
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

// Manifest reads the manifest of a checkpoint that HEAD lists, checks it
// against size and digest there, and that it is this job's. A missing or
// damaged one is a *CorruptError; one of a newer version matches
// manifest.ErrNewerFormat; one that is encrypted where the store is not, or the
// other way round, ErrEncryption, with an *objectstore.KeyError if it takes
// keys that the store has not.
func (c *Catalog) Manifest(ctx context.Context, e Entry) (*manifest.Manifest, error) {
	key := e.ManifestKey()
	if err := c.checkEntryKeys(e); err != nil {
		return nil, fmt.Errorf("read manifest of checkpoint %d: %w", e.ID, err)
	}
	m, err := c.readManifest(ctx, key, e)
	switch {
	case err == nil:
		return m, nil
	case errors.Is(err, manifest.ErrCorrupt), errors.Is(err, objectstore.ErrNotExist),
		errors.Is(err, objectstore.ErrDamaged), errors.Is(err, objectstore.ErrNotEncrypted):
		return nil, fmt.Errorf("read manifest: %w", &CorruptError{Key: key, Err: err})
	default:
		return nil, fmt.Errorf("read manifest %q: %w", key, err)
	}
}

func (c *Catalog) readManifest(ctx context.Context, key string, e Entry) (*manifest.Manifest, error) {
	data, _, err := objectstore.ReadAll(ctx, c.store, key, e.ManifestSize)
	if errors.Is(err, objectstore.ErrTooLarge) {
		return nil, fmt.Errorf("%w: %w", manifest.ErrCorrupt, err)
	}
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != e.ManifestSize {
		return nil, fmt.Errorf("%w: %d bytes, HEAD says %d", manifest.ErrCorrupt, len(data), e.ManifestSize)
	}
	if sum := manifest.Digest(sha256.Sum256(data)); sum != e.ManifestSHA256 {
		return nil, fmt.Errorf("%w: digest is %s, HEAD says %s", manifest.ErrCorrupt, sum, e.ManifestSHA256)
	}
	m, err := manifest.Decode(data)
	if err != nil {
		return nil, err
	}
	if m.Job != c.job || m.ID != e.ID || m.Epoch != e.Epoch {
		return nil, fmt.Errorf("%w: it is checkpoint %d of epoch %d of job %q", manifest.ErrCorrupt, m.ID, m.Epoch, m.Job)
	}
	if uuid := c.uuid.Load(); uuid != nil && m.JobUUID != *uuid {
		return nil, fmt.Errorf("%w: it is of another job of the same name (uuid %s, not %s)", manifest.ErrCorrupt, m.JobUUID, *uuid)
	}
	return m, nil
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
