package manifest

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// Outline is a manifest in its stored form: all of it but the tasks whose parts
// stand in packs. It is immutable.
type Outline struct {
	head  Manifest // its operators have those tasks that stand in the manifest
	packs []Object // ascending by key
	refs  [][]ref  // by operator, ascending by index
	stats [][]TaskStats
}

// ref says where the part of a task is.
type ref struct {
	index  int // of the subtask
	pack   int // in packs
	offset int64
	size   int64
	digest Digest // of the task's encoding before compression
}

// DecodeOutline reads what Encode and EncodeParts wrote. A manifest without
// parts is validated as Decode does it. Errors and bounds are those of Decode.
func DecodeOutline(data []byte) (*Outline, error) {
	o, err := decodeOutline(data)
	switch {
	case err == nil:
		return o, nil
	case errors.Is(err, ErrNewerFormat):
		return nil, fmt.Errorf("decode manifest: %w", err)
	default:
		return nil, fmt.Errorf("decode manifest: %w: %w", ErrCorrupt, err)
	}
}

func decodeOutline(data []byte) (*Outline, error) {
	p, err := decodeBody(data)
	if err != nil {
		return nil, err
	}
	o, err := outlineFromProto(p)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(p.GetRequiredFeatures(), FeatureParts) {
		if len(o.packs) > 0 || slices.ContainsFunc(o.refs, func(r []ref) bool { return len(r) > 0 }) {
			return nil, fmt.Errorf("has parts without the feature %q", FeatureParts)
		}
		return o, o.head.Validate()
	}
	return o, o.validate()
}

// Head is the manifest without its tasks. The caller may not change it.
func (o *Outline) Head() *Manifest {
	m := o.head.withoutTasks()
	m.Packs = o.packs
	return m
}

// Packs are the objects that hold parts, ascending by key; none if the manifest
// is whole in itself. The caller may not change them.
func (o *Outline) Packs() []Object { return o.packs }

// validate checks what can be known without the parts.
func (o *Outline) validate() error {
	if err := o.head.validateHeader(); err != nil {
		return err
	}
	c := newChecker(&o.head)
	for i := range o.head.Operators {
		op := &o.head.Operators[i]
		if i > 0 && op.UID <= o.head.Operators[i-1].UID {
			return fmt.Errorf("operator %q: uid is repeated or out of order", op.UID)
		}
		if err := c.operator(i, op); err != nil {
			return fmt.Errorf("operator %q: %w", op.UID, err)
		}
		if err := o.validateIndexes(i); err != nil {
			return fmt.Errorf("operator %q: %w", op.UID, err)
		}
	}
	if err := o.validatePacks(); err != nil {
		return err
	}
	return o.validateRanges()
}

// validateIndexes wants each subtask once: here, or referred to.
func (o *Outline) validateIndexes(i int) error {
	op, refs := &o.head.Operators[i], o.refs[i]
	if n := len(op.Tasks) + len(refs); n != op.Parallelism {
		return fmt.Errorf("%d tasks for parallelism %d", n, op.Parallelism)
	}
	if len(refs) > 0 && len(o.stats[i]) != op.Parallelism || len(refs) == 0 && len(o.stats[i]) > 0 {
		return fmt.Errorf("%d figures for %d subtasks, %d of them in parts", len(o.stats[i]), op.Parallelism, len(refs))
	}
	here, there := 0, 0
	for j := range op.Parallelism {
		switch {
		case here < len(op.Tasks) && op.Tasks[here].Index == j:
			here++
		case there < len(refs) && refs[there].index == j:
			there++
		default:
			return fmt.Errorf("subtask %d is missing, repeated or out of order", j)
		}
	}
	return nil
}

func (o *Outline) validatePacks() error {
	for i, p := range o.packs {
		n, err := ParsePackKey(p.Key)
		switch {
		case err != nil:
			return err
		case i > 0 && p.Key <= o.packs[i-1].Key:
			return fmt.Errorf("pack %q is repeated or out of order", p.Key)
		case n.ID > o.head.ID || n.Epoch > o.head.Epoch:
			return fmt.Errorf("pack %q is later than checkpoint %d of epoch %d", p.Key, o.head.ID, o.head.Epoch)
		case p.Size <= int64(minimumSize) || p.Size > maxPack:
			return fmt.Errorf("pack %q has the size %d", p.Key, p.Size)
		}
	}
	return nil
}

// validateRanges wants every part within its pack, none upon another, and every
// pack used: a part that stood for many tasks would unpack to more than what is
// stored, and a pack without parts would be kept for nothing.
func (o *Outline) validateRanges() error {
	var all []ref
	for _, refs := range o.refs {
		all = append(all, refs...)
	}
	slices.SortFunc(all, func(a, b ref) int {
		return cmp.Or(cmp.Compare(a.pack, b.pack), cmp.Compare(a.offset, b.offset))
	})
	pack, end := -1, int64(0)
	for _, r := range all {
		if r.pack != pack {
			if r.pack != pack+1 || r.pack >= len(o.packs) {
				return fmt.Errorf("a part is in pack %d of %d, or none is in that before", r.pack, len(o.packs))
			}
			pack, end = r.pack, int64(headerSize)
		}
		limit := o.packs[pack].Size - sha256.Size
		if r.offset < end || r.size < 1 || r.offset > limit || r.size > limit-r.offset {
			return fmt.Errorf("a part at %d of %d bytes lies upon another or outside pack %q", r.offset, r.size, o.packs[pack].Key)
		}
		end = r.offset + r.size
	}
	if pack+1 != len(o.packs) {
		return fmt.Errorf("no part is in pack %q", o.packs[pack+1].Key)
	}
	return nil
}
