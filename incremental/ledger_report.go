package incremental

import (
	"fmt"
	"slices"

	"github.com/ckpt-io/ckpt/manifest"
)

// Barrier is what a task is told of a checkpoint.
type Barrier struct {
	ID manifest.ID
	// OldestBase is the smallest base of any pending checkpoint, this one
	// included, when it was triggered.
	OldestBase manifest.ID
	// Last marks the last checkpoint of a finished or stopped job, which
	// reserves nothing.
	Last bool
}

// cut is the part of the state that a barrier put into a checkpoint.
type cut struct {
	Barrier
	position uint64 // the last one in it
}

// Barrier enters that the state of a checkpoint was captured: its cut is all
// positions given up to now. A barrier that is not above all seen before is
// refused.
func (l *Ledger) Barrier(b Barrier) error {
	if b.ID <= l.barrier {
		return fmt.Errorf("enter barrier %d: the last one was %d", b.ID, l.barrier)
	}
	l.barrier = b.ID
	l.pending = append(l.pending, cut{Barrier: b, position: l.position})
	return nil
}

// Aborted forgets a barrier whose checkpoint will not be reported.
func (l *Ledger) Aborted(id manifest.ID) {
	l.pending = slices.DeleteFunc(l.pending, func(c cut) bool { return c.ID == id })
}

// Ready reports whether every delta of a pending checkpoint is durable.
func (l *Ledger) Ready(id manifest.ID) bool {
	c, err := l.cut(id)
	return err == nil && l.missing(c) == 0
}

func (l *Ledger) cut(id manifest.ID) (cut, error) {
	for _, c := range l.pending {
		if c.ID == id {
			return c, nil
		}
	}
	return cut{}, fmt.Errorf("checkpoint %d is not pending here, the last report was %d", id, l.reported)
}

// missing is the lowest position of a cut that a report would lack, or 0.
// Positions up to the first are the restored ones.
func (l *Ledger) missing(c cut) uint64 {
	next := l.first
	if l.named {
		next = max(next, l.bases[0].Position)
	}
	for _, d := range l.deltas {
		switch {
		case d.Position > c.position:
		case d.Position == next+1:
			next++
		case d.Position > next:
			return next + 1
		}
	}
	if next < c.position {
		return next + 1
	}
	return 0
}

// Report says what the manifest of a pending checkpoint holds for the task: a
// description of its state, and what else it keeps alive. Reports are made in
// the order of their ids; pending checkpoints below are forgotten. The caller
// owns the slices of the result but must not change what is in the bases.
func (l *Ledger) Report(id manifest.ID) (*manifest.KeyedState, []manifest.Object, error) {
	c, err := l.cut(id)
	if err != nil {
		return nil, nil, fmt.Errorf("report: %w", err)
	}
	if p := l.missing(c); p != 0 {
		return nil, nil, fmt.Errorf("report checkpoint %d: position %d: %w", id, p, ErrIncomplete)
	}
	l.supersede(c)
	l.reported = id
	l.pending = slices.DeleteFunc(l.pending, func(p cut) bool { return p.ID <= id })

	keyed := l.state(c)
	reserved := l.reserve(c, keyed)
	l.index()
	return keyed, reserved, nil
}

// supersede lets the newest base that a cut may name take the place of what
// it was made of. A base holds no more than the cut does: one that is ahead of
// its checkpoint would restore the future. Cuts and ids only rise, so that no
// later report needs what is dropped here.
func (l *Ledger) supersede(c cut) {
	newest := -1
	for i, b := range l.bases {
		if b.Position <= c.position && b.id <= c.ID {
			newest = i
		}
	}
	if newest >= 0 {
		for _, b := range l.bases[:newest] {
			l.past = append(l.past, b.objects...)
		}
		l.bases = slices.Delete(l.bases, 0, newest)
		l.pieces, l.named = nil, true
		position := l.bases[0].Position
		l.deltas = slices.DeleteFunc(l.deltas, func(d delta) bool {
			if d.Position <= position {
				l.past = append(l.past, object{d.Object, d.id})
			}
			return d.Position <= position
		})
	}
	// A pending checkpoint names what its base keeps alive or what has an id
	// above it. No report has to repeat the rest.
	l.past = slices.DeleteFunc(l.past, func(o object) bool { return o.id <= c.OldestBase })
}

// state describes the task's state at a cut.
func (l *Ledger) state(c cut) *manifest.KeyedState {
	s := &manifest.KeyedState{KeyGroups: l.opts.KeyGroups}
	if l.named {
		b := l.bases[0].Base // a copy: the slice moves
		s.Pieces = []manifest.Piece{{KeyGroups: l.opts.KeyGroups, Base: &b}}
	} else {
		s.Pieces = slices.Clone(l.pieces)
	}
	for _, d := range l.deltas {
		if d.Position <= c.position {
			s.Deltas = append(s.Deltas, d.Delta)
		}
	}
	return s
}

// reserve lists what a later report may name besides, and what a checkpoint
// that is pending now may have named. An object with an id above the
// checkpoint's is left out: nothing can take it away before a higher
// checkpoint is committed, whose report will have it.
func (l *Ledger) reserve(c cut, named *manifest.KeyedState) []manifest.Object {
	if c.Last {
		return nil
	}
	seen := make(map[string]bool)
	for o := range named.NeededObjects() {
		seen[o.Key] = true
	}
	var out []manifest.Object
	for o := range l.all() {
		if o.id <= c.ID && !seen[o.Key] {
			seen[o.Key] = true
			out = append(out, o.Object)
		}
	}
	if l.run == nil {
		return out
	}
	for _, o := range l.run.uploads {
		if o.id <= c.ID {
			out = append(out, manifest.Object{Key: o.Key, Size: o.Size}) // Unfinished
		}
	}
	return out
}
