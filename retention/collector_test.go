package retention_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
	"github.com/ckpt-io/ckpt/retention"
)

func (w *world) collector() *retention.Collector {
	return retention.NewCollector(w.cat, w.store, retention.CollectorOptions{Epoch: w.owner.Epoch()})
}

func (w *world) collect(c *retention.Collector) retention.Result {
	w.t.Helper()
	res, err := c.Collect(w.t.Context(), w.owner.Head())
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// TestB34_CollectorListsNoData: after each commit exactly what the retired
// checkpoint held alone goes, manifest first, at the cost of two requests
// beside the deletions, and of none if nothing was retired.
func TestB34_CollectorListsNoData(t *testing.T) {
	w := newWorld(t)
	c := w.collector()
	shared, a := w.upload(1), w.upload(1)
	e1, m1 := w.commit(1, objects(shared, a))
	w.collect(c)
	c.Committed(e1, m1)
	b := w.upload(2)
	e2, m2 := w.commit(2, objects(shared, b), 1)
	c.Committed(e2, m2)

	w.store.Forget()
	res := w.collect(c)
	if want := (retention.Result{Deleted: 2, DeletedBytes: a.Size + e1.ManifestSize}); res != want {
		t.Errorf("result %+v, want %+v", res, want)
	}
	w.wantStored(e2, shared, b)
	var got []string
	for _, call := range w.store.Calls() {
		got = append(got, call.String())
	}
	want := []string{"list pins/", "get HEAD", "delete " + e1.ManifestKey(), "get HEAD", "delete " + a.Key}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	w.store.Forget()
	w.collect(c)
	if calls := w.store.Calls(); len(calls) != 0 {
		t.Errorf("nothing to do, but %v", calls)
	}
}

// TestB39_CollectorAfterRestart: what the owner before committed counts.
func TestB39_CollectorAfterRestart(t *testing.T) {
	w := newWorld(t)
	shared, a := w.upload(1), w.upload(1)
	w.commit(1, objects(shared, a))
	w.takeOver()
	c := w.collector()
	w.collect(c)
	b := w.upload(2)
	e2, _ := w.commit(2, objects(shared, b), 1) // Committed is not called: read back
	w.collect(c)
	w.wantStored(e2, shared, b)
}

func TestCollectorPutsOffPinned(t *testing.T) {
	w := newWorld(t)
	c := w.collector()
	a := w.upload(1)
	e1, _ := w.commit(1, objects(a))
	w.collect(c)
	release := w.pin(1)
	e2, _ := w.commit(2, nil, 1)
	w.collect(c)
	pins := w.stored()[len(w.stored())-1]
	w.wantStored(e1, e2, a, pins)
	release()
	w.collect(c)
	w.wantStored(e2)
}

// TestCollectorSeesOldPins: what an unlinked checkpoint that was pinned before
// this owner started shares with a later one is kept.
func TestCollectorSeesOldPins(t *testing.T) {
	w := newWorld(t)
	shared := w.upload(1)
	e1, _ := w.commit(1, objects(shared))
	release := w.pin(1)
	w.commit(2, objects(shared), 1)
	w.takeOver()
	c := w.collector()
	w.collect(c)
	e3, _ := w.commit(3, nil, 2)
	w.collect(c)
	pin := w.stored()[len(w.stored())-1]
	w.wantStored(e1, e3, shared, pin)
	release()
	w.collect(c)
	w.wantStored(e3)
}

// TestCollectorSeesForeignUnlink: the command line unlinks beside the owner.
func TestCollectorSeesForeignUnlink(t *testing.T) {
	w := newWorld(t)
	c := w.collector()
	a := w.upload(1)
	w.commit(1, objects(a))
	e2, _ := w.commit(2, nil)
	w.collect(c)
	if _, err := catalog.New(w.mem, "job").Unlink(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	e3, _ := w.commit(3, nil)
	w.collect(c)
	w.wantStored(e2, e3)
}

func TestF39_CollectorTriesAgain(t *testing.T) {
	w := newWorld(t)
	c := w.collector()
	a := w.upload(1)
	w.commit(1, objects(a))
	w.collect(c)
	e2, _ := w.commit(2, nil, 1)
	for _, prefix := range []string{"^manifests/", "^data/"} {
		w.store.Add(storetest.Rule{Op: storetest.Delete, Key: prefix, Nth: 1, Do: storetest.Fail(objectstore.ErrUnavailable)})
	}
	wantWaiting := []int{2, 1, 0}
	for round, want := range wantWaiting {
		_, err := c.Collect(t.Context(), w.owner.Head())
		if (err != nil) != (want > 0) {
			t.Errorf("round %d: %v", round, err)
		}
		if got := c.Waiting(); got != want {
			t.Errorf("round %d: %d waiting, want %d", round, got, want)
		}
		manifestsGoFirst(t, w)
	}
	w.wantStored(e2)
}

func TestF23_CollectorOfAReplacedOwner(t *testing.T) {
	w := newWorld(t)
	c := w.collector()
	a := w.upload(1)
	w.commit(1, objects(a))
	w.collect(c)
	w.commit(2, nil, 1)
	head := w.owner.Head()
	before := len(w.stored())
	w.takeOver()
	if _, err := c.Collect(t.Context(), head); !errors.Is(err, catalog.ErrFenced) {
		t.Errorf("Collect with the old HEAD: %v, want ErrFenced", err)
	}
	if _, err := c.Collect(t.Context(), w.owner.Head()); !errors.Is(err, catalog.ErrFenced) {
		t.Errorf("Collect with the new HEAD: %v, want ErrFenced", err)
	}
	if _, err := c.Sweep(t.Context()); !errors.Is(err, catalog.ErrFenced) {
		t.Errorf("Sweep: %v, want ErrFenced", err)
	}
	if after := len(w.stored()); after != before {
		t.Errorf("%d objects stored, %d before", after, before)
	}
}

// TestCollectorSweepsBesideCommits runs sweeps and collects beside a job that
// commits and aborts.
func TestCollectorSweepsBesideCommits(t *testing.T) {
	w := newWorld(t)
	w.upload(7)
	w.takeOver()
	c := w.collector()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := c.Sweep(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	shared := w.upload(1)
	var last []manifest.Object
	for id := manifest.ID(1); id <= 50; id++ {
		w.upload(id) // aborted
		needs := append(objects(shared, w.upload(id)), last...)
		var retire []manifest.ID
		if id > 2 {
			retire = append(retire, id-2)
		}
		e, m := w.commit(id, needs, retire...)
		c.Committed(e, m)
		w.collect(c)
		w.wantWhole()
		last = needs[1:2]
	}
	close(stop)
	wg.Wait()
	if _, err := c.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Two manifests, the shared object and three of their own.
	if got := w.stored(); len(got) != 6 {
		t.Errorf("%d objects left, want 6: %q", len(got), got)
	}
	w.wantWhole()
}

// TestCollectorKnowsCommitsDuringItsFirstLook: the first look at the store has
// read HEAD when two commits happen, and the first of them is pinned and
// unlinked by the second. What it holds must count, though HEAD never shows it.
func TestCollectorKnowsCommitsDuringItsFirstLook(t *testing.T) {
	w := newWorld(t)
	shared := w.upload(1)
	w.commit(1, objects(shared))
	c := w.collector()
	var e2 catalog.Entry
	w.store.Add(storetest.Rule{Op: storetest.Get, Key: "manifest$", Nth: 1, Do: storetest.At(storetest.Before,
		func(context.Context, storetest.Call) error {
			w.store.ClearRules()
			var m *manifest.Manifest
			e2, m = w.commit(2, objects(shared))
			c.Committed(e2, m)
			w.pin(2)
			e3, m := w.commit(3, nil, 1, 2)
			c.Committed(e3, m)
			return nil
		})})
	// A sweep, as at every start, looks first; its plan comes from a later look.
	if _, err := c.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.collect(c)
	kept := w.stored()
	for _, key := range []string{e2.ManifestKey(), shared.Key} {
		if !slices.Contains(kept, key) {
			t.Errorf("%s of a pinned checkpoint was deleted; left: %q", key, kept)
		}
	}
}

// TestCollectorMeetsUnknownPins: a checkpoint that came and went between two
// Collects, of which the collector was not told, is pinned.
func TestCollectorMeetsUnknownPins(t *testing.T) {
	w := newWorld(t)
	c := w.collector()
	shared := w.upload(1)
	w.commit(1, objects(shared))
	w.collect(c)
	e2, _ := w.commit(2, objects(shared))
	release := w.pin(2)
	e3, _ := w.commit(3, nil, 1, 2)
	w.collect(c)
	pin := w.stored()[len(w.stored())-1]
	w.wantStored(e2, e3, shared, pin)
	release()
	w.collect(c)
	w.wantStored(e3)
}

// TestCollectorOldHead: a HEAD from before a commit that the collector was told
// of says nothing against that commit.
func TestCollectorOldHead(t *testing.T) {
	w := newWorld(t)
	c := w.collector()
	a, b := w.upload(1), w.upload(2)
	e1, m1 := w.commit(1, objects(a))
	c.Committed(e1, m1)
	old := w.owner.Head()
	e2, m2 := w.commit(2, objects(b))
	c.Committed(e2, m2)
	if _, err := c.Collect(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	w.wantStored(e1, e2, a, b)
}

// TestCollectorOfAnotherEpoch is refused even if nothing is to be deleted.
func TestCollectorOfAnotherEpoch(t *testing.T) {
	w := newWorld(t)
	c := w.collector()
	w.collect(c)
	w.takeOver()
	if _, err := c.Collect(t.Context(), w.owner.Head()); !errors.Is(err, catalog.ErrFenced) {
		t.Errorf("error %v, want ErrFenced", err)
	}
}

// TestCollectorRetiresSeveral: all manifests go before any data.
func TestCollectorRetiresSeveral(t *testing.T) {
	w := newWorld(t)
	c := w.collector()
	w.commit(1, objects(w.upload(1)))
	w.commit(2, objects(w.upload(2)))
	w.collect(c)
	e3, _ := w.commit(3, nil, 1, 2)
	if res := w.collect(c); res.Deleted != 4 {
		t.Errorf("%d deleted, want 4", res.Deleted)
	}
	w.wantStored(e3)
}

func TestCollectorExpiredPin(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.mem.Now = func() time.Time { return now }
	c := w.collector()
	w.commit(1, objects(w.upload(1)))
	w.collect(c)
	w.pin(1)
	now = now.Add(time.Hour)
	e2, _ := w.commit(2, nil, 1)
	w.collect(c)
	pin := w.stored()[len(w.stored())-1]
	w.wantStored(e2, pin)
}
