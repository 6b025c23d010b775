package state

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/objectstore"
)

const mib = 1 << 20

func testPolicy(t *testing.T, m MaterializePolicy) MaterializePolicy {
	t.Helper()
	o := testOptions(t)
	o.Store, o.NextID, o.Materialize = objectstore.NewMem(), 1, m
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return o.Materialize
}

func TestMaterializePolicy(t *testing.T) {
	// A state of 100 MiB as stored, with a base of all of it and 10 deltas of
	// half their changes' size.
	chain := func(deltas int, deltaBytes int64) incremental.Chain {
		return incremental.Chain{Deltas: deltas, DeltaBytes: deltaBytes, Changed: 2 * deltaBytes, BaseBytes: 100 * mib, Pieces: 1}
	}
	cost := func(all, fresh int64) incremental.BaseCost {
		return incremental.BaseCost{Bytes: all, NewBytes: fresh, Tables: all / mib, NewTables: fresh / mib, LiveBytes: 100 * mib}
	}
	rescaled := chain(0, 0)
	rescaled.Pieces = 2
	held := cost(130*mib, 0)
	held.L0Tables = 30
	incompressible := chain(10, 95*mib)
	incompressible.Changed = incompressible.DeltaBytes
	all := incremental.BaseCost{Bytes: 100 * mib, NewBytes: 100 * mib, LiveBytes: 100 * mib}
	tests := []struct {
		name   string
		policy MaterializePolicy
		plan   plan
		want   string // the reason of a base, "compact", or nothing
	}{
		{"no deltas", MaterializePolicy{}, plan{chain: chain(0, 0), cost: cost(100*mib, 0)}, ""},
		{"small", MaterializePolicy{}, plan{chain: chain(5, mib), cost: cost(100*mib, 0)}, ""},
		{"reads within bounds", MaterializePolicy{}, plan{chain: chain(10, 80*mib), cost: all}, ""},
		{"reads too much", MaterializePolicy{}, plan{chain: chain(10, 95*mib), cost: all}, ReasonReads},
		{"reads too much, any reads allowed", MaterializePolicy{MaxReads: -1}, plan{chain: chain(10, 95*mib), cost: all}, ""},
		{"reads too much, but checkpoints wait", MaterializePolicy{}, plan{chain: chain(10, 95*mib), cost: all, behind: true}, ""},
		{"reads too much, but no less after a base", MaterializePolicy{}, plan{chain: chain(10, 95*mib), cost: cost(180*mib, 60*mib), compacted: true}, ""},
		{"reads too much, and old values with the new", MaterializePolicy{}, plan{chain: chain(10, 95*mib), cost: cost(180*mib, 60*mib)}, "compact"},
		{"hardly too much, and old values with the new", MaterializePolicy{MaxReads: 1.2}, plan{chain: chain(10, 30*mib), cost: cost(120*mib, 25*mib)}, ""},
		{"while compacting", MaterializePolicy{}, plan{chain: chain(10, 95*mib), cost: all, compacting: true}, ""},
		{"a base of it compacted is dear", MaterializePolicy{}, plan{chain: incompressible, cost: cost(180*mib, 60*mib)}, ""},
		{"incompressible changes pay later", MaterializePolicy{}, plan{chain: incompressible, cost: all}, ""},
		{"they pay if allowed", MaterializePolicy{MaxUploads: 3}, plan{chain: incompressible, cost: all}, ReasonReads},
		{"or at any cost", MaterializePolicy{MaxUploads: -1}, plan{chain: incompressible, cost: all}, ReasonReads},
		{"deletions pay by what they save", MaterializePolicy{},
			plan{chain: chain(10, 10*mib), cost: incremental.BaseCost{Bytes: 20 * mib, NewBytes: 20 * mib, LiveBytes: 20 * mib}}, ReasonReads},
		{"the same keys again and again", MaterializePolicy{}, plan{chain: chain(20, 40*mib), cost: cost(102*mib, 2*mib)}, ReasonCheap},
		{"many, and dear", MaterializePolicy{}, plan{chain: chain(30, 10*mib), cost: all}, ""},
		{"many, and within reach", MaterializePolicy{}, plan{chain: chain(30, 10*mib), cost: cost(110*mib, 12*mib)}, ReasonDeltas},
		{"many small ones of a small state", MaterializePolicy{},
			plan{chain: chain(30, 1000), cost: incremental.BaseCost{Bytes: mib, NewBytes: mib, LiveBytes: mib}}, ReasonDeltas},
		{"many, any number allowed", MaterializePolicy{MaxDeltas: -1}, plan{chain: chain(500, 10*mib), cost: cost(110*mib, 12*mib)}, ""},
		{"too many, and dear", MaterializePolicy{}, plan{chain: chain(120, 10*mib), cost: all}, ReasonOverdue},
		{"too many, checkpoints wait", MaterializePolicy{}, plan{chain: chain(120, 10*mib), cost: all, behind: true}, ReasonOverdue},
		{"many, compactions are held", MaterializePolicy{}, plan{chain: chain(30, 30*mib), cost: held}, ""},
		{"rescaled", MaterializePolicy{}, plan{chain: rescaled, cost: all}, ReasonRescaled},
		{"rescaled, checkpoints wait", MaterializePolicy{}, plan{chain: rescaled, cost: all, behind: true}, ""},
	}
	for _, test := range tests {
		v := testPolicy(t, test.policy).decide(test.plan)
		got := ""
		switch {
		case v.begin:
			got = v.reason
		case v.compact:
			got = "compact"
		}
		if got != test.want {
			t.Errorf("%s: %+v, want %q", test.name, v, test.want)
		}
	}
}

