package retention_test

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
	"github.com/ckpt-io/ckpt/retention"
)

func (w *world) plan(unlink ...manifest.ID) *retention.Plan {
	w.t.Helper()
	p, err := retention.NewPlan(w.t.Context(), w.cat, w.store, unlink...)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) apply(p *retention.Plan) retention.Result {
	w.t.Helper()
	res, err := retention.Apply(w.t.Context(), w.cat, w.store, p, retention.ApplyOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// reasons maps each key of items to its reason.
func reasons(items []retention.Item) map[string]retention.Reason {
	out := make(map[string]retention.Reason)
	for _, it := range items {
		out[it.Key] = it.Reason
	}
	return out
}

// TestPlan has one object of every sort.
func TestPlan(t *testing.T) {
	w := newWorld(t)
	fenced := w.upload(5) // of epoch 1, for a checkpoint that never came
	w.takeOver()
	shared, old, cur := w.upload(1), w.upload(1), w.upload(2)
	aborted := w.upload(2)
	e1, _ := w.commit(1, objects(shared, old))
	e2, _ := w.commit(2, objects(shared, cur), 1)
	flying := w.upload(3)
	later := w.put(manifest.DataName{ID: 1, Epoch: w.owner.Epoch() + 1, Operator: "count", Ext: manifest.ExtSST}.Key())
	nextManifest := w.put(manifest.ManifestKey(3, w.owner.Epoch()))
	foreign := w.put("data/README")
	w.put("other/thing") // not ours to look at

	p := w.plan()
	wantDeletes := map[string]retention.Reason{
		e1.ManifestKey(): retention.Unlisted,
		old.Key:          retention.Unused,
		aborted.Key:      retention.Unused,
		fenced.Key:       retention.EarlierEpoch,
	}
	if got := reasons(p.Deletes); !reflect.DeepEqual(got, wantDeletes) {
		t.Errorf("deletes %v, want %v", got, wantDeletes)
	}
	wantWaiting := map[string]retention.Reason{
		flying.Key:       retention.InFlight,
		later.Key:        retention.InFlight,
		nextManifest.Key: retention.InFlight,
	}
	if got := reasons(p.Waiting); !reflect.DeepEqual(got, wantWaiting) {
		t.Errorf("waiting %v, want %v", got, wantWaiting)
	}
	if len(p.Foreign) != 1 || p.Foreign[0] != foreign.Key {
		t.Errorf("foreign %q, want %q", p.Foreign, foreign.Key)
	}
	if p.Newest != 2 || len(p.Live) != 1 || p.Live[0] != 2 || p.Epoch != w.owner.Epoch() {
		t.Errorf("plan of %+v", p)
	}
	if want := old.Size + aborted.Size + fenced.Size + e1.ManifestSize; p.Bytes() != want {
		t.Errorf("bytes %d, want %d", p.Bytes(), want)
	}
	w.apply(p)
	w.wantStored(e2, shared, cur, flying, later, nextManifest, foreign, "other/thing")
}

func TestB34_SharedObjectGoesWithItsLastHolder(t *testing.T) {
	w := newWorld(t)
	shared, own1, own2 := w.upload(1), w.upload(1), w.upload(2)
	w.commit(1, objects(shared, own1))
	e2, _ := w.commit(2, objects(shared, own2), 1)
	w.apply(w.plan())
	w.wantStored(e2, shared, own2)
	own3 := w.upload(3)
	e3, _ := w.commit(3, objects(own3), 2)
	w.store.Forget()
	w.apply(w.plan())
	w.wantStored(e3, own3)
	deletions := 0
	for _, c := range w.store.Calls() {
		if c.Op == storetest.Delete {
			for _, k := range c.Keys {
				if k == shared.Key {
					deletions++
				}
			}
		}
	}
	if deletions != 1 {
		t.Errorf("shared object deleted %d times, want once", deletions)
	}
}

func TestB37_ObjectsOfAnAbortedCheckpointGoWithTheNext(t *testing.T) {
	w := newWorld(t)
	a := w.upload(1)
	e1, _ := w.commit(1, objects(a))
	aborted := w.upload(2)
	w.apply(w.plan())
	w.wantStored(e1, a, aborted)
	b := w.upload(3)
	e3, _ := w.commit(3, objects(a, b))
	w.apply(w.plan())
	w.wantStored(e1, e3, a, b)
}

func TestB39_RestartDeletesNothingRetained(t *testing.T) {
	w := newWorld(t)
	a, b := w.upload(1), w.upload(2)
	e1, _ := w.commit(1, objects(a))
	e2, _ := w.commit(2, objects(a, b))
	w.takeOver()
	w.apply(w.plan())
	w.wantStored(e1, e2, a, b)
}

// TestReservedObjectsStay: a reservation keeps an object as a reference does.
func TestReservedObjectsStay(t *testing.T) {
	w := newWorld(t)
	base := w.upload(1)
	m := w.newManifest(1, 0, manifest.Periodic)
	m.Operators[0].Tasks[0].Reserved = objects(base)
	e1, err := w.owner.Commit(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.takeOver()
	w.apply(w.plan())
	w.wantStored(e1, base)
}

// TestF63_BaseOfAPendingCheckpoint: an object that the pending checkpoint 3
// takes over from its base 2 survives the retirement of 1, wherever between the
// steps of the commit the plan is made and applied.
func TestF63_BaseOfAPendingCheckpoint(t *testing.T) {
	for step := range 3 {
		w := newWorld(t)
		shared := w.upload(1)
		w.commit(1, objects(shared))
		w.commit(2, objects(shared), 1)
		p := w.plan()
		if step == 0 {
			w.apply(p)
		}
		own := w.upload(3)
		if step == 1 {
			w.apply(w.plan())
		}
		m := w.newManifest(3, 2, manifest.Periodic, shared, own)
		if _, err := w.owner.Commit(t.Context(), m, func(catalog.Head) []manifest.ID { return []manifest.ID{2} }); err != nil {
			t.Fatal(err)
		}
		if step == 2 {
			w.apply(p)
		}
		w.wantWhole()
	}
}

// TestF70_NoClock: how old an object seems to be decides nothing.
func TestF70_NoClock(t *testing.T) {
	for _, skew := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		w := newWorld(t)
		now := time.Now()
		w.mem.Now = func() time.Time { return now }
		a, garbage, flying := w.upload(1), w.upload(1), w.upload(2)
		e1, _ := w.commit(1, objects(a))
		now = now.Add(skew)
		p := w.plan()
		if len(p.Deletes) != 1 || p.Deletes[0].Key != garbage.Key {
			t.Errorf("skew %v: deletes %v, want %s", skew, p.Deletes, garbage.Key)
		}
		w.apply(p)
		w.wantStored(e1, a, flying)
	}
}

func TestF36_NoPlanFromAnIncompleteList(t *testing.T) {
	for _, prefix := range []string{"^manifests/", "^data/", "^pins/"} {
		for _, phase := range []storetest.Phase{storetest.Before, storetest.Middle, storetest.After} {
			w := newWorld(t)
			a, _ := w.upload(1), w.upload(1)
			w.commit(1, objects(a))
			w.pin(1)
			w.store.Add(storetest.Rule{Op: storetest.List, Key: prefix, Do: storetest.At(phase,
				func(context.Context, storetest.Call) error { return objectstore.ErrUnavailable })})
			if p, err := retention.NewPlan(t.Context(), w.cat, w.store); !errors.Is(err, objectstore.ErrUnavailable) {
				t.Errorf("list %s broken %s: plan %v, error %v", prefix, phase, p, err)
			}
		}
	}
}

// TestB32_F52_UnreadableManifestStopsPlanning: what a listed manifest names is
// unknown if it cannot be read.
func TestB32_F52_UnreadableManifestStopsPlanning(t *testing.T) {
	newer := &manifest.NewerFormatError{Have: 1, Want: 9}
	tests := []struct {
		name  string
		spoil func(w *world, key string)
		want  error
	}{
		{"missing", func(w *world, key string) { w.delete(key) }, manifest.ErrCorrupt},
		{"damaged", func(w *world, key string) { w.put(key) }, manifest.ErrCorrupt},
		{"unreachable", func(w *world, key string) {
			w.store.Add(storetest.Rule{Op: storetest.Get, Key: "^manifests/", Do: storetest.Fail(objectstore.ErrUnavailable)})
		}, objectstore.ErrUnavailable},
		{"newer", func(w *world, key string) {
			w.store.Add(storetest.Rule{Op: storetest.Get, Key: "^manifests/", Do: storetest.Fail(newer)})
		}, manifest.ErrNewerFormat},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.upload(1), w.upload(2)
			e1, _ := w.commit(1, objects(a))
			w.commit(2, objects(b))
			tt.spoil(w, e1.ManifestKey())
			before := w.stored()
			if _, err := retention.NewPlan(t.Context(), w.cat, w.store); !errors.Is(err, tt.want) {
				t.Errorf("NewPlan error %v, want %v", err, tt.want)
			}
			c := retention.NewCollector(w.cat, w.store, retention.CollectorOptions{Epoch: w.owner.Epoch()})
			if _, err := c.Sweep(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("Sweep error %v, want %v", err, tt.want)
			}
			if after := w.stored(); !reflect.DeepEqual(before, after) {
				t.Errorf("stored %q, before %q", after, before)
			}
		})
	}
}

