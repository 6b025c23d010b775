package state

import (
	"github.com/ckpt-io/ckpt/incremental"
)

// The planner weighs a new base. It is a function of figures: no I/O, no clock.
//
// A base is sent by file, so it costs the tables that compactions have written
// since the one before (BaseCost.NewBytes), wherever the changes were. It saves
// a restore the difference between what the store holds for the state now, the
// last base and all deltas since, and the tables of the new base. Both are
// known before anything is sent.
//
// Each changed byte pays for one base only, the first one after it: a base whose
// cost fits in what the deltas of its own chain leave of MaxUploads times their
// changed bytes keeps the sum of all uploads within that ratio, whatever the
// changes are. A base that saves a restore at least what it costs is always
// within reach too: what it saves was uploaded once, and is no longer counted
// afterwards.

// plan is what the planner decides from.
type plan struct {
	chain incremental.Chain
	cost  incremental.BaseCost
	// behind says that checkpoints wait for the store or the disk: deltas not
	// durable yet, or overlays not ingested.
	behind bool
	// compacting says that all tables are being compacted, compacted that they
	// were not long ago, or can't be now.
	compacting, compacted bool
}

// verdict is what is to be done and why, in words for logs and figures.
type verdict struct {
	begin   bool // a base
	compact bool // all tables into the lowest level: the base is weighed again then
	reason  string
}

// The reasons of a base.
const (
	ReasonRescaled = "rescaled" // the state is pieced together at every restore
	ReasonReads    = "reads"    // a restore would read too much
	ReasonCheap    = "cheap"    // it saves much more than it costs
	ReasonDeltas   = "deltas"   // there are many, and a base is within reach
	ReasonOverdue  = "overdue"  // there are too many deltas, at any cost
)

const (
	// overdueFactor times MaxDeltas are too many whatever a base costs.
	overdueFactor = 4
	// requestBytes is what one request weighs in bytes: about the part of a
	// restore's time that a small delta takes when eight are fetched at a time
	// at 10 ms each and 100 MB/s in all.
	requestBytes = 64 << 10
	// loosePart of the live bytes above the lowest level are compacted first.
	loosePart = 8
	// cheapFactor is how often a base saves its cost to be worth it early.
	cheapFactor = 3
)

// saved is what a restore no longer reads after a base.
func (p *plan) saved() int64 { return p.reads() - p.cost.Bytes }

// reads is what a restore of the state reads now.
func (p *plan) reads() int64 { return p.chain.BaseBytes + p.chain.DeltaBytes }

// uncompacted reports whether many of the deltas are still what the base would
// be made of, because compactions are held or behind.
func (p *plan) uncompacted() bool {
	return p.cost.L0Tables > max(int64(p.chain.Deltas)/2, incremental.L0CompactionThreshold)
}

// decide weighs a base under a policy without zero values.
func (m MaterializePolicy) decide(p plan) verdict {
	wait := func(reason string) verdict { return verdict{reason: reason} }
	begin := func(reason string) verdict { return verdict{begin: true, reason: reason} }
	c := p.chain
	many := m.MaxDeltas > 0 && c.Deltas >= m.MaxDeltas
	overdue := m.overdue(c)
	switch {
	case c.Deltas == 0 && c.Pieces <= 1:
		return wait("no deltas")
	case overdue && !p.uncompacted():
		return begin(ReasonOverdue)
	case p.behind:
		return wait("checkpoints first")
	case c.Pieces > 1:
		return begin(ReasonRescaled)
	case many && p.uncompacted():
		return wait("deltas are not compacted") // they would only move
	case !many && c.DeltaBytes < m.MinBytes:
		return wait("small")
	case p.compacting:
		return wait("compacting")
	case m.tooMuch(p) && m.compactFirst(p):
		return verdict{compact: true, reason: "not compacted"}
	case !m.affordable(p):
		return wait("dear")
	case many:
		return begin(ReasonDeltas)
	case m.tooMuch(p) && p.worth():
		return begin(ReasonReads)
	case p.saved() > cheapFactor*p.cost.NewBytes && 4*p.saved() > p.cost.Bytes:
		return begin(ReasonCheap)
	}
	return wait("not worth it")
}

// tooMuch reports whether a restore would read too much after one more delta
// like those there are.
func (m MaterializePolicy) tooMuch(p plan) bool {
	next := p.reads() + p.chain.DeltaBytes/int64(max(p.chain.Deltas, 1))
	return m.MaxReads > 0 && float64(next) > m.MaxReads*float64(p.cost.LiveBytes)
}

// compactFirst reports whether the tables are to be compacted before a base:
// it would hold old values along with the new ones otherwise, cost more, and
// leave less room for deltas. That is so in a state of few times lBaseMaxBytes,
// and when deltas are large. In a larger state the lowest level holds nearly all
// of it. If the keys above are new ones, nothing is gained, but LiveBytes is
// right afterwards.
func (m MaterializePolicy) compactFirst(p plan) bool {
	loose := p.cost.Bytes - p.cost.LiveBytes
	if p.compacted || loosePart*loose <= p.cost.LiveBytes {
		return false
	}
	p.cost.Bytes, p.cost.NewBytes = p.cost.LiveBytes, p.cost.LiveBytes
	return m.affordable(p) && p.worth()
}

// worth reports whether a base saves a restore a good part of what it costs.
func (p *plan) worth() bool { return 2*p.saved() > p.cost.NewBytes }

// overdue reports whether the deltas are to be replaced whatever it costs.
func (m MaterializePolicy) overdue(c incremental.Chain) bool {
	return m.MaxDeltas > 0 && c.Deltas >= overdueFactor*m.MaxDeltas
}

// affordable reports whether a base keeps to the bound of the uploads.
func (m MaterializePolicy) affordable(p plan) bool {
	if m.MaxUploads < 0 || p.cost.NewBytes <= p.saved() {
		return true
	}
	left := m.MaxUploads*float64(p.chain.Changed) - float64(p.chain.DeltaBytes) + float64(p.chain.Deltas)*requestBytes
	return float64(p.cost.NewBytes) <= left
}
