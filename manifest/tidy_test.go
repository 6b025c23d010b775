package manifest

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

// TestB69_PacksStayBounded changes a few random tasks at each of many
// checkpoints. What the packs hold beyond the parts referred to stays below
// those parts and one pack, the packs stay few, and no more is written over
// time than twice what changed and the least of the packs each time.
func TestB69_PacksStayBounded(t *testing.T) {
	const tasks, rounds = 100, 200
	opts := PartsOptions{Inline: 1, Pack: 4 << 10, MaxPacks: 10}
	s, f, r := newPackStore(), newFleet(tasks, 5), rand.New(rand.NewPCG(1, 2))
	m := f.whole(t)
	_, base := encodeWhole(t, m, nil, opts, s)
	full := s.written
	var changed, moved int64
	tidied := false
	for range rounds {
		which := make([]int, 2)
		for i := range which {
			which[i] = r.IntN(tasks)
		}
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
		c := changedBytes(next, which)
		changed += c
		if extra := s.written - before - c; extra > 0 {
			moved += extra
			tidied = tidied || extra > c
		}
		base = next
		m.Packs = next.Packs()
		if f.id%20 == 0 && !reflect.DeepEqual(decodeWhole(t, data, s), m) {
			t.Fatalf("checkpoint %d came back changed", f.id)
		}
	}
	if !tidied {
		t.Error("nothing was moved: the case tests nothing")
	}
	// The bound for packs that are too many: each move takes the least of them.
	if limit := changed + rounds*full/int64(opts.MaxPacks); moved > limit {
		t.Errorf("%d bytes were moved for %d changed, want at most %d", moved, changed, limit)
	}
	t.Logf("%d bytes stored first, %d changed, %d moved, %d packs at the end", full, changed, moved, len(base.Packs()))
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

// changedBytes is the stored size of the parts of given tasks.
func changedBytes(o *Outline, which []int) (n int64) {
	seen := make(map[int]bool)
	for _, i := range which {
		if !seen[i] {
			seen[i] = true
			n += o.refs[0][i].size
		}
	}
	return n
}
