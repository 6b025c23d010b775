package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// Owner is the right to commit checkpoints of a job, until somebody else takes
// it over. Its methods may be called concurrently; swaps run one at a time.
type Owner struct {
	catalog *Catalog
	uuid    string
	epoch   manifest.Epoch
	nonce   string

	turn chan struct{} // holds one token while a swap runs

	mu     sync.Mutex
	cur    snapshot
	fenced bool
}

func newOwner(c *Catalog, s snapshot) *Owner {
	return &Owner{
		catalog: c, uuid: s.head.UUID, epoch: s.head.Epoch, nonce: s.head.Owner,
		turn: make(chan struct{}, 1), cur: s,
	}
}

// Epoch is the owner's epoch.
func (o *Owner) Epoch() manifest.Epoch { return o.epoch }

// Head is HEAD as this owner knows it, without I/O: as it was after the last
// takeover, commit or unlink. The caller may change it.
func (o *Owner) Head() Head {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cur.head.clone()
}

// Commit makes a checkpoint exist: it writes the manifest, then swaps HEAD to
// one that lists it, with next_id above it and without the checkpoints that
// retire names. retire (it may be nil) sees HEAD with the new entry, may run
// several times and must not have effects. All objects that the manifest names
// are durable before the call. An empty m.JobUUID is filled in, and m.KeyIDs.
//
// Commit blocks until the outcome is known or ctx ends; after nil the
// checkpoint counts, whatever happens then. Errors: ErrFenced; ErrBaseGone,
// ErrForeignObject or another error that says that the checkpoint does not
// count and never will under this call; ErrUnresolved if ctx ended while that
// was open. A manifest that was committed already is no error.
func (o *Owner) Commit(ctx context.Context, m *manifest.Manifest, retire func(Head) []manifest.ID) (Entry, error) {
	entry, err := o.commit(ctx, m, retire)
	if err != nil {
		return Entry{}, fmt.Errorf("commit checkpoint %d: %w", m.ID, err)
	}
	return entry, nil
}

func (o *Owner) commit(ctx context.Context, m *manifest.Manifest, retire func(Head) []manifest.ID) (Entry, error) {
	if m.JobUUID == "" {
		m.JobUUID = o.uuid
	}
	if m.Job != o.catalog.job || m.JobUUID != o.uuid || m.Epoch != o.epoch {
		return Entry{}, fmt.Errorf("manifest is of job %q (%s), epoch %d, the owner of %q (%s), epoch %d",
			m.Job, m.JobUUID, m.Epoch, o.catalog.job, o.uuid, o.epoch)
	}
	head := o.Head()
	m.KeyIDs = head.keyIDs(m)
	data, err := manifest.Encode(m)
	if err != nil {
		return Entry{}, err
	}
	entry := newEntry(m, data)
	err = o.exclusively(ctx, func(cur snapshot) (snapshot, error) {
		// Nothing is written for a checkpoint that cannot be committed, or is.
		switch _, err := o.add(cur, m, entry, retire); {
		case errors.Is(err, errUnchanged):
			return cur, nil
		case err != nil:
			return cur, err
		}
		if err := o.catalog.putManifest(ctx, entry.ManifestKey(), data); err != nil {
			return cur, err
		}
		return o.catalog.swap(ctx, cur, func(cur snapshot) (Head, error) {
			return o.add(cur, m, entry, retire)
		})
	})
	return entry, err
}

func newEntry(m *manifest.Manifest, data []byte) Entry {
	return Entry{
		ID: m.ID, Epoch: m.Epoch, Kind: m.Kind, Time: m.Time.UTC().Round(0),
		ManifestSize: int64(len(data)), ManifestSHA256: sha256.Sum256(data),
		TMax: m.Stats.TMax, Duration: m.Stats.Duration,
		NewBytes: m.Stats.NewBytes, FullBytes: m.Stats.FullBytes, Objects: m.Stats.Objects,
		KeyIDs: m.KeyIDs,
	}
}