func (w *world) delete(key string) {
	w.t.Helper()
	if err := w.mem.Delete(w.t.Context(), key); err != nil {
		w.t.Fatal(err)
	}
}

func TestPlanWithoutHead(t *testing.T) {
	w := newWorld(t)
	w.upload(1)
	w.delete(manifest.HeadKey)
	if _, err := retention.NewPlan(t.Context(), w.cat, w.store); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
}

// TestPlanRereadsHead: another process unlinks and deletes a checkpoint between
// the planner's reads of HEAD and of the manifest.
func TestPlanRereadsHead(t *testing.T) {
	w := newWorld(t)
	a, b := w.upload(1), w.upload(2)
	e1, _ := w.commit(1, objects(a))
	e2, _ := w.commit(2, objects(b))
	w.store.Add(storetest.Rule{Op: storetest.Get, Key: e1.ManifestKey(), Nth: 1, Do: storetest.At(storetest.Before,
		func(ctx context.Context, _ storetest.Call) error {
			other := catalog.New(w.mem, "job")
			if _, err := other.Unlink(ctx, 1); err != nil {
				return err
			}
			return w.mem.Delete(ctx, e1.ManifestKey())
		})})
	w.apply(w.plan())
	w.wantStored(e2, b)
}

func TestPlanPinned(t *testing.T) {
	w := newWorld(t)
	shared, own, next := w.upload(1), w.upload(1), w.upload(2)
	e1, _ := w.commit(1, objects(shared, own))
	release := w.pin(1)
	e2, _ := w.commit(2, objects(next), 1)
	p := w.plan()
	if len(p.Deletes) != 0 || len(p.Pinned) != 1 || p.Pinned[0] != 1 {
		t.Errorf("plan %+v, want nothing deleted and 1 pinned", p)
	}
	if got := reasons(p.Waiting); got[e1.ManifestKey()] != retention.Pinned {
		t.Errorf("waiting %v, want the manifest of 1", got)
	}
	release()
	w.apply(w.plan())
	w.wantStored(e2, next)
}

