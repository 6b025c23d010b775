package catalog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// Manifest reads the manifest of a checkpoint that HEAD lists with all its
// tasks, checks it against size and digest there, and that it is this job's. A
// missing or damaged one, or pack of parts, is a *CorruptError; one of a newer
// version matches manifest.ErrNewerFormat; one that is encrypted where the store
// is not, or the other way round, ErrEncryption, with an *objectstore.KeyError
// if it takes keys that the store has not.
func (c *Catalog) Manifest(ctx context.Context, e Entry) (*manifest.Manifest, error) {
	o, err := c.Outline(ctx, e)
	if err != nil {
		return nil, err
	}
	m, err := o.Whole(Packs(ctx, c.store))
	if err != nil {
		return nil, fmt.Errorf("read manifest %q: %w", e.ManifestKey(), err)
	}
	return m, nil
}

// Outline reads the manifest of a checkpoint as Manifest does, but for the
// tasks in packs, which Tasks reads: for those who need not have all of them
// in memory.
func (c *Catalog) Outline(ctx context.Context, e Entry) (*manifest.Outline, error) {
	key := e.ManifestKey()
	if err := c.checkEntryKeys(e); err != nil {
		return nil, fmt.Errorf("read manifest of checkpoint %d: %w", e.ID, err)
	}
	o, err := c.readOutline(ctx, key, e)
	switch {
	case err == nil:
		return o, nil
	case errors.Is(err, manifest.ErrCorrupt), unusable(err):
		return nil, fmt.Errorf("read manifest: %w", &CorruptError{Key: key, Err: err})
	default:
		return nil, fmt.Errorf("read manifest %q: %w", key, err)
	}
}

// Tasks yields the tasks of a manifest one at a time, as [manifest.Outline.Tasks]
// does. Errors are those of Manifest.
func (c *Catalog) Tasks(ctx context.Context, o *manifest.Outline) iter.Seq2[manifest.At, error] {
	return o.Tasks(Packs(ctx, c.store))
}

// Task reads one task of a manifest: of its pack, only the part. It is nil if
// there is no such task. Errors are those of Manifest.
func (c *Catalog) Task(ctx context.Context, o *manifest.Outline, operator string, subtask int) (*manifest.Task, error) {
	return o.Task(operator, subtask, func(pack manifest.Object, offset, size int64) ([]byte, error) {
		data, err := c.readRange(ctx, pack, offset, size)
		switch {
		case errors.Is(err, objectstore.ErrNotExist), errors.Is(err, manifest.ErrCorrupt):
			return nil, fmt.Errorf("read task part: %w", &CorruptError{Key: pack.Key, Err: err})
		case err != nil:
			return nil, fmt.Errorf("read task part of %q: %w", pack.Key, err)
		}
		return data, nil
	})
}

func (c *Catalog) readRange(ctx context.Context, pack manifest.Object, offset, size int64) ([]byte, error) {
	r, info, err := c.store.Get(ctx, pack.Key, offset, size)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if info.Size != pack.Size {
		return nil, fmt.Errorf("%w: has %d bytes, want %d", manifest.ErrCorrupt, info.Size, pack.Size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("%w: %w", objectstore.ErrUnavailable, err)
	}
	return data, nil
}

// Packs reads packs of parts from the store of a job, for an Outline. One that
// is missing or larger than it should be is a *CorruptError.
func Packs(ctx context.Context, store objectstore.Store) func(manifest.Object) ([]byte, error) {
	return func(o manifest.Object) ([]byte, error) {
		data, _, err := objectstore.ReadAll(ctx, store, o.Key, o.Size)
		switch {
		case errors.Is(err, objectstore.ErrTooLarge), unusable(err):
			return nil, fmt.Errorf("read task parts: %w", &CorruptError{Key: o.Key, Err: err})
		case err != nil:
			return nil, fmt.Errorf("read task parts %q: %w", o.Key, err)
		}
		return data, nil
	}
}

// unusable says that an object is missing, or not what was encrypted.
func unusable(err error) bool {
	return errors.Is(err, objectstore.ErrNotExist) || errors.Is(err, objectstore.ErrDamaged) || errors.Is(err, objectstore.ErrNotEncrypted)
}

func (c *Catalog) readOutline(ctx context.Context, key string, e Entry) (*manifest.Outline, error) {
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
	o, err := manifest.DecodeOutline(data)
	if err != nil {
		return nil, err
	}
	m := o.Head()
	if m.Job != c.job || m.ID != e.ID || m.Epoch != e.Epoch {
		return nil, fmt.Errorf("%w: it is checkpoint %d of epoch %d of job %q", manifest.ErrCorrupt, m.ID, m.Epoch, m.Job)
	}
	if uuid := c.uuid.Load(); uuid != nil && m.JobUUID != *uuid {
		return nil, fmt.Errorf("%w: it is of another job of the same name (uuid %s, not %s)", manifest.ErrCorrupt, m.JobUUID, *uuid)
	}
	c.remember(key, o)
	return o, nil
}

// remember keeps what the next commit may refer to: the outline of a manifest
// with packs, or that it has none.
func (c *Catalog) remember(key string, o *manifest.Outline) {
	if o != nil && len(o.Packs()) == 0 {
		o = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outlines[key] = o
}

// Known is the outline of a manifest with packs that this catalog has read or
// written before, while it is listed; nil for others. It does no I/O.
func (c *Catalog) Known(e Entry) *manifest.Outline {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outlines[e.ManifestKey()]
}

// base is the outline of the checkpoint that one to be committed builds on; nil
// if there is none, or no packs in it. It is read unless this catalog has read
// or written it before. What cannot be read is as if it were not there: then
// all parts are written again.
func (c *Catalog) base(ctx context.Context, head Head, id manifest.ID) *manifest.Outline {
	e, ok := head.Find(id)
	if !ok {
		return nil
	}
	c.mu.Lock()
	o, ok := c.outlines[e.ManifestKey()]
	c.mu.Unlock()
	if !ok {
		o, _ = c.Outline(ctx, e)
	}
	if o == nil || len(o.Packs()) == 0 {
		return nil
	}
	return o
}

// forget drops the outlines of checkpoints that HEAD does not list.
func (c *Catalog) forget(head Head) {
	listed := make(map[string]bool, len(head.Checkpoints))
	for _, e := range head.Checkpoints {
		listed[e.ManifestKey()] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.outlines {
		if !listed[key] {
			delete(c.outlines, key)
		}
	}
}
