package catalog

import (
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// allPacked has every task stand in a pack.
var allPacked = manifest.PartsOptions{Inline: 1}

func takeOverPacked(t testing.TB, c *Catalog) *Owner {
	t.Helper()
	o, err := c.TakeOver(t.Context(), TakeOverOptions{Parts: allPacked})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// packed is a checkpoint with a task for each of versions: the ids of the
// checkpoints that changed them last.
func packed(o *Owner, id, base manifest.ID, versions ...manifest.ID) *manifest.Manifest {
	m := checkpoint(o, id, base)
	op := manifest.Operator{UID: "op", Parallelism: len(versions), MaxParallelism: len(versions), Hasher: "h"}
	for i, v := range versions {
		key := manifest.DataName{ID: v, Epoch: 1, Operator: "op", Subtask: i, N: 1, Ext: manifest.ExtSST}.Key()
		kg := uint16(i)
		op.Tasks = append(op.Tasks, manifest.Task{
			Index: i, Stats: manifest.TaskStats{Total: 1, NewBytes: int64(id)},
			Keyed: &manifest.KeyedState{
				KeyGroups: manifest.KeyGroupRange{First: kg, Last: kg},
				Deltas:    []manifest.Delta{{Position: uint64(v), Object: manifest.Object{Key: key, Size: 1, SHA256: digest([]byte(key))}}},
			},
		})
	}
	m.Operators = []manifest.Operator{op}
	return m
}

func commitPacked(t testing.TB, o *Owner, m *manifest.Manifest, retire ...manifest.ID) Entry {
	t.Helper()
	e, err := o.Commit(t.Context(), m, func(Head) []manifest.ID { return retire })
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func packKey(id manifest.ID, e manifest.Epoch, n uint64) string {
	return manifest.PackName{ID: id, Epoch: e, N: n}.Key()
}

// wantPacks fails unless m refers to these packs.
func wantPacks(t testing.TB, m *manifest.Manifest, want ...string) {
	t.Helper()
	var got []string
	for _, p := range m.Packs {
		got = append(got, p.Key)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("packs of checkpoint %d are %q, want %q", m.ID, got, want)
	}
}

// wantRead fails unless a checkpoint reads as it was committed.
func wantRead(t testing.TB, c *Catalog, e Entry, want *manifest.Manifest) {
	t.Helper()
	got, err := c.Manifest(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("checkpoint %d reads as %+v\nwant %+v", e.ID, got, want)
	}
}

// TestParts_OrderOfWrites: packs first, then the manifest, then HEAD; no read,
// no list, and no pack for tasks that are as they were.
func TestParts_OrderOfWrites(t *testing.T) {
	w := newWorld()
	c := w.catalog()
	o := takeOverPacked(t, c)
	commitPacked(t, o, packed(o, 1, 0, 1, 1, 1))
	for _, step := range []struct {
		m    *manifest.Manifest
		pack bool
	}{{packed(o, 2, 1, 1, 2, 1), true}, {packed(o, 3, 2, 1, 2, 1), false}} {
		w.Forget()
		e := commitPacked(t, o, step.m)
		want := []string{"put " + e.ManifestKey() + " if-absent", "put HEAD if-match"}
		if step.pack {
			want = append([]string{"put " + packKey(e.ID, 1, 0) + " if-absent"}, want...)
		}
		if got := w.calls(); !slices.Equal(got, want) {
			t.Errorf("calls are %q, want %q", got, want)
		}
		wantPacks(t, step.m, packKey(1, 1, 0), packKey(2, 1, 0))
		wantRead(t, w.catalog(), e, step.m)
	}
}

// TestParts_AfterTakeOver: the next owner refers to the packs of the one before.
// It reads the base's manifest once, and not at all if its catalog has done so.
func TestParts_AfterTakeOver(t *testing.T) {
	for name, restored := range map[string]bool{"restored": true, "not read before": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			o := takeOverPacked(t, w.catalog())
			e := commitPacked(t, o, packed(o, 1, 0, 1, 1))
			c := w.catalog()
			if restored {
				if _, err := c.Manifest(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			o = takeOverPacked(t, c)
			w.Forget()
			m := packed(o, 2, 1, 1, 1)
			commitPacked(t, o, m)
			wantPacks(t, m, packKey(1, 1, 0))
			read := slices.Contains(w.calls(), "get "+e.ManifestKey())
			if read == restored {
				t.Errorf("calls are %q", w.calls())
			}
		})
	}
}

// TestParts_BaseThatCannotBeRead: then every part is written again.
func TestParts_BaseThatCannotBeRead(t *testing.T) {
	w := newWorld()
	o := takeOverPacked(t, w.catalog())
	e := commitPacked(t, o, packed(o, 1, 0, 1, 1))
	o = takeOverPacked(t, w.catalog())
	w.Add(head(e.ManifestKey(), storetest.Get, storetest.Fail(objectstore.ErrUnavailable)))
	m := packed(o, 2, 1, 1, 1)
	e = commitPacked(t, o, m)
	wantPacks(t, m, packKey(2, 2, 0))
	w.ClearRules()
	wantRead(t, w.catalog(), e, m)
}

// TestF16_F17_PackOfUnknownOutcome: the pack is there once, however its writes
// went.
func TestF16_F17_PackOfUnknownOutcome(t *testing.T) {
	for name, do := range map[string]storetest.Action{
		"answer lost": storetest.LoseAnswer(), "request lost": storetest.LoseRequest(), "lands later": storetest.LandLater(),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world, _ *Owner) {
				o := takeOverPacked(t, w.catalog())
				key := packKey(2, o.Epoch(), 0)
				w.Add(nth(1, head(key, storetest.Put, do)))
				m := packed(o, 2, 1, 1, 1)
				e := commitPacked(t, o, m)
				before := w.bytesOf(t, key)
				w.Land(t.Context())
				if !slices.Equal(w.bytesOf(t, key), before) {
					t.Error("a late write changed the pack")
				}
				wantPacks(t, m, key)
				wantRead(t, w.catalog(), e, m)
			})
		})
	}
}

