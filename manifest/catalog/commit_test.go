package catalog

import (
	"bytes"
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

func TestCommit_OrderOfWrites(t *testing.T) {
	w := newWorld()
	o := takeOver(t, w.catalog())
	commit(t, o, 1, 0)
	w.Forget()
	commit(t, o, 2, 1, 1)
	// No read, no list: a commit is two writes, the manifest first. Deleting
	// what it retires comes after it and is not done here.
	want := []string{
		"put manifests/000000000002-0000000001.manifest if-absent",
		"put HEAD if-match",
	}
	if got := w.calls(); !slices.Equal(got, want) {
		t.Errorf("calls are %q, want %q", got, want)
	}
	if _, err := w.past.Stat(t.Context(), manifest.ManifestKey(1, 1)); err != nil {
		t.Errorf("the manifest of the retired checkpoint: %v", err)
	}
}

func TestB16_CommitThenRead(t *testing.T) {
	w := newWorld()
	o := takeOver(t, w.catalog())
	m := checkpoint(o, 7, 0)
	m.Time = time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("x", 3600))
	m.Stats = manifest.Stats{TMax: 1, Duration: 2, NewBytes: 3, FullBytes: 4, Objects: 5}
	e, err := o.Commit(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.JobUUID == "" || m.JobUUID != o.Head().UUID {
		t.Errorf("job uuid is %q", m.JobUUID)
	}
	c := w.catalog()
	h, found, err := c.Resolve(t.Context(), "latest")
	if err != nil || !reflect.DeepEqual(found, e) {
		t.Fatalf("latest is %+v, %v; want %+v", found, err, e)
	}
	if h.NextID != 8 || h.Epoch != 1 {
		t.Errorf("next id %d, epoch %d", h.NextID, h.Epoch)
	}
	if e.TMax != 1 || e.Duration != 2 || e.NewBytes != 3 || e.FullBytes != 4 || e.Objects != 5 || !e.Time.Equal(m.Time) {
		t.Errorf("figures in HEAD are %+v", e)
	}
	back, err := c.Manifest(t.Context(), found)
	if err != nil || back.ID != 7 || back.JobUUID != h.UUID {
		t.Errorf("manifest is %+v, %v", back, err)
	}
	if got := o.Head(); got.Swap != h.Swap {
		t.Errorf("the owner's HEAD is %+v, the stored one %+v", got, h)
	}
}

func TestResolve(t *testing.T) {
	w := newWorld()
	c := w.catalog()
	if _, _, err := c.Resolve(t.Context(), "latest"); !errors.Is(err, ErrNotFound) {
		t.Errorf("without HEAD: %v", err)
	}
	o := takeOver(t, c)
	if _, _, err := c.Resolve(t.Context(), "latest"); !errors.Is(err, ErrNotFound) {
		t.Errorf("without checkpoint: %v", err)
	}
	commit(t, o, 7, 0)
	commit(t, o, 9, 7)
	for ref, want := range map[string]manifest.ID{"latest": 9, "7": 7, "000000000007": 7, "9": 9, "0000000000000000000000009": 9} {
		if _, e, err := c.Resolve(t.Context(), ref); err != nil || e.ID != want {
			t.Errorf("%q is %d, %v; want %d", ref, e.ID, err, want)
		}
	}
	for _, ref := range []string{"", "8", "0", "-7", "+7", "7 ", "0x7", "newest", "99999999999999999999999", "../HEAD"} {
		if _, e, err := c.Resolve(t.Context(), ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q is %d, %v; want ErrNotFound", ref, e.ID, err)
		}
	}
}

func TestB40_IDsRiseStrictly(t *testing.T) {
	w := newWorld()
	o := takeOver(t, w.catalog())
	commit(t, o, 5, 0)
	for _, id := range []manifest.ID{4, 1} {
		if _, err := o.Commit(t.Context(), checkpoint(o, id, 0), nil); err == nil || !strings.Contains(err.Error(), "not above") {
			t.Errorf("checkpoint %d after 5: %v", id, err)
		}
	}
	other := checkpoint(o, 5, 0)
	other.Kind = manifest.Final
	if _, err := o.Commit(t.Context(), other, nil); err == nil {
		t.Error("another checkpoint 5 was committed")
	}
	if _, err := o.Commit(t.Context(), checkpoint(o, manifest.MaxID, 5), nil); !errors.Is(err, manifest.ErrOverflow) {
		t.Errorf("the last id: %v, want ErrOverflow", err)
	}
	// The next owner goes on above, also when nothing is listed by that id.
	o = takeOver(t, w.catalog())
	if o.Head().NextID != 6 || o.Epoch() != 2 {
		t.Errorf("next id %d, epoch %d", o.Head().NextID, o.Epoch())
	}
	commit(t, o, 6, 5, 5)
	wantIDs(t, readHead(t, w.catalog()), 6)
}

func TestCommit_Again(t *testing.T) {
	w := newWorld()
	o := takeOver(t, w.catalog())
	m := checkpoint(o, 1, 0)
	first, err := o.Commit(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Forget()
	again, err := o.Commit(t.Context(), m, nil)
	if err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("got %+v, %v", again, err)
	}
	if got := w.calls(); len(got) != 0 {
		t.Errorf("calls are %q", got)
	}
}

func TestCommit_RefusesManifestOfOthers(t *testing.T) {
	w := newWorld()
	o := takeOver(t, w.catalog())
	for name, spoil := range map[string]func(*manifest.Manifest){
		"F27 job":   func(m *manifest.Manifest) { m.Job = "other" },
		"F27 uuid":  func(m *manifest.Manifest) { m.JobUUID = "00000000-0000-4000-8000-000000000000" },
		"F24 epoch": func(m *manifest.Manifest) { m.Epoch = 2 },
		"invalid":   func(m *manifest.Manifest) { m.Kind = "" },
	} {
		t.Run(name, func(t *testing.T) {
			m := checkpoint(o, 1, 0)
			spoil(m)
			w.Forget()
			if _, err := o.Commit(t.Context(), m, nil); err == nil {
				t.Error("it was committed")
			}
			if got := w.calls(); len(got) != 0 {
				t.Errorf("calls are %q", got)
			}
		})
	}
}

// TestF64_BaseUnlinkedMeanwhile has the command line unlink the base of a
// checkpoint under way, whose objects may be deleted from then on.
func TestF64_BaseUnlinkedMeanwhile(t *testing.T) {
	w := newWorld()
	o := takeOver(t, w.catalog())
	commit(t, o, 1, 0)
	commit(t, o, 2, 1)
	if _, err := w.catalog().Unlink(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Commit(t.Context(), checkpoint(o, 3, 1), nil); !errors.Is(err, ErrBaseGone) {
		t.Fatalf("got %v, want ErrBaseGone", err)
	}
	wantIDs(t, readHead(t, w.catalog()), 2)
	commit(t, o, 4, 2, 2)
	wantIDs(t, readHead(t, w.catalog()), 4)
}

func TestB39_NewestIsNeverUnlinked(t *testing.T) {
	w := newWorld()
	c := w.catalog()
	o := takeOver(t, c)
	commit(t, o, 1, 0)
	if _, err := o.Commit(t.Context(), checkpoint(o, 2, 1), func(h Head) []manifest.ID { return ids(h) }); !errors.Is(err, ErrNewest) {
		t.Errorf("commit that retires itself: %v", err)
	}
	if _, err := c.Unlink(t.Context(), 1); !errors.Is(err, ErrNewest) {
		t.Errorf("unlink: %v", err)
	}
	if err := o.Unlink(t.Context(), 1); !errors.Is(err, ErrNewest) {
		t.Errorf("owner's unlink: %v", err)
	}
	wantIDs(t, readHead(t, c), 1)
}

func TestUnlink_OwnerGoesOn(t *testing.T) {
	w := newWorld()
	o := takeOver(t, w.catalog())
	for id := range manifest.ID(4) {
		commit(t, o, id+1, id)
	}
	before := readHead(t, w.catalog())
	h, err := w.catalog().Unlink(t.Context(), 2, 99)
	if err != nil {
		t.Fatal(err)
	}
	wantIDs(t, h, 1, 3, 4)
	if h.Epoch != before.Epoch || h.Owner != before.Owner || h.Swap == before.Swap || h.NextID != before.NextID {
		t.Errorf("HEAD was %+v, is %+v", before, h)
	}
	// The owner meets a HEAD it did not write, finds itself in it and merges.
	commit(t, o, 5, 4, 1)
	wantIDs(t, readHead(t, w.catalog()), 3, 4, 5)
	if err := o.Unlink(t.Context(), 3, 3); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, o.Head(), 4, 5)
	w.Forget()
	if _, err := w.catalog().Unlink(t.Context(), 3); err != nil {
		t.Errorf("again: %v", err)
	}
	if got, want := w.calls(), []string{"get HEAD"}; !slices.Equal(got, want) {
		t.Errorf("calls are %q, want %q", got, want)
	}
	if _, err := New(w, "nobody").Unlink(t.Context(), 1); err == nil {
		t.Error("a job of another name was changed")
	}
	if _, err := New(objectstore.NewMem(), job).Unlink(t.Context(), 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("without HEAD: %v", err)
	}
}

func TestF28_ForeignManifest(t *testing.T) {
	w := newWorld()
	o := takeOver(t, w.catalog())
	key := manifest.ManifestKey(1, 1)
	for _, garbage := range []string{"garbage of another tool", "", strings.Repeat("x", 1<<16)} {
		w.place(t, key, []byte(garbage))
		if _, err := o.Commit(t.Context(), checkpoint(o, 1, 0), nil); !errors.Is(err, ErrForeignObject) {
			t.Fatalf("got %v, want ErrForeignObject", err)
		}
		if got := w.bytesOf(t, key); string(got) != garbage {
			t.Errorf("it was overwritten with %q", got)
		}
	}
	wantIDs(t, readHead(t, w.catalog()))
	commit(t, o, 2, 0)
}

func TestManifest_Damage(t *testing.T) {
	w := newWorld()
	c := w.catalog()
	o := takeOver(t, c)
	m := checkpoint(o, 1, 0)
	m.Stats.Objects = 7
	e, err := o.Commit(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := e.ManifestKey()
	good := w.bytesOf(t, key)
	m.Stats.Objects = 8
	other, err := manifest.Encode(m) // whole, of equal size, and not the one HEAD means
	if err != nil || len(other) != len(good) {
		t.Fatalf("%d bytes, want %d: %v", len(other), len(good), err)
	}
	for name, data := range map[string][]byte{
		"F51 a flipped bit":  append(bytes.Clone(good[:20]), append([]byte{good[20] ^ 1}, good[21:]...)...),
		"F49 a byte missing": good[:len(good)-1],
		"F49 a byte more":    append(bytes.Clone(good), 0),
		"F49 nothing":        {},
		"F48 another one":    other,
	} {
		t.Run(name, func(t *testing.T) {
			w.place(t, key, data)
			_, err := c.Manifest(t.Context(), e)
			var damaged *CorruptError
			if !errors.As(err, &damaged) || damaged.Key != key || !errors.Is(err, manifest.ErrCorrupt) {
				t.Errorf("got %v, want a CorruptError that names %s", err, key)
			}
		})
	}
	t.Run("F50 missing", func(t *testing.T) {
		if err := w.past.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		_, err := c.Manifest(t.Context(), e)
		var damaged *CorruptError
		if !errors.As(err, &damaged) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want a CorruptError that is fs.ErrNotExist", err)
		}
	})
	t.Run("store out of reach", func(t *testing.T) {
		w.Add(storetest.Rule{Key: "^manifests/", Do: storetest.Fail(objectstore.ErrUnavailable)})
		if _, err := c.Manifest(t.Context(), e); !errors.Is(err, objectstore.ErrUnavailable) || errors.Is(err, manifest.ErrCorrupt) {
			t.Errorf("got %v, want ErrUnavailable and not ErrCorrupt", err)
		}
	})
}

// TestF27_ManifestOfAnotherJob lists a manifest of another job of the same
// name, as a HEAD put together by hand could.
func TestF27_ManifestOfAnotherJob(t *testing.T) {
	w := newWorld()
	c := w.catalog()
	o := takeOver(t, c)
	for name, spoil := range map[string]func(*manifest.Manifest){
		"uuid": func(m *manifest.Manifest) { m.JobUUID = "00000000-0000-4000-8000-000000000000" },
		"job":  func(m *manifest.Manifest) { m.Job = "other" },
		"id":   func(m *manifest.Manifest) { m.ID = 9 },
	} {
		m := checkpoint(o, 1, 0)
		m.JobUUID = o.Head().UUID
		spoil(m)
		data, err := manifest.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		e := newEntry(m, data)
		e.ID = 1
		w.place(t, e.ManifestKey(), data)
		if _, err := c.Manifest(t.Context(), e); !errors.Is(err, manifest.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
}

func TestF52_NewerManifest(t *testing.T) {
	w := newWorld()
	c := w.catalog()
	e := commit(t, takeOver(t, c), 1, 0)
	data := newerManifest()
	w.place(t, e.ManifestKey(), data)
	e.ManifestSize, e.ManifestSHA256 = int64(len(data)), digest(data)
	_, err := c.Manifest(t.Context(), e)
	if !errors.Is(err, manifest.ErrNewerFormat) || errors.Is(err, manifest.ErrCorrupt) {
		t.Errorf("got %v, want ErrNewerFormat", err)
	}
}

// TestCommit_WaitsItsTurn lets a second commit give up while the first one is
// still waiting for its answer.
func TestCommit_WaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		o := takeOver(t, w.catalog())
		w.Add(nth(1, head("HEAD", storetest.Put, storetest.Delay(time.Minute))))
		done := make(chan error)
		go func() {
			_, err := o.Commit(t.Context(), checkpoint(o, 1, 0), nil)
			done <- err
		}()
		synctest.Wait()
		ctx, cancel := contextWithTimeout(t, time.Second)
		defer cancel()
		if err := o.Unlink(ctx, 7); !errors.Is(err, errTooLate) {
			t.Errorf("got %v, want the cause of the context", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		wantIDs(t, o.Head(), 1)
	})
}
