package manifest

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

// TestB69_PacksStayBounded changes a few random tasks at each of many
// checkpoints. What the packs hold beyond the parts referred to stays below
// those parts and two packs, the packs stay few, and neither one checkpoint nor
// all of them move much more than what they change.
func TestB69_PacksStayBounded(t *testing.T) {
	t.Run("few packs", func(t *testing.T) {
		keepPacking(t, PartsOptions{Inline: 1, Pack: 4 << 10, MaxPacks: 10}, 2)
	})
	t.Run("many packs", func(t *testing.T) {
		keepPacking(t, PartsOptions{Inline: 1, Pack: 4 << 10, MaxPacks: 1 << 20}, 12)
	})
}

func keepPacking(t *testing.T, opts PartsOptions, each int) {
	const tasks, rounds = 100, 150
	s, f, r := newPackStore(), newFleet(tasks, 5), rand.New(rand.NewPCG(1, 2))
	m := f.whole(t)
	_, base := encodeWhole(t, m, nil, opts, s)
	full := s.written
	var changed, moved int64
	for range rounds {
		which := r.Perm(tasks)[:each]
		f = f.next(which...)
		m = f.whole(t)
		before := s.written
		data, next := encodeWhole(t, m, base, opts, s)
		live, stored := usage(next)
		if dead := stored - live; dead > live+2*int64(opts.Pack) {
			t.Fatalf("checkpoint %d: packs hold %d bytes for %d of parts", f.id, stored, live)
		}
		if n := len(next.Packs()); n > opts.MaxPacks+int(2*live)/opts.Pack+1 {
			t.Fatalf("checkpoint %d: %d packs", f.id, n)
		}
		c, died := partBytes(next, which), partBytes(base, which)
		extra := s.written - before - c // with the frames of packs
		if extra > max(c, died)+int64(opts.Pack)+1<<10 {
			t.Fatalf("checkpoint %d moved %d bytes where %d changed", f.id, extra, c)
		}
		changed, moved, base = changed+c, moved+extra, next
		m.Packs = next.Packs()
		if f.id%20 == 0 && !reflect.DeepEqual(decodeWhole(t, data, s), m) {
			t.Fatalf("checkpoint %d came back changed", f.id)
		}
	}
	t.Logf("%d bytes stored first, %d changed, %d moved, %d packs at the end", full, changed, moved, len(base.Packs()))
	if moved < changed/10 {
		t.Errorf("hardly anything was moved: the case tests nothing")
	}
	if moved > changed+changed/2 {
		t.Errorf("%d bytes were moved for %d changed", moved, changed)
	}
}

// usage is what the packs of a manifest hold for it and in all.
func usage(o *Outline) (live, stored int64) {
	for _, refs := range o.refs {
		for _, r := range refs {
			live += r.size
		}
	}
	for _, p := range o.packs {
		stored += p.Size
	}
	return live, stored
}

// partBytes is the stored size of the parts of given tasks.
func partBytes(o *Outline, which []int) (n int64) {
	seen := make(map[int]bool)
	for _, i := range which {
		if !seen[i] {
			seen[i] = true
			n += o.refs[0][i].size
		}
	}
	return n
}

// TestB69_TidiesInStepWithChanges: however much there is to tidy, one checkpoint
// moves as much as it changes, and one pack more at most.
func TestB69_TidiesInStepWithChanges(t *testing.T) {
	s, f := newPackStore(), newFleet(100, 5)
	_, base := encodeWhole(t, f.whole(t), nil, PartsOptions{Inline: 1, Pack: 2 << 10}, s)
	before := s.written
	_, o := encodeWhole(t, f.next(1).whole(t), base, PartsOptions{Inline: 1, Pack: 1 << 20, MaxPacks: 1}, s)
	if moved, limit := s.written-before, 2*partBytes(o, []int{1})+3<<10; moved > limit || len(o.Packs()) < len(base.Packs())-3 {
		t.Errorf("%d bytes and %d of %d packs were written again, want at most %d bytes", moved, len(base.Packs())-len(o.Packs()), len(base.Packs()), limit)
	}
}
