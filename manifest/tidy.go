package manifest

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/ckpt-io/ckpt/manifest/internal/pb"
)

// tidy moves parts out of packs that hold little else than what nothing refers
// to, and out of small packs when there are too many. See EncodeParts.
//
// A pack that is moved for its dead bytes holds more of them than of live ones,
// for so do all packs together. So every byte moved frees at least one, and as
// none is freed that had not died before, no more are moved than die. And as
// long as parts are moved in step with those that die, the dead ones do not
// grow beyond the live ones of some manifest before.
func (e *partsEncoder) tidy(base *Outline) error {
	changed := e.changed + int64(e.holding)
	budget := max(changed, e.died(base))
	for moved := int64(0); moved < budget; {
		victim := e.victim()
		if victim == nil {
			return nil
		}
		moved += victim.live
		if err := e.move(victim); err != nil {
			return err
		}
	}
	return nil
}

// died are the bytes of parts in base that nothing refers to any more.
func (e *partsEncoder) died(base *Outline) int64 {
	var n int64
	if base != nil {
		for _, refs := range base.refs {
			for _, r := range refs {
				n += r.size
			}
		}
	}
	for _, p := range e.packs {
		if !p.fresh {
			n -= p.live
		}
	}
	return n
}

// victim is the pack whose parts should move next; nil if none.
func (e *partsEncoder) victim() *usedPack {
	var live, dead int64
	var old []*usedPack
	for _, p := range e.packs {
		live, dead = live+p.live, dead+p.dead()
		if !p.fresh {
			old = append(old, p)
		}
	}
	switch {
	case len(old) == 0:
		return nil
	case dead > live:
		return slices.MinFunc(old, func(a, b *usedPack) int {
			return cmp.Or(cmp.Compare(float64(a.live)/float64(a.object.Size), float64(b.live)/float64(b.object.Size)),
				strings.Compare(a.object.Key, b.object.Key))
		})
	case int64(len(e.packs)) > int64(e.opts.MaxPacks)+2*live/int64(e.opts.Pack):
		return slices.MinFunc(old, func(a, b *usedPack) int {
			return cmp.Or(cmp.Compare(a.live, b.live), strings.Compare(a.object.Key, b.object.Key))
		})
	}
	return nil
}

// move stores the parts of a pack again, among those that changed.
func (e *partsEncoder) move(victim *usedPack) error {
	e.packs = slices.DeleteFunc(e.packs, func(p *usedPack) bool { return p == victim })
	for i := range e.places {
		for j := range e.places[i] {
			place := &e.places[i][j]
			if place.pack != victim {
				continue
			}
			place.packed = packed{}
			t, err := e.source(i, j)
			if err != nil {
				return err
			}
			p, body, err := e.marshal(t)
			if err != nil {
				return err
			}
			if err := e.store(heldPart{i, j, p, body, sha256.Sum256(body)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish puts the manifest together.
func (e *partsEncoder) finish() ([]byte, *Outline, error) {
	for _, h := range e.held {
		e.places[h.operator][h.index].inline = h.task
	}
	slices.SortFunc(e.packs, func(a, b *usedPack) int { return strings.Compare(a.object.Key, b.object.Key) })
	index := make(map[*usedPack]uint32, len(e.packs))
	out := toProto(e.head)
	for i, p := range e.packs {
		index[p] = uint32(i)
		out.Packs = append(out.Packs, objectToProto(&p.object))
	}
	for i := range out.Operators {
		e.fill(out.Operators[i], e.places[i], index)
	}
	require(out, e.states)
	data, err := encodeProto(out)
	if err != nil || len(e.packs) == 0 {
		return data, nil, err
	}
	o, err := DecodeOutline(data)
	return data, o, err
}

// fill gives an operator its tasks, those here and those in packs.
func (e *partsEncoder) fill(o *pb.Operator, places []encodedPart, index map[*usedPack]uint32) {
	o.Tasks = nil
	for j := range places {
		p := &places[j]
		o.Stats = append(o.Stats, p.stats)
		if p.inline != nil {
			o.Tasks = append(o.Tasks, p.inline)
			continue
		}
		o.Parts = append(o.Parts, &pb.PartRef{
			Index: uint32(j), Pack: index[p.pack], Offset: uint64(p.offset), Size: uint64(p.size), Sha256: p.digest[:],
		})
	}
	if len(o.Parts) > 0 {
		return
	}
	// All tasks stand here, each with its own figures.
	for j := range o.Tasks {
		o.Tasks[j].Stats = o.Stats[j]
	}
	o.Stats = nil
}