// add is the edit of a commit.
func (o *Owner) add(cur snapshot, m *manifest.Manifest, entry Entry, retire func(Head) []manifest.ID) (Head, error) {
	if err := o.owns(cur); err != nil {
		return Head{}, err
	}
	if e, ok := cur.head.Find(m.ID); ok && e.ManifestSHA256 == entry.ManifestSHA256 {
		return Head{}, errUnchanged
	}
	if m.ID < cur.head.NextID {
		return Head{}, fmt.Errorf("id is not above those committed: next is %d", cur.head.NextID)
	}
	if m.Base != 0 {
		if _, ok := cur.head.Find(m.Base); !ok {
			return Head{}, fmt.Errorf("%w: %d", ErrBaseGone, m.Base)
		}
	}
	next := cur.head.clone()
	next.NextID = m.ID + 1
	next.Checkpoints = append(next.Checkpoints, entry)
	if retire == nil {
		return next, nil
	}
	return without(next, retire(next.clone()))
}

// without drops checkpoints from HEAD. Ids that are not listed are ignored.
func without(h Head, ids []manifest.ID) (Head, error) {
	if newest, ok := h.Newest(); ok && slices.Contains(ids, newest.ID) {
		return Head{}, fmt.Errorf("%w: %d", ErrNewest, newest.ID)
	}
	h.Checkpoints = slices.DeleteFunc(h.Checkpoints, func(e Entry) bool { return slices.Contains(ids, e.ID) })
	h.dropKeys()
	return h, nil
}

// Unlink drops checkpoints from HEAD; ids that are not listed are ignored, the
// newest checkpoint is refused with ErrNewest. Only after nil may their objects
// be deleted. Errors are those of Commit.
func (o *Owner) Unlink(ctx context.Context, ids ...manifest.ID) error {
	err := o.exclusively(ctx, func(cur snapshot) (snapshot, error) {
		return o.catalog.swap(ctx, cur, func(cur snapshot) (Head, error) {
			if err := o.owns(cur); err != nil {
				return Head{}, err
			}
			return unlinked(cur.head, ids)
		})
	})
	if err != nil {
		return fmt.Errorf("unlink checkpoints: %w", err)
	}
	return nil
}

// owns fails if a HEAD is not one over which this owner may write.
func (o *Owner) owns(s snapshot) error {
	if !s.exists {
		return &CorruptError{Key: manifest.HeadKey, Err: fs.ErrNotExist}
	}
	if s.head.UUID != o.uuid || s.head.Epoch != o.epoch || s.head.Owner != o.nonce {
		return fmt.Errorf("%w: epoch %d, ours is %d", ErrFenced, s.head.Epoch, o.epoch)
	}
	return nil
}

// exclusively runs one change of HEAD and keeps what it left behind.
func (o *Owner) exclusively(ctx context.Context, change func(snapshot) (snapshot, error)) error {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	o.mu.Lock()
	cur, fenced := o.cur, o.fenced
	o.mu.Unlock()
	if fenced {
		return ErrFenced
	}
	if cur.etag == "" { // the store's last answer had none
		seen, err := o.catalog.loadPatiently(ctx)
		if err != nil {
			return err
		}
		cur = seen
	}
	cur, err := change(cur)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fenced = errors.Is(err, ErrFenced)
	if err == nil {
		o.cur = cur
	}
	return err
}

// putManifest writes a manifest under its name, which only this owner uses. A
// lost answer is settled by reading back. Giving up is safe at any point: a
// manifest that HEAD does not list is garbage.
func (c *Catalog) putManifest(ctx context.Context, key string, data []byte) error {
	var pace backoff
	for {
		_, err := c.store.Put(ctx, key, objectstore.Bytes(data), objectstore.PutOptions{IfAbsent: true})
		if err == nil {
			return nil
		}
		if !retryable(err) && !outcomeUnknown(err) {
			return fmt.Errorf("write manifest: %w", err)
		}
		there, _, readErr := objectstore.ReadAll(ctx, c.store, key, int64(len(data)))
		switch {
		case readErr == nil && bytes.Equal(there, data):
			return nil
		case readErr == nil, errors.Is(readErr, objectstore.ErrTooLarge):
			return fmt.Errorf("write manifest %q: %w", key, ErrForeignObject)
		case pace.exhausted():
			return fmt.Errorf("write manifest: %w", err)
		}
		if err := pace.wait(ctx); err != nil {
			return fmt.Errorf("write manifest: %w", err)
		}
	}
}
