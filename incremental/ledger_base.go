package incremental

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ckpt-io/ckpt/manifest"
)

// base is a finished one.
type base struct {
	manifest.Base
	id      manifest.ID // the highest of its objects'
	objects []object
}

// run is a base under way.
type run struct {
	position uint64
	objects  []object
	uploads  []object // under way
}

var errNoBase = errors.New("no base is under way")

// StartBase begins a base that holds every delta up to a position, and none
// after it. One is made at a time.
func (l *Ledger) StartBase(position uint64) error {
	if l.run != nil {
		return errors.New("start base: another one is under way")
	}
	if n := len(l.bases); position > l.position || n > 0 && position < l.bases[n-1].Position {
		return fmt.Errorf("start base: position %d is out of order", position)
	}
	l.run = &run{position: position}
	return nil
}

// AddFile enters an object of the base under way: one that BeginFile gave and
// that has just become durable, or one that Find gave. ErrOvertaken refuses the
// latter when a report was made meanwhile that let go of it.
func (l *Ledger) AddFile(o manifest.Object) error {
	if l.run == nil {
		return fmt.Errorf("add file: %w", errNoBase)
	}
	if i := slices.IndexFunc(l.run.uploads, func(u object) bool { return u.Object == o }); i >= 0 {
		l.run.objects = append(l.run.objects, l.run.uploads[i])
		l.held[o.SHA256] = l.run.uploads[i]
		l.run.uploads = slices.Delete(l.run.uploads, i, i+1)
		return nil
	}
	if have, ok := l.held[o.SHA256]; ok && have.Object == o {
		l.run.objects = append(l.run.objects, have)
		return nil
	}
	return fmt.Errorf("add file: %w: %s, the last report is %d", ErrOvertaken, o.Key, l.reported)
}

// FinishBase enters the base under way as complete. Each of its objects was
// added before.
func (l *Ledger) FinishBase(b manifest.Base) error {
	if l.run == nil || b.Position != l.run.position {
		return fmt.Errorf("finish base: none at position %d is under way", b.Position)
	}
	added := make(map[manifest.Object]manifest.ID, len(l.run.objects))
	for _, o := range l.run.objects {
		added[o.Object] = o.id
	}
	done := base{Base: b}
	for o := range (&manifest.KeyedState{Pieces: []manifest.Piece{{Base: &b}}}).NeededObjects() {
		id, ok := added[o]
		if !ok {
			return fmt.Errorf("finish base: %s was not added", o.Key)
		}
		done.id = max(done.id, id)
		done.objects = append(done.objects, object{o, id})
	}
	l.bases = append(l.bases, done)
	// A pending checkpoint may have reserved what this base had no use for.
	l.past = append(l.past, l.spare...)
	l.run, l.spare = nil, nil
	l.index()
	return nil
}

// CancelBase gives up the base under way. What was uploaded of it stays
// reserved for the next one; what is still being uploaded is let go.
func (l *Ledger) CancelBase() {
	if l.run == nil {
		return
	}
	for _, o := range l.run.objects {
		if !slices.Contains(l.spare, o) {
			l.spare = append(l.spare, o)
		}
	}
	l.run = nil
}

// Chain says how far the newest state is from its base.
type Chain struct {
	Deltas     int   // over the newest base, or over the restored pieces and in them
	DeltaBytes int64 // their stored bytes
	Changed    int64 // their keys and values before compression
	BaseBytes  int64 // stored bytes of that base, or of the pieces' bases
	Pieces     int   // 1, or more in a state composed by Rescale
}

// Chain weighs the newest state, for whoever decides when a base is due.
func (l *Ledger) Chain() (c Chain) {
	var after uint64
	pieces := l.pieces
	if n := len(l.bases); n > 0 {
		newest := &l.bases[n-1].Base
		after = newest.Position
		pieces = []manifest.Piece{{Base: newest}}
	}
	c.Pieces = len(pieces)
	for _, p := range pieces {
		if p.Base != nil {
			c.BaseBytes += baseBytes(p.Base)
		}
		for _, d := range p.Deltas {
			c.Deltas++
			c.DeltaBytes += d.Object.Size
			c.Changed += d.Bytes
		}
	}
	for _, d := range l.deltas {
		if d.Position > after {
			c.Deltas++
			c.DeltaBytes += d.Object.Size
			c.Changed += d.Bytes
		}
	}
	return c
}

// baseBytes are the stored bytes of a base, inline files included.
func baseBytes(b *manifest.Base) (n int64) {
	for _, f := range b.Files {
		n += f.Object.Size + int64(len(f.Inline))
	}
	return n
}

// SetRemote says which restored objects the local database still reads from the
// store. Every report names or reserves them, also when a base has taken the
// place of what was restored, until it is called again with fewer or none.
func (l *Ledger) SetRemote(objects []manifest.Object) {
	l.remote = nil
	for _, o := range objects {
		l.remote = append(l.remote, object{Object: o})
	}
	l.index()
}
