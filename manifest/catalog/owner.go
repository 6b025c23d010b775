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
	parts   manifest.PartsOptions

	turn chan struct{} // holds one token while a swap runs

	mu     sync.Mutex
	cur    snapshot
	fenced bool
}

func newOwner(c *Catalog, s snapshot, parts manifest.PartsOptions) *Owner {
	return &Owner{
		catalog: c, parts: parts, uuid: s.head.UUID, epoch: s.head.Epoch, nonce: s.head.Owner,
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

// Commit makes a checkpoint exist: it writes the manifest, in a large job after
// packs of those tasks that are not as they were in the base, then swaps HEAD to
// one that lists it, with next_id above it and without the checkpoints that
// retire names. retire (it may be nil) sees HEAD with the new entry, may run
// several times and must not have effects. All objects that the manifest names
// are durable before the call. An empty m.JobUUID is filled in, and m.Packs and
// m.KeyIDs.
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
	var entry Entry
	err := o.exclusively(ctx, func(cur snapshot) (snapshot, error) {
		// Nothing is written for a checkpoint that cannot be committed.
		if err := o.admit(cur, m); err != nil {
			return cur, err
		}
		data, outline, err := o.encode(ctx, cur, m)
		if err != nil {
			return cur, err
		}
		entry = newEntry(m, data)
		switch _, err := o.add(cur, m, entry, retire); {
		case errors.Is(err, errUnchanged):
			return cur, nil
		case err != nil:
			return cur, err
		}
		if err := o.catalog.putOnce(ctx, entry.ManifestKey(), data); err != nil {
			return cur, fmt.Errorf("write manifest: %w", err)
		}
		next, err := o.catalog.swap(ctx, cur, func(cur snapshot) (Head, error) {
			return o.add(cur, m, entry, retire)
		})
		if err == nil {
			o.catalog.remember(entry.ManifestKey(), outline)
			o.catalog.forget(next.head)
		}
		return next, err
	})
	return entry, err
}

// encode makes the stored form of a manifest, and stores the packs that it
// refers to besides those of its base. The base is listed when HEAD is swapped,
// or it is not: so its packs are there for as long as it takes.
func (o *Owner) encode(ctx context.Context, cur snapshot, m *manifest.Manifest) ([]byte, *manifest.Outline, error) {
	var n uint64
	put := func(pack []byte) (manifest.Object, error) {
		object, next, err := o.putPack(ctx, m.ID, n, pack)
		n = next
		return object, err
	}
	listed, again := cur.head.Find(m.ID)
	id := m.Base
	if again {
		id = m.ID // built on itself, a manifest comes out as it is
	}
	base := o.catalog.base(ctx, cur.head, id)
	if m.KeyIDs = listed.KeyIDs; !again {
		m.KeyIDs = cur.head.keyIDs(m, base)
	}
	data, outline, err := manifest.EncodePacked(m, base, o.parts, put)
	if err != nil {
		return nil, nil, err
	}
	m.Packs = nil
	if outline != nil {
		m.Packs = outline.Packs()
	}
	return data, outline, nil
}

// maxTaken bounds how many names of packs may be taken by earlier attempts to
// commit the same checkpoint.
const maxTaken = 100

// putPack stores a pack under the first name from n on that is free, or has
// this very content: an earlier attempt to commit the checkpoint may have
// stored others. It returns the number after that.
func (o *Owner) putPack(ctx context.Context, id manifest.ID, n uint64, pack []byte) (manifest.Object, uint64, error) {
	for range maxTaken {
		key := manifest.PackName{ID: id, Epoch: o.epoch, N: n}.Key()
		n++
		err := o.catalog.putOnce(ctx, key, pack)
		if err == nil {
			return manifest.Object{Key: key, Size: int64(len(pack)), SHA256: sha256.Sum256(pack)}, n, nil
		}
		if !errors.Is(err, ErrForeignObject) {
			return manifest.Object{}, n, fmt.Errorf("write task parts: %w", err)
		}
	}
	return manifest.Object{}, n, fmt.Errorf("write task parts of checkpoint %d: %w", id, ErrForeignObject)
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

// admit fails if a checkpoint cannot be committed over a HEAD, whatever is in
// it. One that is listed may be the same.
func (o *Owner) admit(cur snapshot, m *manifest.Manifest) error {
	if err := o.owns(cur); err != nil {
		return err
	}
	if _, ok := cur.head.Find(m.ID); ok {
		return nil
	}
	if m.ID < cur.head.NextID {
		return notAbove(cur)
	}
	if m.Base != 0 {
		if _, ok := cur.head.Find(m.Base); !ok {
			return fmt.Errorf("%w: %d", ErrBaseGone, m.Base)
		}
	}
	return nil
}

func notAbove(cur snapshot) error {
	return fmt.Errorf("id is not above those committed: next is %d", cur.head.NextID)
}

// add is the edit of a commit.
func (o *Owner) add(cur snapshot, m *manifest.Manifest, entry Entry, retire func(Head) []manifest.ID) (Head, error) {
	if err := o.admit(cur, m); err != nil {
		return Head{}, err
	}
	if e, ok := cur.head.Find(m.ID); ok {
		if e.ManifestSHA256 == entry.ManifestSHA256 {
			return Head{}, errUnchanged
		}
		return Head{}, notAbove(cur)
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

// putOnce writes an object under a name that only this owner uses. A lost answer
// is settled by reading back. Giving up is safe at any point: what HEAD does
// not lead to is garbage. It fails with ErrForeignObject if the name is taken
// by other content.
func (c *Catalog) putOnce(ctx context.Context, key string, data []byte) error {
	var pace backoff
	for {
		_, err := c.store.Put(ctx, key, objectstore.Bytes(data), objectstore.PutOptions{IfAbsent: true})
		if err == nil {
			return nil
		}
		if !retryable(err) && !outcomeUnknown(err) {
			return err
		}
		there, _, readErr := objectstore.ReadAll(ctx, c.store, key, int64(len(data)))
		switch {
		case readErr == nil && bytes.Equal(there, data):
			return nil
		case readErr == nil, errors.Is(readErr, objectstore.ErrTooLarge):
			return fmt.Errorf("%q: %w", key, ErrForeignObject)
		case pace.exhausted():
			return err
		}
		if err := pace.wait(ctx); err != nil {
			return err
		}
	}
}
