package manifest

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// MaxMaxParallelism is the largest number of key groups of an operator.
	MaxMaxParallelism = 32768
	// MaxInline is the largest file that stands in a manifest itself, in
	// bytes; a larger one is an object.
	MaxInline = 1 << 20

	maxUUID     = 64
	maxHasher   = 100
	maxFileName = 255

	maxKeyID  = 64
	maxKeyIDs = 1024
)

// Validate checks the rules that every manifest keeps, and returns the first
// one it finds broken. Encode and Decode both call it. Its time is linear in
// the size of the manifest, whatever that holds.
func (m *Manifest) Validate() error {
	if err := m.validateHeader(); err != nil {
		return err
	}
	c := newChecker(m)
	for i := range m.Operators {
		o := &m.Operators[i]
		if i > 0 && o.UID <= m.Operators[i-1].UID {
			return fmt.Errorf("operator %q: uid is repeated or out of order", o.UID)
		}
		if err := c.whole(i, o); err != nil {
			return fmt.Errorf("operator %q: %w", o.UID, err)
		}
	}
	return nil
}

func (m *Manifest) validateHeader() error {
	switch {
	case !ValidJob(m.Job):
		return fmt.Errorf("invalid job name %q", m.Job)
	case !validName(m.JobUUID, maxUUID, "-"):
		return fmt.Errorf("invalid job uuid %q", m.JobUUID)
	case m.ID == 0 || m.ID > MaxID:
		return fmt.Errorf("checkpoint id %d: %w", uint64(m.ID), ErrOverflow)
	case m.Epoch == 0 || m.Epoch > MaxEpoch:
		return fmt.Errorf("epoch %d: %w", uint64(m.Epoch), ErrOverflow)
	case m.Base >= m.ID:
		return fmt.Errorf("base %d is not below checkpoint %d", m.Base, m.ID)
	case !m.Kind.Valid():
		return fmt.Errorf("unknown kind %q", m.Kind)
	case !m.Time.IsZero() && !nanoTime(m.Time.UnixNano()).Equal(m.Time):
		return fmt.Errorf("time %s is out of range", m.Time)
	case m.Stats.NewBytes < 0 || m.Stats.FullBytes < 0 || m.Stats.Objects < 0:
		return errors.New("a size in the figures is negative")
	}
	return ValidKeyIDs(m.KeyIDs)
}

// ValidKeyIDs checks a list of the ids of encryption keys: at most 1024 of 1 to
// 64 letters and digits, ascending.
func ValidKeyIDs(ids []string) error {
	if len(ids) > maxKeyIDs {
		return fmt.Errorf("%d key ids are too many", len(ids))
	}
	for i, id := range ids {
		if !validName(id, maxKeyID, "") || i > 0 && id <= ids[i-1] {
			return fmt.Errorf("key id %q is invalid, repeated or out of order", id)
		}
	}
	return nil
}

// Valid reports whether k is one of the kinds.
func (k Kind) Valid() bool {
	switch k {
	case Periodic, Final, Stop, Savepoint:
		return true
	}
	return false
}

func (c *checker) keyed(k *KeyedState) error {
	taken := make(map[uint16]struct{})
	top := uint64(0) // the highest position in the pieces
	for i := range k.Pieces {
		p := &k.Pieces[i]
		if p.KeyGroups.Last < p.KeyGroups.First || !k.KeyGroups.Covers(p.KeyGroups) {
			return fmt.Errorf("piece %d: key groups %s are not within %s", i, p.KeyGroups, k.KeyGroups)
		}
		for kg := int(p.KeyGroups.First); kg <= int(p.KeyGroups.Last); kg++ {
			if _, dup := taken[uint16(kg)]; dup {
				return fmt.Errorf("piece %d: key group %d is in another piece too", i, kg)
			}
			taken[uint16(kg)] = struct{}{}
		}
		last, err := c.piece(p)
		if err != nil {
			return fmt.Errorf("piece %d: %w", i, err)
		}
		if p.Base != nil && p.Base.Whole && !k.Whole() {
			return fmt.Errorf("piece %d: a whole database stands with other pieces, deltas or for fewer key groups", i)
		}
		top = max(top, last)
	}
	_, err := c.deltas(k.Deltas, top)
	return err
}

