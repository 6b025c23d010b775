package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// signal is what the coordinator tells a task.
type signal struct {
	trigger *coordinator.Trigger
	aborted manifest.ID
}

// work is a closed set of changes, to be stored and ingested as one delta.
type work struct {
	position uint64
	changes  table
}

// task is one subtask of the simulated operator. Its ledger is used as
// engine/state uses it.
type task struct {
	p     *process
	index int
	kgs   manifest.KeyGroupRange
	inbox chan signal
	rng   *rand.Rand // the main goroutine's

	// The main goroutine's.
	values  state
	changes table
	last    manifest.ID // barrier seen
	stopped bool        // it was that of the last checkpoint
	quiet   int         // turns in which nothing is written

	mu       sync.Mutex
	ledger   *incremental.Ledger
	queue    []work // to be ingested
	wake     chan struct{}
	reports  []coordinator.Trigger // to be reported, in order
	ingested state                 // what Pebble would hold
	position uint64                // of the last delta in it
	final    bool                  // the last barrier was captured
	newest   *manifest.Base
}

// run writes, captures and signals until ctx ends.
func (t *task) run(ctx context.Context) {
	for {
		timer := time.NewTimer(time.Duration(t.rng.Int64N(int64(200 * time.Millisecond))))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case s := <-t.inbox:
			timer.Stop()
			t.signal(s)
		case <-timer.C:
			t.write()
		}
	}
}

// write changes a few keys, and now and then closes the set of changes early,
// as an overlay over its limit does.
func (t *task) write() {
	if t.stopped {
		return
	}
	if t.quiet > 0 {
		t.quiet--
		return
	}
	if t.rng.IntN(15) == 0 {
		t.quiet = t.rng.IntN(80) // so that its part of the manifest stays as it is
	}
	for range 1 + t.rng.IntN(3) {
		groups := int(t.kgs.Last-t.kgs.First) + 1
		key := keyOf(t.kgs.First+uint16(t.rng.IntN(groups)), t.rng.IntN(3))
		if t.rng.IntN(5) == 0 {
			delete(t.values, key)
			t.changes[key] = nil
			continue
		}
		v := fmt.Sprintf("%d.%d.%d", t.p.owner.Epoch(), t.index, t.rng.Uint32())
		t.values[key] = v
		t.changes[key] = &v
	}
	if t.rng.IntN(8) == 0 {
		t.mu.Lock()
		t.freeze()
		t.mu.Unlock()
	}
}

// freeze closes the set of changes. Called with mu held.
func (t *task) freeze() {
	if len(t.changes) == 0 {
		return
	}
	t.queue = append(t.queue, work{position: t.ledger.NextPosition(), changes: t.changes})
	t.changes = table{}
	t.wakeUp()
}

func (t *task) wakeUp() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *task) signal(s signal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.trigger == nil {
		t.ledger.Aborted(s.aborted)
		t.reports = slices.DeleteFunc(t.reports, func(r coordinator.Trigger) bool { return r.ID == s.aborted })
		t.wakeUp()
		return
	}
	tr := *s.trigger
	if tr.ID <= t.last { // doubled, or overtaken by a later one
		return
	}
	t.last = tr.ID
	t.p.w.cut(cutKey{tr.Epoch, tr.ID, t.index}, t.values)
	t.freeze()
	last := tr.Kind == manifest.Final || tr.Kind == manifest.Stop
	if err := t.ledger.Barrier(incremental.Barrier{ID: tr.ID, OldestBase: tr.OldestBase, Last: last}); err != nil {
		t.p.w.violation("task %d: %v", t.index, err)
		return
	}
	if last {
		t.stopped, t.final = true, true
		t.ledger.CancelBase()
	}
	t.reports = append(t.reports, tr)
	t.wakeUp()
}

