package incremental

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
)

// world is one task, its coordinator, a store and an eager retention, reduced
// to what R6 and R7 speak of. Everything happens in steps drawn by a seed.
type world struct {
	r             *rand.Rand
	pendingLimit  int
	keep          int
	slow          bool // files of bases are uploaded over many reports
	dropReserved  bool // a control: manifests reserve nothing
	dropUploads   bool // a control: manifests do not reserve what is being uploaded
	store         map[string]bool
	live          []checkpoint // committed and kept, ascending
	pending       []checkpoint // triggered, ascending
	epoch         manifest.Epoch
	next, newest  manifest.ID
	ledger        *Ledger
	uploads       []upload // under way
	ingested      uint64
	named         int // checkpoints committed that name a base of their own
	late          int // files that became durable after a report
	files         []manifest.File
	baseUploading bool
}

type checkpoint struct {
	id, base manifest.ID
	barrier  bool
	cut      uint64 // the last position it must hold
	reported bool
	arrived  bool // the report, at the coordinator
	save     bool // a savepoint: never subsumed, never retired
	keyed    *manifest.KeyedState
	reserved []manifest.Object
}

type upload struct {
	ledger   *Ledger // whose it was; a dead one's may still arrive
	object   manifest.Object
	position uint64 // 0: a file of a base
}

func newWorld(seed uint64, pendingLimit, keep int) *world {
	w := &world{
		r: rand.New(rand.NewPCG(seed, 3)), pendingLimit: pendingLimit, keep: keep,
		store: make(map[string]bool), next: 1,
	}
	w.takeOver()
	return w
}

func (w *world) takeOver() {
	w.epoch++
	w.next = w.newest + 1
	w.pending, w.files, w.baseUploading = nil, nil, false
	o := LedgerOptions{Operator: "op", Epoch: w.epoch, NextID: w.next, KeyGroups: allGroups}
	if n := len(w.live); n > 0 {
		o.Restored, o.Reserved = w.live[n-1].keyed, w.live[n-1].reserved
	}
	w.ledger = NewLedger(o)
	w.ingested = w.ledger.position
}

// step does one thing at random.
func (w *world) step() error {
	steps := []func() error{w.trigger, w.trigger, w.arrive, w.arrive, w.spill, w.land, w.land, w.land, w.report, w.report, w.deliver, w.deliver, w.commit, w.base, w.base, w.file, w.file, w.finish, w.finish, w.collect}
	switch w.r.IntN(150) {
	case 0:
		w.takeOver()
		return nil
	case 1:
		w.ledger.CancelBase()
		w.endBase()
		return nil
	case 2, 3, 4:
		return w.abort()
	}
	return steps[w.r.IntN(len(steps))]()
}

func (w *world) oldestBase() manifest.ID {
	oldest := w.newest
	for _, c := range w.pending {
		oldest = min(oldest, c.base)
	}
	return oldest
}

func (w *world) trigger() error {
	if len(w.pending) < w.pendingLimit {
		w.pending = append(w.pending, checkpoint{id: w.next, base: w.newest, save: w.r.IntN(5) == 0})
		w.next++
	}
	return nil
}

// arrive brings the oldest trigger that the task has not seen. The oldest base
// is that of the moment, at least as high as when it was triggered.
func (w *world) arrive() error {
	for i := range w.pending {
		c := &w.pending[i]
		if c.barrier {
			continue
		}
		c.barrier, c.cut = true, w.ledger.position
		return w.ledger.Barrier(Barrier{ID: c.id, OldestBase: w.oldestBase()})
	}
	return nil
}

func (w *world) spill() error {
	p := w.ledger.NextPosition()
	w.ingested = p
	o := manifest.Object{Key: w.ledger.DeltaName(p).Key(), Size: 1, SHA256: manifest.Digest{byte(p), byte(p >> 8), 1}}
	w.uploads = append(w.uploads, upload{w.ledger, o, p})
	return nil
}

