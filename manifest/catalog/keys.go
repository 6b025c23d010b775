package catalog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// A job encrypts under one key in each epoch, and the name of an object tells
// its epoch. So HEAD knows which key each object takes, and lets go of an old
// key when nothing that is listed needs it any more.

// format is the oldest that holds what h says.
func (h *Head) format() int {
	if len(h.Keys) > 0 {
		return formatEncrypted
	}
	return formatPlain
}

// useKey notes that from h's epoch on objects are encrypted under the first of
// the keys, or not.
func (h *Head) useKey(ids []string) {
	if len(ids) == 0 {
		h.Keys = nil
		return
	}
	if n := len(h.Keys); n == 0 || h.Keys[n-1].ID != ids[0] {
		h.Keys = append(h.Keys, Key{ID: ids[0], Epoch: h.Epoch})
	}
	h.dropKeys()
}

// dropKeys forgets those that no listed checkpoint needs, but for the last.
func (h *Head) dropKeys() {
	if len(h.Keys) < 2 {
		return
	}
	last := h.Keys[len(h.Keys)-1]
	h.Keys = slices.DeleteFunc(h.Keys, func(k Key) bool {
		return k != last && !slices.ContainsFunc(h.Checkpoints, func(e Entry) bool { return slices.Contains(e.KeyIDs, k.ID) })
	})
}

// keyOf is the id of the key under which objects of an epoch are encrypted.
func (h *Head) keyOf(epoch manifest.Epoch) (string, bool) {
	for _, k := range slices.Backward(h.Keys) {
		if k.Epoch <= epoch {
			return k.ID, true
		}
	}
	return "", false
}

// keyIDs are the ids of the keys that m, its objects, and the packs of its base
// take, ascending; base may be nil. A name that is not one of ours says nothing:
// then all may be needed.
func (h *Head) keyIDs(m *manifest.Manifest, base *manifest.Outline) []string {
	if len(h.Keys) == 0 {
		return nil
	}
	ids := []string{h.Keys[len(h.Keys)-1].ID}
	if len(h.Keys) == 1 {
		return ids // looking at a million names takes its time
	}
	add := func(o manifest.Object) {
		_, epoch, err := manifest.WrittenFor(o.Key)
		id, ok := h.keyOf(epoch)
		switch {
		case err != nil || !ok:
			for _, k := range h.Keys {
				ids = append(ids, k.ID)
			}
		case !slices.Contains(ids, id):
			ids = append(ids, id)
		}
	}
	for o := range m.Objects() {
		add(o)
	}
	if base != nil {
		for _, o := range base.Packs() {
			add(o)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (h *Head) validateKeys() error {
	for i, k := range h.Keys {
		switch {
		case manifest.ValidKeyIDs([]string{k.ID}) != nil:
			return fmt.Errorf("invalid key id %q", k.ID)
		case k.Epoch == 0 || k.Epoch > h.Epoch || i > 0 && k.Epoch <= h.Keys[i-1].Epoch:
			return fmt.Errorf("key %q: its epoch %d is out of order", k.ID, k.Epoch)
		}
	}
	return nil
}

func (h *Head) validateEntryKeys(e Entry) error {
	if (len(e.KeyIDs) > 0) != (len(h.Keys) > 0) {
		return errors.New("it is encrypted and the job is not, or the other way round")
	}
	if err := manifest.ValidKeyIDs(e.KeyIDs); err != nil {
		return err
	}
	for _, id := range e.KeyIDs {
		if !slices.ContainsFunc(h.Keys, func(k Key) bool { return k.ID == id }) {
			return fmt.Errorf("key %q is not one of the job's", id)
		}
	}
	return nil
}

// checkKeys refuses a job whose checkpoints the store could not read, or would
// mix with others.
func (c *Catalog) checkKeys(h Head) error {
	for _, e := range h.Checkpoints {
		if err := c.checkEntryKeys(e); err != nil {
			return fmt.Errorf("checkpoint %d: %w", e.ID, err)
		}
	}
	return nil
}

func (c *Catalog) checkEntryKeys(e Entry) error {
	have := objectstore.KeyIDs(c.store)
	if len(e.KeyIDs) == 0 {
		if len(have) > 0 {
			return fmt.Errorf("%w: the checkpoint is %w", ErrEncryption, objectstore.ErrNotEncrypted)
		}
		return nil
	}
	var missing []string
	for _, id := range e.KeyIDs {
		if !slices.Contains(have, id) {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	err := error(&objectstore.KeyError{Want: missing, Have: have})
	if len(have) == 0 {
		err = fmt.Errorf("%w: %w", ErrEncryption, err)
	}
	return err
}