func TestPlanExpiredPin(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.mem.Now = func() time.Time { return now }
	own, next := w.upload(1), w.upload(2)
	w.commit(1, objects(own))
	w.pin(1)
	e2, _ := w.commit(2, objects(next), 1)
	now = now.Add(time.Hour)
	w.apply(w.plan())
	w.wantStored(e2, next)
}

func TestPlanLeftoversOfProbe(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.mem.Now = func() time.Time { return now }
	w.put("probe/old")
	now = now.Add(2 * time.Hour)
	fresh := w.put("probe/new")
	w.apply(w.plan())
	w.wantStored(fresh)
}

func TestPlanAsIfUnlinked(t *testing.T) {
	w := newWorld(t)
	a, b := w.upload(1), w.upload(2)
	e1, _ := w.commit(1, objects(a))
	e2, _ := w.commit(2, objects(b))
	p := w.plan(1)
	if got := reasons(p.Deletes); len(got) != 2 || got[a.Key] != retention.Unused || got[e1.ManifestKey()] != retention.Unlisted {
		t.Errorf("deletes %v, want all of 1", got)
	}
	if _, err := retention.Apply(t.Context(), w.cat, w.store, p, retention.ApplyOptions{}); !errors.Is(err, retention.ErrStillListed) {
		t.Errorf("Apply before unlinking: %v, want ErrStillListed", err)
	}
	w.wantStored(e1, e2, a, b)
	if _, err := w.cat.Unlink(t.Context(), p.Unlink...); err != nil {
		t.Fatal(err)
	}
	w.apply(p)
	w.wantStored(e2, b)
}

func TestPlanRoundTrip(t *testing.T) {
	w := newWorld(t)
	a := w.upload(1)
	w.upload(1)
	w.commit(1, objects(a))
	w.upload(2)
	p := w.plan()
	var buf bytes.Buffer
	if err := p.Encode(&buf); err != nil {
		t.Fatal(err)
	}
	got, err := retention.DecodePlan(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, p) {
		t.Errorf("decoded %+v, want %+v", got, p)
	}
}
