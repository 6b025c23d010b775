package retention_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
	"github.com/ckpt-io/ckpt/retention"
)

// retired is a job of which checkpoints 1 and 2 are unlinked and everything
// of theirs is still stored, with what is to stay.
func retired(t *testing.T) (w *world, stays []any) {
	w = newWorld(t)
	shared, a, b, c := w.upload(1), w.upload(1), w.upload(2), w.upload(2)
	w.commit(1, objects(shared, a))
	w.commit(2, objects(shared, b, c))
	d := w.upload(3)
	e3, _ := w.commit(3, objects(shared, d), 1, 2)
	return w, []any{e3, shared, d}
}

func TestApplyDeletesManifestsFirst(t *testing.T) {
	w, stays := retired(t)
	p := w.plan()
	w.store.Forget()
	var seen []retention.Progress
	res, err := retention.Apply(t.Context(), w.cat, w.store, p, retention.ApplyOptions{
		Batch: 2, Progress: func(p retention.Progress) { seen = append(seen, p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := (retention.Result{Deleted: 5, DeletedBytes: p.Bytes()}); res != want {
		t.Errorf("result %+v, want %+v", res, want)
	}
	w.wantStored(stays...)
	var got []string
	for _, c := range w.store.Calls() {
		what := string(c.Op) + " " + c.Key
		if c.Op == storetest.Delete {
			what = fmt.Sprintf("delete %d of %s", len(c.Keys), c.Key[:strings.Index(c.Key, "/")])
		}
		got = append(got, what)
	}
	want := []string{
		"get HEAD", "delete 2 of manifests",
		"get HEAD", "delete 2 of data",
		"get HEAD", "delete 1 of data",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if last := seen[len(seen)-1]; len(seen) != 3 || last.Done != 5 || last.Total != 5 || last.DoneBytes != last.TotalBytes {
		t.Errorf("progress %+v", seen)
	}
}

// TestF10_F11_CutOffAnywhere stops an Apply at every phase of every store call,
// as the death of the process does, and runs a new plan.
func TestF10_F11_CutOffAnywhere(t *testing.T) {
	for _, phase := range []storetest.Phase{storetest.Before, storetest.Middle, storetest.After} {
		for nth := 1; nth <= 3; nth++ {
			t.Run(fmt.Sprintf("%s %d", phase, nth), func(t *testing.T) {
				w, stays := retired(t)
				p := w.plan()
				ctx, die := context.WithCancel(t.Context())
				w.store.Add(storetest.Rule{Op: storetest.Delete, Nth: nth, Do: storetest.At(phase,
					func(context.Context, storetest.Call) error { die(); return context.Canceled })})
				if _, err := retention.Apply(ctx, w.cat, w.store, p, retention.ApplyOptions{Batch: 2}); !errors.Is(err, context.Canceled) {
					t.Errorf("cut off: %v, want context.Canceled", err)
				}
				w.wantWhole()
				manifestsGoFirst(t, w)
				w.apply(w.plan())
				w.wantStored(stays...)
			})
		}
	}
}

// manifestsGoFirst fails if a manifest is stored whose objects are not all
// there.
func manifestsGoFirst(t *testing.T, w *world) {
	t.Helper()
	for _, key := range w.stored() {
		if !strings.HasPrefix(key, manifest.ManifestsPrefix) {
			continue
		}
		data, _, err := objectstore.ReadAll(context.WithoutCancel(t.Context()), w.mem, key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		m, err := manifest.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		for o := range m.Objects() {
			if _, err := w.mem.Stat(context.WithoutCancel(t.Context()), o.Key); err != nil {
				t.Errorf("%s is there, its object %s is not", key, o.Key)
			}
		}
	}
}

// TestF39_F42_SomeDeletesFail: what could not be deleted is counted, named and
// in the next plan.
func TestF39_F42_SomeDeletesFail(t *testing.T) {
	w, stays := retired(t)
	p := w.plan()
	victim := p.Deletes[len(p.Deletes)-1].Key
	partly := &objectstore.DeleteError{Failed: map[string]error{victim: objectstore.ErrPermission}}
	w.store.Add(storetest.Rule{Op: storetest.Delete, Key: victim, Nth: 1, Do: storetest.At(storetest.Before,
		func(ctx context.Context, c storetest.Call) error {
			for _, k := range c.Keys {
				if k != victim {
					_ = w.mem.Delete(ctx, k)
				}
			}
			return partly
		})})
	res, err := retention.Apply(t.Context(), w.cat, w.store, p, retention.ApplyOptions{})
	var failed *objectstore.DeleteError
	if !errors.As(err, &failed) || len(failed.Failed) != 1 || failed.Failed[victim] == nil || !errors.Is(err, objectstore.ErrPermission) {
		t.Errorf("error %v, want one that names %s", err, victim)
	}
	if res.Failed != 1 || res.Deleted != 4 {
		t.Errorf("result %+v, want 4 deleted, 1 failed", res)
	}
	w.wantStored(append(stays, victim)...)
	w.apply(w.plan())
	w.wantStored(stays...)
}

// TestApplyKeepsDataOfAManifestThatStays: data goes after manifests only.
func TestApplyKeepsDataOfAManifestThatStays(t *testing.T) {
	w, stays := retired(t)
	p := w.plan()
	w.store.Add(storetest.Rule{Op: storetest.Delete, Key: "^manifests/", Nth: 1, Do: storetest.Fail(objectstore.ErrUnavailable)})
	res, err := retention.Apply(t.Context(), w.cat, w.store, p, retention.ApplyOptions{Batch: 1})
	if !errors.Is(err, objectstore.ErrUnavailable) || res.Deleted != 1 || res.Failed != 1 {
		t.Errorf("result %+v, error %v; want 1 manifest deleted, 1 failed", res, err)
	}
	manifestsGoFirst(t, w)
	w.apply(w.plan())
	w.wantStored(stays...)
}

// TestF21_F23_ReplacedOwnerDeletesNothing: HEAD is read before each batch.
func TestF21_F23_ReplacedOwnerDeletesNothing(t *testing.T) {
	w, stays := retired(t)
	p := w.plan()
	epoch := w.owner.Epoch()
	before := w.stored()
	w.takeOver()
	_, err := retention.Apply(t.Context(), w.cat, w.store, p, retention.ApplyOptions{Epoch: epoch})
	if !errors.Is(err, catalog.ErrFenced) {
		t.Errorf("error %v, want ErrFenced", err)
	}
	if after := w.stored(); len(after) != len(before) {
		t.Errorf("a replaced owner deleted: %q, before %q", after, before)
	}
	// Without an epoch to keep to, the plan is still right.
	w.apply(p)
	w.wantStored(stays...)
}

func TestF23_FencedBetweenBatches(t *testing.T) {
	w, _ := retired(t)
	p := w.plan()
	epoch := w.owner.Epoch()
	w.store.Add(storetest.Rule{Op: storetest.Delete, Nth: 1, Do: storetest.At(storetest.After,
		func(context.Context, storetest.Call) error { w.takeOver(); return nil })})
	res, err := retention.Apply(t.Context(), w.cat, w.store, p, retention.ApplyOptions{Batch: 2, Epoch: epoch})
	if !errors.Is(err, catalog.ErrFenced) || res.Deleted != 2 {
		t.Errorf("result %+v, error %v; want ErrFenced after 2", res, err)
	}
	w.wantWhole()
}

// TestLatePlan applies a plan long after it was made: the job has gone on under
// another owner, which built on the newest checkpoint.
func TestLatePlan(t *testing.T) {
	w, _ := retired(t)
	w.upload(4) // in flight when the plan is made
	p := w.plan()
	w.takeOver()
	_, e3, err := w.cat.Resolve(t.Context(), "3")
	if err != nil {
		t.Fatal(err)
	}
	m3, err := w.cat.Manifest(t.Context(), e3)
	if err != nil {
		t.Fatal(err)
	}
	var needs []manifest.Object
	for o := range m3.Operators[0].Tasks[0].Keyed.NeededObjects() {
		needs = append(needs, o)
	}
	needs = append(needs, w.upload(4))
	if _, err := w.owner.Commit(t.Context(), w.newManifest(4, 3, manifest.Periodic, needs...), nil); err != nil {
		t.Fatal(err)
	}
	w.apply(p)
	w.wantWhole()
}

func TestF27_PlanOfAJobMadeAnew(t *testing.T) {
	w, _ := retired(t)
	p := w.plan()
	for _, key := range append(w.stored(), manifest.HeadKey) {
		w.delete(key)
	}
	w.takeOver()
	a := w.upload(1)
	e1, _ := w.commit(1, objects(a))
	if _, err := retention.Apply(t.Context(), w.cat, w.store, p, retention.ApplyOptions{}); !errors.Is(err, retention.ErrOtherJob) {
		t.Errorf("Apply: %v, want ErrOtherJob", err)
	}
	if _, err := p.Recheck(t.Context(), w.cat, w.store); !errors.Is(err, retention.ErrOtherJob) {
		t.Errorf("Recheck: %v, want ErrOtherJob", err)
	}
	w.wantStored(e1, a)
}

// TestF72_TwoAtOnce: planning changes nothing, and two that plan and apply at
// the same time leave what one leaves.
func TestF72_TwoAtOnce(t *testing.T) {
	w, stays := retired(t)
	before := w.stored()
	w.plan()
	if after := w.stored(); len(after) != len(before) {
		t.Fatalf("planning deleted: %q, before %q", after, before)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			p, err := retention.NewPlan(t.Context(), w.cat, w.store)
			if err == nil {
				_, err = retention.Apply(t.Context(), w.cat, w.store, p, retention.ApplyOptions{Batch: 1})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.wantStored(stays...)
}

// TestF73_NoOrphansLeft: many lives, each of which uploads more than it commits,
// then quiet and one gc.
func TestF73_NoOrphansLeft(t *testing.T) {
	w := newWorld(t)
	var stays []any
	id := manifest.ID(0)
	for life := range 30 {
		w.takeOver()
		for range life % 4 {
			id++
			needs := objects(w.upload(id), w.upload(id))
			w.upload(id) // aborted
			var retire []manifest.ID
			if head := w.owner.Head(); len(head.Checkpoints) >= 2 {
				retire = append(retire, head.Checkpoints[0].ID)
			}
			e, _ := w.commit(id, needs, retire...)
			stays = append(stays, e, needs[0], needs[1])
		}
		w.upload(id + 1)
		w.put(manifest.ManifestKey(id+1, w.owner.Epoch())) // died before the swap
	}
	w.takeOver()
	w.apply(w.plan())
	w.wantStored(stays[len(stays)-6:]...)
	if p := w.plan(); len(p.Deletes)+len(p.Waiting) != 0 {
		t.Errorf("after gc: %+v", p)
	}
}

func TestRecheckDropsWhatIsKept(t *testing.T) {
	w, stays := retired(t)
	p := w.plan()
	n := len(p.Deletes)
	flying := w.upload(4)
	_, e3, _ := w.cat.Resolve(t.Context(), "latest")
	shared := stays[1].(manifest.Object)
	p.Deletes = append([]retention.Item{{Key: e3.ManifestKey()}}, append(p.Deletes,
		retention.Item{Key: shared.Key}, retention.Item{Key: flying.Key}, retention.Item{Key: "data/README"})...)
	got, err := p.Recheck(t.Context(), w.cat, w.store)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Deletes) != n {
		t.Errorf("rechecked %v, want the %d of the plan", got.Deletes, n)
	}
	w.apply(got)
	w.wantStored(append(stays, flying)...)
}

func TestDecodePlanRefuses(t *testing.T) {
	const head = `{"format":1,"job":"job","uuid":"u","epoch":1,"newest":1,"deletes":[`
	data := manifest.DataName{ID: 1, Epoch: 1, Operator: "count", Ext: manifest.ExtSST}.Key()
	item := func(key string) string { return fmt.Sprintf(`{"key":%q,"size":1,"reason":"unused"}`, key) }
	if _, err := retention.DecodePlan(strings.NewReader(head + item(data) + `]}`)); err != nil {
		t.Fatalf("a good plan: %v", err)
	}
	tests := map[string]string{
		"empty":                 ``,
		"not JSON":              `deletes: all`,
		"cut":                   head + item(data),
		"other format":          `{"format":2,"job":"job","uuid":"u"}`,
		"unknown field":         `{"format":1,"job":"job","uuid":"u","force":true}`,
		"no job":                `{"format":1,"uuid":"u"}`,
		"no uuid":               `{"format":1,"job":"job"}`,
		"HEAD":                  head + item("HEAD") + `]}`,
		"another job":           head + item("../other/"+data) + `]}`,
		"savepoint":             head + item("savepoints/x/manifest") + `]}`,
		"foreign":               head + item("data/README") + `]}`,
		"probe escapes":         head + item("probe/../HEAD") + `]}`,
		"negative size":         head + `{"key":"` + data + `","size":-1,"reason":"unused"}]}`,
		"manifest after data":   head + item(data) + "," + item(manifest.ManifestKey(1, 1)) + `]}`,
		"manifest badly spelt":  head + item("manifests/1-1.manifest") + `]}`,
		"data in wrong bucket":  head + item("data/zz/"+data[len("data/zz/"):]) + `]}`,
		"something after a pin": head + item("pins/000000000001-n/x/../../../HEAD") + `]}`,
	}
	for name, text := range tests {
		if p, err := retention.DecodePlan(strings.NewReader(text)); !errors.Is(err, retention.ErrBadPlan) {
			t.Errorf("%s: plan %+v, error %v; want ErrBadPlan", name, p, err)
		}
	}
}

func FuzzDecodePlan(f *testing.F) {
	f.Add(`{"format":1,"job":"job","uuid":"u","deletes":[{"key":"probe/x","size":0,"reason":"leftover"}]}`)
	f.Add(`{"format":1,"job":"job","uuid":"u","deletes":[{"key":"HEAD"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := retention.DecodePlan(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, it := range p.Deletes {
			if it.Key == manifest.HeadKey || strings.Contains(it.Key, "..") || it.Size < 0 {
				t.Errorf("accepted %+v", it)
			}
		}
	})
}