// TestF6_BetweenPackAndManifest: what is left is garbage, and the same
// checkpoint, or a later one, can be committed over it.
func TestF6_BetweenPackAndManifest(t *testing.T) {
	for name, versions := range map[string][]manifest.ID{"same content": {2, 2}, "other content": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world, _ *Owner) {
				o := takeOverPacked(t, w.catalog())
				w.Add(head(manifest.ManifestKey(2, o.Epoch()), storetest.Put, storetest.Fail(objectstore.ErrPermission)))
				if _, err := o.Commit(t.Context(), packed(o, 2, 1, 2, 2), nil); !errors.Is(err, objectstore.ErrPermission) {
					t.Fatalf("got %v", err)
				}
				wantIDs(t, readHead(t, w.catalog()), 1)
				w.bytesOf(t, packKey(2, o.Epoch(), 0)) // the orphan
				w.ClearRules()
				m := packed(o, 2, 1, versions...)
				e := commitPacked(t, o, m)
				wantPacks(t, m, packKey(2, o.Epoch(), uint64(len(slices.Compact(slices.Clone(versions)))-1)))
				wantRead(t, w.catalog(), e, m)
				m = packed(o, 3, 2, versions...)
				wantRead(t, w.catalog(), commitPacked(t, o, m), m)
			})
		})
	}
}

// TestF28_ForeignPack: a name that somebody else has taken is passed over and
// never overwritten.
func TestF28_ForeignPack(t *testing.T) {
	w := newWorld()
	o := takeOverPacked(t, w.catalog())
	key := packKey(1, 1, 0)
	w.place(t, key, []byte("not ours"))
	m := packed(o, 1, 0, 1, 1)
	e := commitPacked(t, o, m)
	wantPacks(t, m, packKey(1, 1, 1))
	wantRead(t, w.catalog(), e, m)
	if got := string(w.bytesOf(t, key)); got != "not ours" {
		t.Errorf("it was overwritten with %q", got)
	}
}

// TestParts_CommitAgain: a manifest with packs that was committed already is no
// error, also when its base is gone, and nothing is written for it.
func TestParts_CommitAgain(t *testing.T) {
	w := newWorld()
	o := takeOverPacked(t, w.catalog())
	commitPacked(t, o, packed(o, 1, 0, 1, 1, 1))
	m := packed(o, 2, 1, 1, 2, 1)
	first := commitPacked(t, o, m, 1)
	w.Forget()
	again, err := o.Commit(t.Context(), m, nil)
	if err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("got %+v, %v; want %+v", again, err, first)
	}
	if got := w.calls(); len(got) != 0 {
		t.Errorf("calls are %q", got)
	}
	// Another one of that id is refused.
	if _, err := o.Commit(t.Context(), packed(o, 2, 1, 1, 2, 2), nil); err == nil || !strings.Contains(err.Error(), "not above") {
		t.Errorf("another checkpoint 2: %v", err)
	}
}