// background ingests deltas in order, has them uploaded side by side, and
// reports the checkpoints whose deltas are all durable.
func (t *task) background(ctx context.Context, r *rand.Rand) {
	var uploads sync.WaitGroup
	defer uploads.Wait()
	for {
		t.mu.Lock()
		for _, w := range t.queue {
			key := t.ledger.DeltaName(w.position).Key()
			t.ingested.apply(w.changes)
			t.position = w.position
			uploads.Go(func() { t.upload(ctx, key, w) })
		}
		t.queue = nil
		t.mu.Unlock()
		t.report(ctx, r)
		select {
		case <-t.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (t *task) upload(ctx context.Context, key string, w work) {
	data := encode(w.changes)
	o, err := t.p.put(ctx, key, data)
	if err != nil {
		return // ctx ended
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ledger.AddDelta(manifest.Delta{Position: w.position, Object: o, Entries: int64(len(w.changes)), Bytes: int64(len(data))}); err != nil {
		t.p.w.violation("task %d: %v", t.index, err)
	}
	t.wakeUp()
}

// report sends what can be reported, in the order of the barriers.
func (t *task) report(ctx context.Context, r *rand.Rand) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.reports) > 0 {
		tr := t.reports[0]
		if !t.ledger.Ready(tr.ID) {
			return
		}
		t.reports = t.reports[1:]
		keyed, reserved, err := t.ledger.Report(tr.ID)
		if err != nil {
			t.p.w.violation("task %d: %v", t.index, err)
			continue
		}
		switch {
		case t.p.w.opts.Break == NoReservations:
			reserved = nil
		case t.p.w.opts.Break == ForgetUploads:
			reserved = slices.DeleteFunc(reserved, manifest.Object.Unfinished)
		case t.p.w.opts.Break == KeepFewer:
			reserved = above(reserved, tr.OldestBase)
		case t.p.w.opts.Break == FutureBase && t.newest != nil:
			keyed = future(keyed, t.newest)
		}
		t.p.send(ctx, r, coordinator.Report{
			Task: coordinator.TaskID{Operator: "op", Subtask: t.index}, ID: tr.ID, Epoch: tr.Epoch,
			State: manifest.Task{Index: t.index, Keyed: keyed, Reserved: reserved},
		})
	}
}

// above keeps the objects with ids above the oldest base: the least that
// reports must reserve.
func above(objects []manifest.Object, oldest manifest.ID) []manifest.Object {
	return slices.DeleteFunc(objects, func(o manifest.Object) bool {
		n, err := manifest.ParseDataKey(o.Key)
		return err == nil && n.ID <= oldest
	})
}

// future is the control that names the newest base whatever the cut.
func future(k *manifest.KeyedState, base *manifest.Base) *manifest.KeyedState {
	out := &manifest.KeyedState{KeyGroups: k.KeyGroups, Pieces: []manifest.Piece{{KeyGroups: k.KeyGroups, Base: base}}}
	for _, d := range k.Deltas {
		if d.Position > base.Position {
			out.Deltas = append(out.Deltas, d)
		}
	}
	return out
}

// materialize makes bases, slowly.
func (t *task) materialize(ctx context.Context, r *rand.Rand) {
	for pause(ctx, r, 3*time.Second) == nil {
		t.mu.Lock()
		idle := t.newest != nil && t.newest.Position == t.position && r.IntN(4) != 0
		if t.final || idle || t.ledger.StartBase(t.position) != nil {
			t.mu.Unlock()
			continue
		}
		content, position := maps.Clone(t.ingested), t.position
		t.mu.Unlock()
		base, err := t.base(ctx, r, content, position)
		t.mu.Lock()
		switch {
		case err != nil || r.IntN(6) == 0 || t.final:
			t.ledger.CancelBase()
		case t.ledger.FinishBase(base) == nil:
			if t.newest = &base; t.p.w.opts.Break == FutureBase {
				t.newest = t.p.w.earlier(base)
			}
			t.p.w.count(func(s *Stats) { s.Bases++ })
		}
		t.mu.Unlock()
	}
}

// base uploads the files of a base.
func (t *task) base(ctx context.Context, r *rand.Rand, content state, position uint64) (manifest.Base, error) {
	out := manifest.Base{Position: position, FormatMajorVersion: 1}
	slow := time.Second
	if r.IntN(2) == 0 {
		slow = 50 * time.Millisecond
	}
	files := make([]table, 1+r.IntN(3))
	for i := range files {
		files[i] = table{}
	}
	for i, k := range sortedKeys(content) {
		v := content[k]
		files[i%len(files)][k] = &v
	}
	for i, f := range files {
		if err := pause(ctx, r, slow); err != nil {
			return out, err
		}
		o, err := t.baseFile(ctx, encode(f))
		if err != nil {
			return out, err
		}
		out.Files = append(out.Files, manifest.File{Name: fmt.Sprintf("%06d.sst", i+1), Object: o})
	}
	return out, nil
}

// earlier is a base with the same content under names with ids one lower, for
// the control that names it too early: a manifest refuses names from its future.
func (w *world) earlier(b manifest.Base) *manifest.Base {
	store := objectstore.Prefix(w.store, jobName)
	b.Files = slices.Clone(b.Files)
	for i, f := range b.Files {
		n, err := manifest.ParseDataKey(f.Object.Key)
		if err != nil || n.ID <= 1 {
			continue
		}
		n.ID--
		data, _, err := objectstore.ReadAll(context.Background(), store, f.Object.Key, f.Object.Size)
		if err == nil {
			_, err = store.Put(context.Background(), n.Key(), objectstore.Bytes(data), objectstore.PutOptions{})
		}
		if err == nil {
			b.Files[i].Object.Key = n.Key()
		}
	}
	return &b
}

// baseFile stores one file, or finds it.
func (t *task) baseFile(ctx context.Context, data []byte) (manifest.Object, error) {
	for {
		t.mu.Lock()
		if t.final { // canceled: what gets a name now would outlive the job
			t.mu.Unlock()
			return manifest.Object{}, context.Canceled
		}
		o, have := t.ledger.Find(int64(len(data)), digest(data))
		var err error
		if !have {
			o, err = t.ledger.BeginFile(int64(len(data)), digest(data), manifest.ExtSST)
		}
		t.mu.Unlock()
		if err != nil {
			return o, err // no base is under way: canceled
		}
		if !have {
			if o, err = t.p.put(ctx, o.Key, data); err != nil {
				return o, err
			}
		}
		t.mu.Lock()
		err = t.ledger.AddFile(o)
		t.mu.Unlock()
		if !errors.Is(err, incremental.ErrOvertaken) {
			return o, err
		}
	}
}

// put stores an object, settling unknown outcomes by reading back.
func (p *process) put(ctx context.Context, key string, data []byte) (manifest.Object, error) {
	o := manifest.Object{Key: key, Size: int64(len(data)), SHA256: digest(data)}
	for {
		_, err := p.store.Put(ctx, key, objectstore.Bytes(data), objectstore.PutOptions{IfAbsent: true})
		if err == nil {
			return o, nil
		}
		if there, _, readErr := objectstore.ReadAll(ctx, p.store, key, 1<<20); readErr == nil && digest(there) == o.SHA256 {
			return o, nil
		}
		select {
		case <-ctx.Done():
			return o, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