// land finishes an upload, in any order.
func (w *world) land() error {
	if len(w.uploads) == 0 {
		return nil
	}
	i := w.r.IntN(len(w.uploads))
	u := w.uploads[i]
	if w.slow && u.position == 0 && w.r.IntN(4) > 0 {
		return nil
	}
	w.uploads = slices.Delete(w.uploads, i, i+1)
	w.store[u.object.Key] = true
	switch {
	case u.ledger != w.ledger:
		return nil
	case u.position > 0:
		return w.ledger.AddDelta(manifest.Delta{Position: u.position, Object: u.object})
	case !w.baseUploading:
		return nil
	}
	err := w.ledger.AddFile(u.object)
	if errors.Is(err, ErrOvertaken) {
		return nil // it is of a base that was canceled
	}
	if n, err := manifest.ParseDataKey(u.object.Key); err == nil && n.ID <= w.ledger.reported {
		w.late++
	}
	w.files = append(w.files, manifest.File{Name: fmt.Sprintf("%06d.sst", len(w.files)), Object: u.object})
	return err
}

func (w *world) report() error {
	for i := range w.pending {
		c := &w.pending[i]
		if !c.barrier || c.reported || !w.ledger.Ready(c.id) {
			continue
		}
		var err error
		c.keyed, c.reserved, err = w.ledger.Report(c.id)
		c.reported = true
		if w.dropReserved {
			c.reserved = nil
		}
		if w.dropUploads {
			c.reserved = slices.DeleteFunc(c.reserved, manifest.Object.Unfinished)
		}
		return errors.Join(err, w.checkReport(*c))
	}
	return nil
}

// checkReport wants every position up to the cut, and none past it.
func (w *world) checkReport(c checkpoint) error {
	covered := uint64(0)
	if len(c.keyed.Pieces) > 0 {
		covered = c.keyed.Pieces[0].Base.Position
	}
	for _, d := range c.keyed.Deltas {
		if d.Position != covered+1 {
			return fmt.Errorf("checkpoint %d: delta %d follows position %d", c.id, d.Position, covered)
		}
		covered = d.Position
	}
	if covered != c.cut {
		return fmt.Errorf("checkpoint %d holds position %d, its cut is %d", c.id, covered, c.cut)
	}
	for o := range c.objects() {
		if n, err := manifest.ParseDataKey(o.Key); err != nil || n.ID > c.id {
			return fmt.Errorf("checkpoint %d holds %s: %w", c.id, o.Key, err)
		}
	}
	return nil
}

func (c checkpoint) objects() func(func(manifest.Object) bool) {
	return func(yield func(manifest.Object) bool) {
		for o := range c.keyed.NeededObjects() {
			if !yield(o) {
				return
			}
		}
		for _, o := range c.reserved {
			if !yield(o) {
				return
			}
		}
	}
}

// deliver brings a report to the coordinator, in any order.
func (w *world) deliver() error {
	if n := len(w.pending); n > 0 {
		c := &w.pending[w.r.IntN(n)]
		c.arrived = c.reported
	}
	return nil
}

// commit commits the lowest that is ready. Older checkpoints are subsumed,
// older savepoints are not.
func (w *world) commit() error {
	i := slices.IndexFunc(w.pending, func(c checkpoint) bool { return c.arrived })
	if i < 0 {
		return nil
	}
	c := w.pending[i]
	w.pending = slices.DeleteFunc(w.pending, func(p checkpoint) bool {
		gone := p.id == c.id || p.id < c.id && !p.save
		if gone && p.id != c.id {
			w.ledger.Aborted(p.id)
		}
		return gone
	})
	w.live = append(w.live, c)
	w.newest = max(w.newest, c.id)
	w.retire()
	if len(c.keyed.Pieces) > 0 {
		w.named++
	}
	return nil
}

// retire keeps the newest checkpoints, and every savepoint.
func (w *world) retire() {
	slices.SortFunc(w.live, func(a, b checkpoint) int { return cmp.Compare(a.id, b.id) })
	kept := 0
	for _, c := range slices.Backward(w.live) {
		if !c.save {
			kept++
		}
		if kept > w.keep {
			w.live = slices.DeleteFunc(w.live, func(d checkpoint) bool { return !d.save && d.id <= c.id })
			return
		}
	}
}

func (w *world) abort() error {
	if len(w.pending) == 0 {
		return nil
	}
	i := w.r.IntN(len(w.pending))
	w.ledger.Aborted(w.pending[i].id)
	w.pending = slices.Delete(w.pending, i, i+1)
	return nil
}

