package retention_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
	"github.com/ckpt-io/ckpt/retention"
)

// newPackedWorld has manifests whose task stands in a pack.
func newPackedWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.parts = manifest.PartsOptions{Inline: 1}
	w.takeOver()
	return w
}

func (w *world) packKey(id manifest.ID) string {
	return manifest.PackName{ID: id, Epoch: w.owner.Epoch()}.Key()
}

// commitOn commits checkpoint id on base with the same swap unlinking retire.
func (w *world) commitOn(id, base manifest.ID, needs []manifest.Object, retire ...manifest.ID) (catalog.Entry, *manifest.Manifest) {
	w.t.Helper()
	m := w.newManifest(id, base, manifest.Periodic, needs...)
	e, err := w.owner.Commit(w.t.Context(), m, func(catalog.Head) []manifest.ID { return retire })
	if err != nil {
		w.t.Fatal(err)
	}
	return e, m
}

// TestB69_PackGoesWithItsLastReference: a pack that several checkpoints refer to
// stays until the last of them is retired, whether a collector was told of
// them, reads them back, or a plan looks at everything.
func TestB69_PackGoesWithItsLastReference(t *testing.T) {
	for _, way := range []string{"told", "read back", "plan"} {
		t.Run(way, func(t *testing.T) {
			w := newPackedWorld(t)
			c := w.collector()
			if way != "plan" {
				w.collect(c)
			}
			settle := func(e catalog.Entry, m *manifest.Manifest) {
				t.Helper()
				switch way {
				case "told":
					c.Committed(e, m)
					w.collect(c)
				case "read back":
					w.collect(c)
				default:
					plan, err := retention.NewPlan(t.Context(), w.cat, w.store)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := retention.Apply(t.Context(), w.cat, w.store, plan, retention.ApplyOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				w.wantWhole()
			}
			a := w.upload(1)
			settle(w.commitOn(1, 0, objects(a)))
			e2, m2 := w.commitOn(2, 1, objects(a), 1)
			settle(e2, m2)
			w.wantStored(e2, a, w.packKey(1))
			b := w.upload(3)
			e3, m3 := w.commitOn(3, 2, objects(a, b), 2)
			settle(e3, m3)
			w.wantStored(e3, a, b, w.packKey(3))
		})
	}
}

// TestF4_F24_OrphanedPacks: a pack whose manifest was never committed waits
// while its checkpoint may be under way, and goes once a newer one is committed
// or its owner was replaced.
func TestF4_F24_OrphanedPacks(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		w := newPackedWorld(t)
		w.commitOn(1, 0, objects(w.upload(1)))
		w.store.Add(storetest.Rule{Op: storetest.Put, Key: "^manifests/", Do: storetest.Fail(objectstore.ErrPermission)})
		m := w.newManifest(2, 1, manifest.Periodic, w.upload(2))
		if _, err := w.owner.Commit(t.Context(), m, nil); !errors.Is(err, objectstore.ErrPermission) {
			t.Fatal(err)
		}
		w.store.ClearRules()
		orphan := w.packKey(2)
		want := retention.InFlight
		check := func() {
			t.Helper()
			plan, err := retention.NewPlan(t.Context(), w.cat, w.store)
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range append(plan.Deletes, plan.Waiting...) {
				if it.Key == orphan && it.Reason == want {
					return
				}
			}
			t.Errorf("the orphan is not %s in %+v", want, plan)
		}
		check()
		if replaced {
			want = retention.EarlierEpoch
			w.takeOver()
		} else {
			want = retention.Unused
			w.commitOn(3, 1, objects(w.upload(3)))
		}
		check()
		if _, err := w.collector().Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.wantWhole()
		for _, key := range w.stored() {
			if key == orphan {
				t.Error("the sweep left it")
			}
		}
	}
}

// TestF52_UnreadablePackStopsDeletion: what a manifest with a damaged pack names
// is unknown, so nothing is known to be garbage.
func TestF52_UnreadablePackStopsDeletion(t *testing.T) {
	w := newPackedWorld(t)
	w.commitOn(1, 0, objects(w.upload(1)))
	w.upload(1)
	if err := w.mem.Delete(t.Context(), w.packKey(1)); err != nil {
		t.Fatal(err)
	}
	_, err := retention.NewPlan(t.Context(), w.cat, w.store)
	if corrupt, ok := errors.AsType[*manifest.CorruptError](err); !ok || corrupt.Key != w.packKey(1) {
		t.Errorf("got %v, want a CorruptError that names the pack", err)
	}
	if _, err := w.collector().Sweep(t.Context()); !errors.Is(err, manifest.ErrCorrupt) {
		t.Errorf("sweep: %v", err)
	}
}

// TestB69_PinnedPack: the packs of an unlinked checkpoint stay while it is read.
func TestB69_PinnedPack(t *testing.T) {
	w := newPackedWorld(t)
	e1, _ := w.commitOn(1, 0, objects(w.upload(1)))
	release := w.pin(1)
	b := w.upload(2)
	e2, _ := w.commitOn(2, 1, objects(b), 1)
	c := w.collector()
	if _, err := c.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.cat.Manifest(t.Context(), e1); err != nil {
		t.Errorf("the pinned checkpoint: %v", err)
	}
	release()
	if _, err := c.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wantStored(e2, b, w.packKey(2))
}

// TestPlanFile_Packs: a plan that was kept in a file may name packs.
func TestPlanFile_Packs(t *testing.T) {
	w := newPackedWorld(t)
	w.commitOn(1, 0, objects(w.upload(1)))
	w.commitOn(2, 1, objects(w.upload(2)), 1)
	plan, err := retention.NewPlan(t.Context(), w.cat, w.store)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := plan.Encode(&text); err != nil {
		t.Fatal(err)
	}
	back, err := retention.DecodePlan(strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), w.packKey(1)) || len(back.Deletes) != len(plan.Deletes) {
		t.Errorf("plan %+v", back)
	}
}

// TestB69_SharedPartsAreReadOnce: planning reads a pack that live checkpoints
// share once, and a collector that was told of all commits reads none.
func TestB69_SharedPartsAreReadOnce(t *testing.T) {
	w := newPackedWorld(t)
	c := w.collector()
	w.collect(c)
	a := w.upload(1)
	for id := manifest.ID(1); id <= 4; id++ {
		needs := objects(a)
		if id == 4 {
			needs = append(needs, w.upload(4))
		}
		e, m := w.commitOn(id, id-1, needs)
		c.Committed(e, m)
	}
	packs := func() (n int) {
		for _, call := range w.store.Calls() {
			if call.Op == storetest.Get && strings.HasSuffix(call.Key, ".parts") {
				n++
			}
		}
		return n
	}
	w.store.Forget()
	if _, err := retention.NewPlan(t.Context(), w.cat, w.store); err != nil {
		t.Fatal(err)
	}
	if n := packs(); n != 2 {
		t.Errorf("the plan read %d packs, want 2", n)
	}
	w.store.Forget()
	e, m := w.commitOn(5, 4, objects(a), 1, 2, 3)
	c.Committed(e, m)
	w.collect(c)
	if n := packs(); n != 0 {
		t.Errorf("the collector read %d packs", n)
	}
	w.wantWhole()
}
