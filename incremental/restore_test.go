package incremental

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

var allGroups = manifest.KeyGroupRange{First: 0, Last: 127}

// A state restores to what it was at its cut, from every checkpoint of a task
// with spills, bases, restarts and changes after the cut.
func TestRestoreExact(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 1))
		store := objectstore.NewMem()
		k := startTask(t, taskOptions{store: store, epoch: 1, next: 1, groups: allGroups})
		epoch, id := manifest.Epoch(1), manifest.ID(0)
		for range 4 {
			var last manifest.KeyedState
			var reserved []manifest.Object
			for range 5 {
				k.change(r, 1+r.IntN(200))
				switch r.IntN(4) {
				case 0:
					k.spill()
					k.change(r, 20)
				case 1:
					k.spill()
					k.materialize()
				}
				last, reserved = k.checkpoint(id+1, id)
				id++
				k.change(r, r.IntN(50))
				sameState(t, restored(t, store, last), k.atCut, fmt.Sprintf("seed %d, checkpoint %d", seed, id))
			}
			epoch++
			want := maps.Clone(k.atCut)
			k.close()
			k = startTask(t, taskOptions{
				store: store, epoch: epoch, next: id + 1, groups: allGroups, restored: &last, reserved: reserved,
			})
			sameState(t, k.model, want, fmt.Sprintf("seed %d, restart after %d", seed, id))
		}
	}
}

// F96: no pieces and no deltas is the empty database.
func TestF96_RestoreEmptyState(t *testing.T) {
	store := objectstore.NewMem()
	k := startTask(t, taskOptions{store: store, epoch: 1, next: 1, groups: allGroups})
	state, reserved := k.checkpoint(1, 0)
	if len(state.Pieces)+len(state.Deltas)+len(reserved) != 0 {
		t.Errorf("the empty state is %+v, reserved %v", state, reserved)
	}
	sameState(t, restored(t, store, state), nil, "empty state")
	k.materialize() // a base of nothing is one too
	state, _ = k.checkpoint(2, 1)
	if len(state.Pieces) != 1 {
		t.Errorf("%d pieces after a base", len(state.Pieces))
	}
	sameState(t, restored(t, store, state), nil, "empty base")
}

// F77: what Restore has returned survives a crash that loses all that was not
// synced; a crash before leaves no directory that looks whole.
func TestF77_RestoreIsDurable(t *testing.T) {
	store := objectstore.NewMem()
	state, want := rescaledState(t, store)
	crash := vfs.CrashCloneCfg{UnsyncedDataPercent: 0}
	fs := vfs.NewCrashableMem()
	var during []*vfs.MemFS
	opts := RestoreOptions{Store: store, State: state, Dir: "/db", FS: fs}
	opts.Progress = func(int64, int64) { during = append(during, fs.CrashClone(crash)) }
	if _, err := Restore(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	sameState(t, plain(t, fs.CrashClone(crash), "/db"), want, "after the crash")
	for i, clone := range during {
		if names, err := clone.List("/db"); err == nil {
			t.Errorf("crash %d left %q", i, names)
		}
	}
	if len(during) == 0 {
		t.Error("no crash in the middle")
	}
}

func TestRestoreProgress(t *testing.T) {
	store := objectstore.NewMem()
	state, _ := rescaledState(t, store)
	objects := make(map[string]int64)
	for o := range state.ContentObjects() {
		objects[o.Key] = o.Size
	}
	var want, last int64
	for _, size := range objects {
		want += size
	}
	rule := storetest.Rule{Op: storetest.Get, Nth: 2, Do: storetest.Truncate(3)} // counted once all the same
	stats, err := Restore(t.Context(), RestoreOptions{
		Store: storetest.NewFaulty(store, 1, rule), State: state, Dir: filepath.Join(t.TempDir(), "db"), FS: NewRecordFS(nil),
		Progress: func(done, total int64) {
			if total != want || done > total {
				t.Errorf("%d of %d bytes, want a total of %d", done, total, want)
			}
			last = done
		},
	})
	if err != nil || last != want || stats.Bytes != want || stats.Objects != int64(len(objects)) {
		t.Errorf("done %d, stats %+v, %v; want %d bytes of %d objects", last, stats, err, want, len(objects))
	}
}

// A restore that is called off at any download leaves nothing.
func TestRestoreCancelled(t *testing.T) {
	store := objectstore.NewMem()
	state, _ := rescaledState(t, store)
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		reached := false
		rule := storetest.Rule{Op: storetest.Get, Nth: n, Do: storetest.At(storetest.Middle, func(context.Context, storetest.Call) error {
			reached = true
			cancel()
			return nil
		})}
		fs := vfs.NewMem()
		_, err := Restore(ctx, RestoreOptions{Store: storetest.NewFaulty(store, 1, rule), State: state, Dir: "/db", FS: fs, Parallel: 1})
		cancel()
		if !reached {
			if n == 1 || err != nil {
				t.Errorf("after %d downloads: %v", n-1, err)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("download %d: got %v", n, err)
		}
		if names, _ := fs.List("/"); len(names) != 0 {
			t.Errorf("download %d: left %q", n, names)
		}
	}
}

// BenchmarkRestore is of a base and ten deltas, and of two halves of two such
// states.
func BenchmarkRestore(b *testing.B) {
	store := objectstore.NewMem()
	var parents []manifest.KeyedState
	for i := range 2 {
		groups := keyGroups(128, 2, i)
		parents = append(parents, benchState(b, store, groups))
	}
	middle := Rescale(parents, manifest.KeyGroupRange{First: 32, Last: 95})
	for name, state := range map[string]manifest.KeyedState{"whole": parents[0], "rescaled": middle} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				opts := RestoreOptions{Store: store, State: state, Dir: "/db", FS: NewRecordFS(vfs.NewMem())}
				if _, err := Restore(b.Context(), opts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchState is a delta of 50,000 keys of 200 bytes and ten of 2,500 over it.
func benchState(b *testing.B, store objectstore.Store, groups manifest.KeyGroupRange) manifest.KeyedState {
	b.Helper()
	fs := vfs.NewMem()
	state := manifest.KeyedState{KeyGroups: groups}
	entries, _ := sample(50_000, 200)
	for i, e := range entries {
		kg := groups.First + uint16(i*int(groups.Last-groups.First+1)/len(entries))
		binary.BigEndian.PutUint16(e.Key, kg)
	}
	for position := range uint64(11) {
		if position == 1 {
			entries = entries[10_000:12_500]
		}
		d, err := WriteDelta(fs, "/d", slices.Values(entries))
		if err != nil {
			b.Fatal(err)
		}
		f, err := fs.Open("/d")
		if err != nil {
			b.Fatal(err)
		}
		name := manifest.DataName{ID: 1, Epoch: 1, Operator: "op", Subtask: int(groups.First), N: position, Ext: manifest.ExtSST}
		o, err := Uploader{store}.PutFile(b.Context(), name.Key(), f, d.Size)
		if err := errors.Join(err, f.Close()); err != nil {
			b.Fatal(err)
		}
		state.Deltas = append(state.Deltas, manifest.Delta{Position: position + 1, Object: o})
	}
	return state
}