func (w *world) base() error {
	if w.baseUploading || w.ingested == 0 {
		return nil
	}
	w.baseUploading = true
	return w.ledger.StartBase(w.ingested)
}

// file begins the upload of a file of the base, or finds it in the store.
func (w *world) file() error {
	if !w.baseUploading {
		return nil
	}
	digest := manifest.Digest{byte(w.r.IntN(30)), byte(w.r.IntN(4)), byte(w.r.IntN(2))}
	if o, ok := w.ledger.Find(1, digest); ok {
		w.files = append(w.files, manifest.File{Name: fmt.Sprintf("%06d.sst", len(w.files)), Object: o})
		return w.ledger.AddFile(o)
	}
	o, err := w.ledger.BeginFile(1, digest, manifest.ExtSST)
	if err != nil {
		return err
	}
	w.uploads = append(w.uploads, upload{ledger: w.ledger, object: o})
	return nil
}

func (w *world) finish() error {
	if !w.baseUploading || len(w.files) < 2 {
		return nil
	}
	b := manifest.Base{Position: w.ledger.run.position, Files: w.files}
	w.endBase()
	return w.ledger.FinishBase(b)
}

// endBase ends the uploads of a base, though one may land all the same.
func (w *world) endBase() {
	w.files, w.baseUploading = nil, false
	w.uploads = slices.DeleteFunc(w.uploads, func(u upload) bool { return u.position == 0 && w.r.IntN(4) > 0 })
}

// collect deletes everything that R7 lets it delete.
func (w *world) collect() error {
	keep := make(map[string]bool)
	for _, c := range w.live {
		for o := range c.objects() {
			keep[o.Key] = true
		}
	}
	for key := range w.store {
		n, err := manifest.ParseDataKey(key)
		if err != nil {
			return err
		}
		if !keep[key] && (n.ID <= w.newest || n.Epoch < w.epoch) {
			delete(w.store, key)
		}
	}
	return nil
}

// check wants every object of every live checkpoint.
func (w *world) check() error {
	for _, c := range w.live {
		for o := range c.objects() {
			if !w.store[o.Key] && !o.Unfinished() {
				return fmt.Errorf("newest %d: object %s of checkpoint %d (base %d) is gone", w.newest, o.Key, c.id, c.base)
			}
		}
	}
	return nil
}

func (w *world) run(steps int) error {
	for i := range steps {
		if err := errors.Join(w.step(), w.check()); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// Nothing that a live checkpoint names or reserves is ever deleted, with
// takeovers, aborts, subsumed checkpoints, slow uploads and bases that reuse
// objects, under a retention that deletes all it may at once.
func TestLedgerNeverDangles(t *testing.T) {
	named, late := 0, 0
	for _, c := range []struct{ pending, keep int }{{1, 1}, {1, 3}, {2, 2}, {3, 3}, {3, 5}} {
		for seed := range uint64(100) {
			w := newWorld(seed, c.pending, c.keep)
			w.slow = seed%2 == 0
			if err := w.run(1000); err != nil {
				t.Fatalf("pending %d, keep %d, seed %d: %v", c.pending, c.keep, seed, err)
			}
			named += w.named
			late += w.late
		}
	}
	if named < 1000 || late < 500 {
		t.Errorf("too little happened: %d checkpoints name a base, %d uploads took longer than a report", named, late)
	}
}

// The controls: what the rules forbid must come out as a dangling object.
func TestLedgerControls(t *testing.T) {
	broken := func(change func(*world), pending, keep int) (n int) {
		for seed := range uint64(100) {
			w := newWorld(seed, pending, keep)
			change(w)
			if w.run(1000) != nil {
				n++
			}
		}
		return n
	}
	if n := broken(func(*world) {}, 3, 1); n == 0 {
		t.Error("keeping fewer checkpoints than may be pending broke no seed")
	}
	if n := broken(func(w *world) { w.dropReserved = true }, 3, 3); n == 0 {
		t.Error("reserving nothing broke no seed")
	}
	if n := broken(func(w *world) { w.slow, w.dropUploads = true, true }, 1, 3); n == 0 {
		t.Error("reserving nothing of what is being uploaded broke no seed")
	}
}