// piece returns the highest position in a piece.
func (c *checker) piece(p *Piece) (last uint64, err error) {
	if p.Base != nil {
		if err := c.base(p.Base); err != nil {
			return 0, fmt.Errorf("base: %w", err)
		}
		last = p.Base.Position
	}
	return c.deltas(p.Deltas, last)
}

// deltas checks that the positions rise from after on and returns the last. A
// base with a delta below it in its own count would hold the future.
func (c *checker) deltas(deltas []Delta, after uint64) (last uint64, err error) {
	last = after
	for i := range deltas {
		d := &deltas[i]
		switch {
		case d.Position <= last:
			return 0, fmt.Errorf("delta %d: position %d is not above %d", i, d.Position, last)
		case d.Entries < 0 || d.Bytes < 0:
			return 0, fmt.Errorf("delta %d: a size is negative", i)
		}
		if err := c.object(&d.Object); err != nil {
			return 0, fmt.Errorf("delta %d: %w", i, err)
		}
		if n := len(d.Segments); n > 0 && n != d.Object.Segments()*len(SegmentDigest{}) {
			return 0, fmt.Errorf("delta %d: %d bytes of segment digests for an object of %d", i, n, d.Object.Size)
		}
		if d.Data < 0 || d.Data > d.Object.Size {
			return 0, fmt.Errorf("delta %d: data of %d bytes in an object of %d", i, d.Data, d.Object.Size)
		}
		last = d.Position
	}
	return last, nil
}

func (c *checker) base(b *Base) error {
	for i := range b.Packs {
		if err := c.object(&b.Packs[i]); err != nil {
			return fmt.Errorf("pack %d: %w", i, err)
		}
	}
	folded := make(map[string]struct{}, len(b.Files))
	for i := range b.Files {
		f := &b.Files[i]
		if !ValidFileName(f.Name) {
			return fmt.Errorf("invalid file name %q", f.Name)
		}
		if i > 0 && f.Name <= b.Files[i-1].Name {
			return fmt.Errorf("file %q is repeated or out of order", f.Name)
		}
		// Two names that differ in case are one file on some systems.
		lower := strings.ToLower(f.Name)
		if _, dup := folded[lower]; dup {
			return fmt.Errorf("file %q differs from another in case only", f.Name)
		}
		folded[lower] = struct{}{}
		if err := c.file(f); err != nil {
			return fmt.Errorf("file %q: %w", f.Name, err)
		}
		if err := checkPackRef(b, f); err != nil {
			return fmt.Errorf("file %q: %w", f.Name, err)
		}
	}
	return nil
}

func checkPackRef(b *Base, f *File) error {
	p := &f.Pack
	if *p == (PackRef{}) {
		return nil
	}
	switch {
	case f.Object == (Object{}):
		return errors.New("has a pack and no object")
	case p.Pack < 1 || p.Pack > len(b.Packs):
		return fmt.Errorf("pack %d of %d", p.Pack, len(b.Packs))
	}
	size, least := b.Packs[p.Pack-1].Size, int64(f.Object.Segments())*int64(len(SegmentDigest{}))
	if p.Offset < 0 || p.Offset > size || p.Length > size-p.Offset || p.Length < least || p.Length-least > f.Object.Size {
		return fmt.Errorf("has %d bytes at %d of a pack of %d", p.Length, p.Offset, size)
	}
	return nil
}

func (c *checker) file(f *File) error {
	if f.Object == (Object{}) {
		if len(f.Inline) > MaxInline {
			return fmt.Errorf("%d bytes are too many to stand in a manifest", len(f.Inline))
		}
		return nil
	}
	if len(f.Inline) > 0 {
		return errors.New("has an object and a content of its own")
	}
	return c.object(&f.Object)
}

// ValidFileName reports whether s may be the name of a file in a restored
// directory: 1 to 255 characters of [0-9A-Za-z._-], but not "." or "..".
func ValidFileName(s string) bool {
	return validName(s, maxFileName, "._-") && s != "." && s != ".."
}