// Whatever the changes and whatever compactions make of them: with the bases
// uploads keep to 3 times the changed bytes and the price of the requests, and
// to twice when no base saves more than was changed since the last. The bounds
// are held at every moment, not only in the end.
func TestUploadsAreBoundedForAnyChanges(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 5))
		m := testPolicy(t, MaterializePolicy{MaxDeltas: 1 << 30, MinBytes: 1})
		var c incremental.Chain
		c.Pieces = 1
		var changed, uploaded, requests int64
		for range 300 {
			d := int64(rng.ExpFloat64() * float64(int64(1)<<rng.IntN(30)))
			raw := d + int64(rng.Float64()*10*float64(d))
			c.Deltas++
			c.DeltaBytes += d
			c.Changed += raw
			changed, uploaded, requests = changed+raw, uploaded+d, requests+1
			// Compactions never make more of what there is.
			p := plan{chain: c}
			p.cost.Bytes = rng.Int64N(p.reads() + 1)
			if rng.IntN(3) == 0 {
				p.cost.Bytes = p.reads()
			}
			p.cost.NewBytes = rng.Int64N(p.cost.Bytes + 1)
			if rng.IntN(2) == 0 {
				p.cost.NewBytes = p.cost.Bytes
			}
			p.cost.LiveBytes = rng.Int64N(p.cost.Bytes + 1)
			if m.decide(p).begin {
				uploaded += p.cost.NewBytes
				c = incremental.Chain{BaseBytes: p.cost.Bytes, Pieces: 1}
			}
			if limit := 3*changed + requests*requestBytes; uploaded > limit {
				t.Fatalf("seed %d: %d bytes are uploaded for %d changed ones", seed, uploaded, changed)
			}
		}
	}
}

// lsm is a coarse model of a database whose keys are changed evenly: deltas are
// merged into the lowest level, which is written anew, when there are enough.
type lsm struct {
	live          int64
	loose         int64 // bytes not merged yet
	looseDeltas   int64
	rewrittenFrom bool // the lowest level was written since the last base
}

func (l *lsm) add(d int64) {
	l.loose += d
	if l.looseDeltas++; l.looseDeltas >= incremental.L0CompactionThreshold {
		l.compact()
	}
}

func (l *lsm) compact() { l.loose, l.looseDeltas, l.rewrittenFrom = 0, 0, true }

func (l *lsm) cost() incremental.BaseCost {
	c := incremental.BaseCost{Bytes: l.live + l.loose, L0Tables: l.looseDeltas, LiveBytes: l.live}
	if l.rewrittenFrom {
		c.NewBytes = l.live
	}
	return c
}

// Even changes: what is uploaded stays within twice the changed bytes, and what
// a restore reads within twice the live ones, or what one delta adds to that.
func TestEvenChangesKeepBothBounds(t *testing.T) {
	const live = 1000 * mib
	for _, share := range []float64{0.002, 0.01, 0.05, 0.2, 0.6, 1} {
		for _, ratio := range []float64{0.1, 0.3, 0.5, 0.7, 1} {
			t.Run(fmt.Sprintf("%g/%g", share, ratio), func(t *testing.T) {
				m := testPolicy(t, MaterializePolicy{})
				d := int64(share * live)
				raw := int64(float64(d) / ratio)
				db := lsm{live: live}
				c := incremental.Chain{BaseBytes: live, Pieces: 1}
				var changed, uploaded, overdue int64
				for i := range 2000 {
					db.add(d)
					c.Deltas, c.DeltaBytes, c.Changed = c.Deltas+1, c.DeltaBytes+d, c.Changed+raw
					changed, uploaded = changed+raw, uploaded+d
					p := plan{chain: c, cost: db.cost()}
					if reads, limit := p.reads(), int64(2*live)+d; reads > limit {
						t.Fatalf("after %d deltas a restore reads %d bytes, limit %d", i+1, reads, limit)
					}
					v := m.decide(p)
					if v.compact {
						db.compact()
						p.cost, p.compacted = db.cost(), true
						v = m.decide(p)
					}
					if v.begin {
						if v.reason == ReasonOverdue {
							overdue++
						}
						uploaded += p.cost.NewBytes
						c = incremental.Chain{BaseBytes: p.cost.Bytes, Pieces: 1}
						db.rewrittenFrom = false
					}
				}
				if limit := 2*changed + live + 2000*requestBytes; uploaded > limit && overdue == 0 {
					t.Errorf("%d bytes are uploaded for %d changed ones", uploaded, changed)
				}
				if tooMany := share*overdueFactor*float64(m.MaxDeltas) < 1; overdue > 0 && !tooMany {
					t.Errorf("%d bases were begun at any cost", overdue)
				}
			})
		}
	}
}
