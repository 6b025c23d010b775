package load

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/objectstore"
)

func TestSampleDrawsDifferentEntries(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct{ max, n int }{{1, 1}, {10, 10}, {1000, 50}, {1024, 1023}} {
		got := sample(c.max, c.n, rng)
		slices.Sort(got)
		if len(got) != c.n || len(slices.Compact(got)) != c.n || got[0] < 0 || got[len(got)-1] >= c.max {
			t.Errorf("%d of %d: %v", c.n, c.max, got)
		}
	}
}

func TestDealGivesEachEntryToOneTask(t *testing.T) {
	const keys = 5000
	seen := make(map[int]bool)
	for task, own := range Deal(keys, 3) {
		if len(own) < keys/4 {
			t.Errorf("task %d has only %d entries", task, len(own))
		}
		var last string
		for _, i := range own {
			key := string(Key(nil, i))
			if seen[i] || len(key) != KeyBytes || key <= last {
				t.Fatalf("task %d: entry %d twice or out of order", task, i)
			}
			seen[i], last = true, key
		}
	}
	if len(seen) != keys {
		t.Errorf("%d entries were dealt out, want %d", len(seen), keys)
	}
}

// A state that was filled, changed and checkpointed is whole at every
// parallelism and in both modes.
func TestJobRestoresWhatItCheckpointed(t *testing.T) {
	ctx := t.Context()
	store := objectstore.NewMem()
	const keys = 1000
	open := func(tasks int, restore state.RestoreMode) *Job {
		t.Helper()
		j, err := Open(ctx, Options{
			Store: store, Dir: filepath.Join(t.TempDir(), "state"), Tasks: tasks, Keys: keys, CacheBytes: 1 << 20,
			Restore: restore, Materialize: state.MaterializePolicy{MaxDeltas: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	j := open(2, state.Eager)
	if err := errors.Join(j.Fill(), j.Settle(ctx)); err != nil {
		t.Fatal(err)
	}
	if err := j.Change(50); err != nil {
		t.Fatal(err)
	}
	c, err := j.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(50 * EntryBytes); c.Changed != want || c.NewBytes == 0 || c.NewBytes > want || len(c.New) < 2 || c.Total < c.TMax {
		t.Errorf("checkpoint of %d changed bytes: %+v", want, c)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tasks := range []int{2, 3, 1} {
		for _, mode := range []state.RestoreMode{state.Eager, state.Lazy} {
			j := open(tasks, mode)
			for task, own := range j.Own {
				for at := range own {
					if err := j.readOne(task, at); err != nil {
						t.Fatalf("%d tasks, %s: %v", tasks, mode, err)
					}
				}
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
