package catalog

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

func TestTakeOver_NewJob(t *testing.T) {
	w := newWorld()
	var seen []Head
	o, err := w.catalog().TakeOver(t.Context(), TakeOverOptions{
		Operators: []OperatorInfo{{UID: "b", MaxParallelism: 1}, {UID: "a", MaxParallelism: 128, Hasher: "h/1"}},
		Check: func(_ context.Context, h Head) error {
			seen = append(seen, h)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := readHead(t, w.catalog())
	if !reflect.DeepEqual(seen, []Head{{}}) {
		t.Errorf("Check saw %+v", seen)
	}
	if !reflect.DeepEqual(o.Head(), h) || h.Epoch != 1 || h.NextID != 1 || h.UUID == "" || len(h.Checkpoints) != 0 {
		t.Errorf("HEAD is %+v, the owner's %+v", h, o.Head())
	}
	want := []OperatorInfo{{UID: "a", MaxParallelism: 128, Hasher: "h/1"}, {UID: "b", MaxParallelism: 1}}
	if !slices.Equal(h.Operators, want) {
		t.Errorf("operators are %+v, want %+v", h.Operators, want)
	}
}

func TestTakeOver_Again(t *testing.T) {
	w := newWorld()
	first := takeOver(t, w.catalog())
	commit(t, first, 4, 0)
	before := readHead(t, w.catalog())
	operators := []OperatorInfo{{UID: "count", MaxParallelism: 1}}
	o, err := w.catalog().TakeOver(t.Context(), TakeOverOptions{
		Operators: operators,
		Check: func(_ context.Context, h Head) error {
			if !reflect.DeepEqual(h, before) {
				t.Errorf("Check saw %+v, want %+v", h, before)
			}
			operators[0].MaxParallelism = 256 // what the check found out
			clear(h.Checkpoints)              // does no harm
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := o.Head()
	if h.Epoch != 2 || h.UUID != before.UUID || h.NextID != 5 || h.Owner == before.Owner || h.Swap == before.Swap {
		t.Errorf("HEAD was %+v, is %+v", before, h)
	}
	wantIDs(t, h, 4)
	if !slices.Equal(h.Operators, operators) {
		t.Errorf("operators are %+v", h.Operators)
	}
	if o := takeOver(t, w.catalog()); !slices.Equal(o.Head().Operators, operators) {
		t.Errorf("a takeover without operators left %+v", o.Head().Operators)
	}
}

func TestTakeOver_CheckRefuses(t *testing.T) {
	w := newWorld()
	refused := errors.New("max parallelism changed")
	opts := TakeOverOptions{Check: func(context.Context, Head) error { return refused }}
	if _, err := w.catalog().TakeOver(t.Context(), opts); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if n := len(w.past.all()); n != 0 {
		t.Errorf("HEAD was written %d times", n)
	}
	o := takeOver(t, w.catalog())
	if _, err := w.catalog().TakeOver(t.Context(), opts); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	commit(t, o, 1, 0) // not fenced
}

// TestTakeOver_ChecksEveryHEAD lets a commit come between check and swap: the
// check must see it, for it restores from what it saw.
func TestTakeOver_ChecksEveryHEAD(t *testing.T) {
	w := newWorld()
	old := takeOver(t, w.catalog())
	var seen [][]manifest.ID
	o, err := w.catalog().TakeOver(t.Context(), TakeOverOptions{Check: func(_ context.Context, h Head) error {
		seen = append(seen, ids(h))
		if len(seen) == 1 {
			commit(t, old, 1, 0)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := [][]manifest.ID{{}, {1}}; !reflect.DeepEqual(seen, want) {
		t.Errorf("Check saw %v, want %v", seen, want)
	}
	wantIDs(t, o.Head(), 1)
}

// TestTakeOver_RefusalOfAHEADThatMoved lets the owner retire what the check
// was about to read: what the check makes of that says nothing about the job.
func TestTakeOver_RefusalOfAHEADThatMoved(t *testing.T) {
	w := newWorld()
	old := takeOver(t, w.catalog())
	commit(t, old, 1, 0)
	checks := 0
	o, err := w.catalog().TakeOver(t.Context(), TakeOverOptions{Check: func(_ context.Context, h Head) error {
		if checks++; checks == 1 {
			commit(t, old, 2, 1)
			return &CorruptError{Key: h.Checkpoints[0].ManifestKey(), Err: objectstore.ErrNotExist}
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantIDs(t, o.Head(), 1, 2)
}

func TestF20_Racers(t *testing.T) {
	t.Parallel()
	const racers = 16
	rounds := 1000
	if testing.Short() {
		rounds = 50
	}
	for round := range rounds {
		c := New(objectstore.NewMem(), job)
		owners := race(racers, func(int) (*Owner, error) { return c.TakeOver(t.Context(), TakeOverOptions{}) })
		epochs := make(map[manifest.Epoch]bool)
		for _, r := range owners {
			if r.err != nil {
				t.Fatalf("round %d: %v", round, r.err)
			}
			epochs[r.value.Epoch()] = true
		}
		if len(epochs) != racers {
			t.Fatalf("round %d: %d racers share %d epochs", round, racers, len(epochs))
		}
		won := 0
		for _, r := range race(racers, func(i int) (Entry, error) {
			return owners[i].value.Commit(t.Context(), checkpoint(owners[i].value, 1, 0), nil)
		}) {
			switch {
			case r.err == nil:
				won++
			case !errors.Is(r.err, ErrFenced):
				t.Fatalf("round %d: got %v, want ErrFenced", round, r.err)
			}
		}
		if won != 1 {
			t.Fatalf("round %d: %d owners could commit", round, won)
		}
	}
}

type result[T any] struct {
	value T
	err   error
}

// race runs f n times at once.
func race[T any](n int, f func(i int) (T, error)) []result[T] {
	results := make([]result[T], n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			<-start
			results[i].value, results[i].err = f(i)
		})
	}
	close(start)
	wg.Wait()
	return results
}

func TestF21_F23_Zombie(t *testing.T) {
	w := newWorld()
	zombie := takeOver(t, w.catalog())
	commit(t, zombie, 1, 0)
	commit(t, zombie, 2, 1)
	next := takeOver(t, w.catalog())
	if err := zombie.Unlink(t.Context(), 1); !errors.Is(err, ErrFenced) {
		t.Errorf("unlink: got %v, want ErrFenced", err)
	}
	w.Forget()
	_, err := zombie.Commit(t.Context(), checkpoint(zombie, 3, 2), func(Head) []manifest.ID { return []manifest.ID{1} })
	if !errors.Is(err, ErrFenced) {
		t.Errorf("commit: got %v, want ErrFenced", err)
	}
	if got := w.calls(); len(got) != 0 {
		t.Errorf("once fenced, it still calls %q", got)
	}
	wantIDs(t, readHead(t, w.catalog()), 1, 2)
	commit(t, next, 3, 2)
	wantIDs(t, readHead(t, w.catalog()), 1, 2, 3)
}

func TestF21_OnlyItsOwnHEAD(t *testing.T) {
	o := takeOver(t, newWorld().catalog())
	for name, spoil := range map[string]func(*snapshot){
		"later epoch":      func(s *snapshot) { s.head.Epoch++ },
		"other owner":      func(s *snapshot) { s.head.Owner = "x" },
		"other life of it": func(s *snapshot) { s.head.UUID = "x" },
		"HEAD rolled back": func(s *snapshot) { s.head.Epoch-- },
	} {
		s := o.cur
		spoil(&s)
		if err := o.owns(s); !errors.Is(err, ErrFenced) {
			t.Errorf("%s: got %v, want ErrFenced", name, err)
		}
	}
	if err := o.owns(o.cur); err != nil {
		t.Errorf("its own: %v", err)
	}
}

// TestF21_F22_ZombieAfterGC lets the old owner find the name of its manifest
// free again.
func TestF21_F22_ZombieAfterGC(t *testing.T) {
	w := newWorld()
	zombie := takeOver(t, w.catalog())
	commit(t, zombie, 1, 0)
	next := takeOver(t, w.catalog())
	commit(t, next, 2, 1, 1)
	commit(t, next, 3, 2, 2)
	for _, key := range []string{manifest.ManifestKey(1, 1), manifest.ManifestKey(2, 1), manifest.ManifestKey(2, 2)} {
		if err := w.past.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := zombie.Commit(t.Context(), checkpoint(zombie, 2, 1), nil); !errors.Is(err, ErrFenced) {
		t.Errorf("got %v, want ErrFenced", err)
	}
	h := readHead(t, w.catalog())
	wantIDs(t, h, 3)
	if h.Epoch != 2 {
		t.Errorf("epoch is %d", h.Epoch)
	}
}

func TestF26_HeadUnusable(t *testing.T) {
	good := func(h Head) []byte {
		data, err := encodeHead(h)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	last := sampleHead()
	last.Epoch = manifest.MaxEpoch
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"empty":          {nil, manifest.ErrCorrupt},
		"garbage":        {[]byte("garbage"), manifest.ErrCorrupt},
		"no object":      {[]byte("[]"), manifest.ErrCorrupt},
		"cut":            {good(sampleHead())[:100], manifest.ErrCorrupt},
		"too large":      {make([]byte, maxHead+1), manifest.ErrCorrupt},
		"epoch at 2^63":  {bytes.Replace(good(sampleHead()), []byte(`"epoch": 3,`), []byte(`"epoch": 9223372036854775807,`), 1), manifest.ErrCorrupt},
		"the last epoch": {good(last), manifest.ErrOverflow},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.place(t, manifest.HeadKey, c.data)
			if _, err := w.catalog().TakeOver(t.Context(), TakeOverOptions{}); !errors.Is(err, c.want) {
				t.Errorf("take over: got %v, want %v", err, c.want)
			}
			_, err := w.catalog().Unlink(t.Context(), 40)
			if c.want == manifest.ErrCorrupt && !errors.Is(err, c.want) {
				t.Errorf("unlink: got %v", err)
			}
			var damaged *CorruptError
			if c.want == manifest.ErrCorrupt && (!errors.As(err, &damaged) || damaged.Key != manifest.HeadKey) {
				t.Errorf("%v does not name HEAD", err)
			}
			if c.want == manifest.ErrCorrupt && !bytes.Equal(w.bytesOfLarge(t, manifest.HeadKey), c.data) {
				t.Error("HEAD was changed")
			}
		})
	}
}

func (w *world) bytesOfLarge(t testing.TB, key string) []byte {
	t.Helper()
	data, _, err := objectstore.ReadAll(t.Context(), w.past, key, 2*maxHead)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestF26_HeadLost(t *testing.T) {
	w := newWorld()
	o := takeOver(t, w.catalog())
	commit(t, o, 1, 0)
	if err := w.past.Delete(t.Context(), manifest.HeadKey); err != nil {
		t.Fatal(err)
	}
	if _, err := w.catalog().TakeOver(t.Context(), TakeOverOptions{}); !errors.Is(err, ErrHeadLost) {
		t.Errorf("take over: got %v, want ErrHeadLost", err)
	}
	_, err := o.Commit(t.Context(), checkpoint(o, 2, 1), nil)
	if !errors.Is(err, manifest.ErrCorrupt) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("commit: got %v, want a missing HEAD", err)
	}
	if _, err := w.past.Stat(t.Context(), manifest.HeadKey); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("HEAD was made anew: %v", err)
	}
	t.Run("data alone", func(t *testing.T) {
		w := newWorld()
		w.place(t, manifest.DataName{ID: 1, Epoch: 1, Operator: "a", Ext: manifest.ExtSST}.Key(), nil)
		if _, err := w.catalog().TakeOver(t.Context(), TakeOverOptions{}); !errors.Is(err, ErrHeadLost) {
			t.Errorf("got %v, want ErrHeadLost", err)
		}
	})
	t.Run("begun by another meanwhile", func(t *testing.T) {
		w := newWorld()
		w.Add(nth(1, storetest.Rule{Op: storetest.List, Key: "^manifests/", Do: storetest.At(storetest.Before,
			func(context.Context, storetest.Call) error {
				commit(t, takeOver(t, New(w.past, job)), 1, 0)
				return nil
			})}))
		o := takeOver(t, w.catalog())
		if o.Epoch() != 2 {
			t.Errorf("epoch is %d, want 2", o.Epoch())
		}
		wantIDs(t, o.Head(), 1)
	})
}

func TestF40_NoBucket(t *testing.T) {
	w := newWorld(storetest.Rule{Do: storetest.Fail(objectstore.ErrNoBucket)})
	c := w.catalog()
	if _, err := c.Head(t.Context()); !errors.Is(err, objectstore.ErrNoBucket) || errors.Is(err, ErrNotFound) {
		t.Errorf("head: %v", err)
	}
	if _, err := c.TakeOver(t.Context(), TakeOverOptions{}); !errors.Is(err, objectstore.ErrNoBucket) {
		t.Errorf("take over: %v", err)
	}
	if got := w.calls(); len(got) != 2 {
		t.Errorf("it was tried again: %q", got)
	}
}

func TestCatalog_InvalidJob(t *testing.T) {
	for _, name := range []string{"", "..", "a/b"} {
		if _, err := New(objectstore.NewMem(), name).TakeOver(t.Context(), TakeOverOptions{}); err == nil {
			t.Errorf("job %q is accepted", name)
		}
	}
}