// TestF64_PacksOfAnUnlinkedBase: a checkpoint that refers to packs of a base
// which the command line unlinked meanwhile is refused.
func TestF64_PacksOfAnUnlinkedBase(t *testing.T) {
	w := newWorld()
	o := takeOverPacked(t, w.catalog())
	commitPacked(t, o, packed(o, 1, 0, 1, 1))
	commitPacked(t, o, packed(o, 2, 0, 2, 2))
	if _, err := w.catalog().Unlink(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Commit(t.Context(), packed(o, 3, 1, 1, 1), nil); !errors.Is(err, ErrBaseGone) {
		t.Errorf("got %v, want ErrBaseGone", err)
	}
}

// TestParts_NothingForWhatCannotBe: no pack is written for a checkpoint that is
// refused anyway.
func TestParts_NothingForWhatCannotBe(t *testing.T) {
	w := newWorld()
	o := takeOverPacked(t, w.catalog())
	commitPacked(t, o, packed(o, 2, 0, 1, 1))
	w.Forget()
	for _, m := range []*manifest.Manifest{packed(o, 1, 0, 1, 1), packed(o, 3, 1, 1, 1)} {
		if _, err := o.Commit(t.Context(), m, nil); err == nil {
			t.Errorf("checkpoint %d was committed", m.ID)
		}
	}
	if got := w.calls(); len(got) != 0 {
		t.Errorf("calls are %q", got)
	}
}

// TestF50_DamagedPack: the error names the pack.
func TestF50_DamagedPack(t *testing.T) {
	for name, damage := range map[string]func(*testing.T, *world, string){
		"missing": func(t *testing.T, w *world, key string) {
			if err := w.past.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		},
		"byte flipped": func(t *testing.T, w *world, key string) {
			data := w.bytesOf(t, key)
			data[len(data)/2]++
			w.place(t, key, data)
		},
		"too long":  func(t *testing.T, w *world, key string) { w.place(t, key, append(w.bytesOf(t, key), 0)) },
		"too short": func(t *testing.T, w *world, key string) { w.place(t, key, w.bytesOf(t, key)[1:]) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			o := takeOverPacked(t, w.catalog())
			commitPacked(t, o, packed(o, 1, 0, 1, 1))
			e := commitPacked(t, o, packed(o, 2, 1, 1, 2))
			key := packKey(1, 1, 0)
			damage(t, w, key)
			_, err := w.catalog().Manifest(t.Context(), e)
			corrupt, ok := errors.AsType[*CorruptError](err)
			if !ok || corrupt.Key != key {
				t.Errorf("got %v, want a CorruptError that names %s", err, key)
			}
			if missing := name == "missing"; errors.Is(err, fs.ErrNotExist) != missing {
				t.Errorf("%v: says that the pack does not exist: %v", err, !missing)
			}
		})
	}
}

// TestB69_SwitchedOnAndOff: owners whose manifests stand whole and owners whose
// tasks stand in packs follow each other; none rewrites what did not change.
func TestB69_SwitchedOnAndOff(t *testing.T) {
	w := newWorld()
	for id, parts := range []manifest.PartsOptions{allPacked, {}, allPacked, {}, {}, allPacked} {
		o, err := w.catalog().TakeOver(t.Context(), TakeOverOptions{Parts: parts})
		if err != nil {
			t.Fatal(err)
		}
		next := manifest.ID(id + 1)
		m := packed(o, next, next-1, 1, 1, min(next, 3))
		e := commitPacked(t, o, m)
		wantRead(t, w.catalog(), e, m)
		switch next {
		case 2: // only the third task changed, and stands in the manifest
			wantPacks(t, m, packKey(1, 1, 0))
		case 3: // it changed again, and is packed
			wantPacks(t, m, packKey(1, 1, 0), packKey(3, 3, 0))
		case 5, 6:
			wantPacks(t, m, packKey(1, 1, 0), packKey(3, 3, 0))
		}
	}
}
