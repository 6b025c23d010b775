package incremental

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// lazyDB is a lazily restored database, its compactions held.
type lazyDB struct {
	*pebble.DB
	disk      *vfs.MemFS
	fs        *RecordFS
	remote    *RemoteFS
	stats     RestoreStats
	failed    firstError
	compactor *Compactor
}

// openLazy restores a state lazily and opens it.
func openLazy(ctx context.Context, store objectstore.Store, state manifest.KeyedState) (*lazyDB, error) {
	l := &lazyDB{disk: vfs.NewMem()}
	l.remote = NewRemoteFS(ctx, l.disk, store)
	l.remote.pause = 1
	l.fs = NewRecordFS(l.remote)
	var err error
	if l.stats, err = Restore(ctx, RestoreOptions{Store: store, State: state, Dir: "/a/db", FS: l.fs}); err != nil {
		return nil, err
	}
	l.compactor = NewCompactions(2).Compactor(true)
	l.DB, err = pebble.Open("/a/db", PebbleOptions(DBOptions{FS: l.fs, Failed: l.failed.set, Scheduler: l.compactor}))
	return l, err
}

func mustLazy(t *testing.T, store objectstore.Store, state manifest.KeyedState) *lazyDB {
	t.Helper()
	l, err := openLazy(t.Context(), store, state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if l.DB != nil {
			l.close(t)
		}
	})
	return l
}

func (l *lazyDB) close(t *testing.T) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	l.DB = nil
}

// leveledState has tables in several levels, of a task that was compacted now
// and then, and a few deltas over its base.
func leveledState(t *testing.T, store objectstore.Store, seed uint64) (manifest.KeyedState, map[string]string) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 11))
	k := startTask(t, taskOptions{store: store, epoch: 1, next: 1, groups: allGroups, held: true})
	for i := range 12 {
		k.change(r, 150)
		k.spill()
		if i%4 == 0 {
			if err := k.db.Compact(t.Context(), groupKey(uint16(8*i)), groupKey(uint16(8*i+30)), false); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.materialize()
	for range r.IntN(4) {
		k.change(r, 50)
		k.spill()
	}
	state, _ := k.checkpoint(1, 0)
	k.close()
	return state, k.atCut
}

// A lazily restored state is the eagerly restored one: before, while and after
// it is hydrated, and as plain Pebble reads what is local then.
func TestLazyRestoreEqualsEager(t *testing.T) {
	for seed := range uint64(8) {
		store := objectstore.NewMem()
		state, want := leveledState(t, store, seed)
		sameState(t, restored(t, store, state), want, "eager")
		l := mustLazy(t, store, state)
		if l.stats.RemoteObjects < 3 {
			t.Fatalf("only %d remote tables", l.stats.RemoteObjects)
		}
		if seed%2 == 0 {
			sameState(t, contents(t, l.DB), want, "lazy")
		}
		done := make(chan error)
		go func() { done <- l.remote.Hydrate(HydrateOptions{DB: l.DB}) }()
		sameState(t, contents(t, l.DB), want, "while hydrated")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		sameState(t, contents(t, l.DB), want, "hydrated")
		l.compactor.Let()
		if err := l.Compact(t.Context(), groupKey(0), lastKey, false); err != nil {
			t.Fatal(err)
		}
		sameState(t, contents(t, l.DB), want, "compacted")
		l.close(t)
		sameState(t, plain(t, l.disk, "/a/db"), want, "reopened")
	}
}

// Restoring and opening reads no table, the first Get reads few ranges, and a
// capture reads and uploads nothing.
func TestLazyOpenReadsNoTable(t *testing.T) {
	mem := objectstore.NewMem()
	state, want := leveledState(t, mem, 3)
	state.Deltas = nil // their fetching is counted apart
	tables := make(map[string]bool)
	for _, f := range state.Pieces[0].Base.Files {
		if isTable(f) {
			tables[f.Object.Key] = true
		}
	}
	for _, o := range state.Pieces[0].Base.Packs {
		tables[o.Key] = true
	}
	store := storetest.NewFaulty(mem, 1)
	gets := func() (n int) {
		for _, c := range store.Calls() {
			if tables[c.Key] {
				n++
			}
		}
		return n
	}
	l := mustLazy(t, store, state)
	if n := gets(); n != 0 {
		t.Errorf("%d reads of tables to restore and open", n)
	}
	c, err := CaptureBase(l.DB, l.fs)
	if err != nil {
		t.Fatal(err)
	}
	ledger := NewLedger(LedgerOptions{Operator: "op", Epoch: 2, NextID: 2, KeyGroups: allGroups, Restored: &state})
	if err := ledger.StartBase(ledger.Position()); err != nil {
		t.Fatal(err)
	}
	base, stats, err := UploadBase(t.Context(), c, UploadBaseOptions{Uploader: Uploader{mem}, Ledger: ledger, Position: ledger.Position(), Parallel: 1})
	if err := errors.Join(err, c.Release()); err != nil {
		t.Fatal(err)
	}
	if n := gets(); n != 0 || stats.ReusedBytes != l.stats.RemoteBytes {
		t.Errorf("capture: %d reads of tables, %+v, want %d bytes reused", n, stats, l.stats.RemoteBytes)
	}
	again := manifest.KeyedState{KeyGroups: allGroups, Pieces: []manifest.Piece{{KeyGroups: allGroups, Base: &base}}}
	model := restored(t, mem, again)
	for key := range want {
		value, closer, err := l.Get([]byte(key))
		if errors.Is(err, pebble.ErrNotFound) {
			continue // it was in the deltas
		}
		if err != nil || string(value) != model[key] {
			t.Errorf("get %q: %q, %v; want %q", key, value, err, model[key])
		}
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
		if n := gets(); n == 0 || n > 2*len(tables) {
			t.Errorf("first get: %d reads of %d tables", n, len(tables))
		}
		break
	}
}

// A state whose base holds more key groups than its own is cut without being
// fetched.
func TestLazyRestoreRescaled(t *testing.T) {
	mem := objectstore.NewMem()
	whole, model := leveledState(t, mem, 5)
	for _, r := range []manifest.KeyGroupRange{groups(0, 40), groups(41, 80), groups(81, 127)} {
		state := Rescale([]manifest.KeyedState{whole}, r)
		l := mustLazy(t, mem, state)
		if l.stats.RemoteObjects == 0 {
			t.Errorf("%s: nothing is remote", r)
		}
		sameState(t, contents(t, l.DB), inGroups(model, r), fmt.Sprintf("cut to %s", r))
		if err := l.remote.Hydrate(HydrateOptions{DB: l.DB}); err != nil {
			t.Error(err)
		}
		l.close(t)
		sameState(t, plain(t, l.disk, "/a/db"), inGroups(model, r), "reopened")
	}
}

// withoutPacks is a state as it was written before there were packs and digests
// of segments.
func withoutPacks(s manifest.KeyedState) manifest.KeyedState {
	s.Pieces = slices.Clone(s.Pieces)
	for i := range s.Pieces {
		p := &s.Pieces[i]
		p.Deltas = withoutSegments(p.Deltas)
		if p.Base == nil {
			continue
		}
		base := *p.Base
		base.Packs, base.Files = nil, slices.Clone(base.Files)
		for j := range base.Files {
			base.Files[j].Pack = manifest.PackRef{}
		}
		p.Base = &base
	}
	s.Deltas = withoutSegments(s.Deltas)
	return s
}

func withoutSegments(deltas []manifest.Delta) []manifest.Delta {
	deltas = slices.Clone(deltas)
	for i := range deltas {
		deltas[i].Segments, deltas[i].Data = "", 0
	}
	return deltas
}

// F47 F49: whatever byte of whatever object is wrong in the store, no read gives
// a wrong value. A table or delta that is used is named by the failure of the
// database, and by hydration in any case. A pack is done without.
func TestF47_F49_LazyRestoreOfDamage(t *testing.T) {
	store := objectstore.NewMem()
	packed, want := smallState(t, store)
	for name, state := range map[string]manifest.KeyedState{"packed": packed, "old": withoutPacks(packed)} {
		used := 0
		for o := range state.NeededObjects() {
			good, _, err := objectstore.ReadAll(t.Context(), store, o.Key, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(good); i += 7 {
				bad := slices.Clone(good)
				bad[i] ^= 1 << (i % 8)
				overwrite(t, store, o.Key, bad)
				isPack := slices.Contains(state.Pieces[0].Base.Packs, o)
				if spoilObject(t, store, state, want, o.Key, isPack) {
					used++
				}
			}
			overwrite(t, store, o.Key, good)
		}
		if used == 0 {
			t.Errorf("%s: no damage was ever in the way of a read", name)
		}
	}
}

// spoilObject reads a state of which an object is damaged, and reports whether that
// failed the read.
func spoilObject(t *testing.T, store objectstore.Store, state manifest.KeyedState, want map[string]string, key string, isPack bool) (failed bool) {
	t.Helper()
	names := func(err error) bool {
		var corrupt *manifest.CorruptError
		return errors.As(err, &corrupt) && corrupt.Key == key
	}
	l, err := openLazy(t.Context(), store, state)
	if err != nil {
		if !names(err) || isPack {
			t.Errorf("%s: open: %v", key, err)
		}
		return true
	}
	defer l.close(t)
	got, err := readAll(l.DB)
	if err == nil && !maps.Equal(got, want) {
		t.Errorf("%s: wrong values", key)
	}
	if err != nil && (!names(l.failed.get()) || isPack) {
		t.Errorf("%s: read: %v, failure: %v", key, err, l.failed.get())
	}
	if hydrated := l.remote.Hydrate(HydrateOptions{}); isPack && hydrated != nil || !isPack && !names(hydrated) {
		t.Errorf("%s: hydrate: %v", key, hydrated)
	}
	return err != nil
}

func readAll(db *pebble.DB) (map[string]string, error) {
	it, err := db.NewIter(nil)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for it.First(); it.Valid(); it.Next() {
		out[string(it.Key())] = string(it.Value())
	}
	return out, errors.Join(it.Error(), it.Close())
}

// Every report names or reserves what the database still reads from the store,
// also when a base that does not have it has taken its place.
func TestLedgerReservesWhatIsRemote(t *testing.T) {
	old := manifest.Object{Key: manifest.DataName{ID: 1, Epoch: 1, Operator: "op", N: 1, Ext: manifest.ExtSST}.Key(), Size: 1, SHA256: manifest.Digest{1}}
	restored := &manifest.KeyedState{KeyGroups: allGroups, Pieces: []manifest.Piece{{
		KeyGroups: allGroups, Base: &manifest.Base{Files: []manifest.File{{Name: "000001.sst", Object: old}}},
	}}}
	l := NewLedger(LedgerOptions{Operator: "op", Epoch: 2, NextID: 2, KeyGroups: allGroups, Restored: restored})
	l.SetRemote([]manifest.Object{old})
	report := func(id manifest.ID) (named, reserved bool) {
		t.Helper()
		if err := l.Barrier(Barrier{ID: id, OldestBase: id - 1}); err != nil {
			t.Fatal(err)
		}
		keyed, spare, err := l.Report(id)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(slices.Collect(keyed.NeededObjects()), old), slices.Contains(spare, old)
	}
	if named, reserved := report(2); !named || reserved {
		t.Errorf("before the base: named %t, reserved %t", named, reserved)
	}
	if err := errors.Join(l.StartBase(0), l.FinishBase(manifest.Base{})); err != nil {
		t.Fatal(err)
	}
	for id := manifest.ID(3); id < 6; id++ {
		if named, reserved := report(id); named || !reserved {
			t.Errorf("report %d: named %t, reserved %t", id, named, reserved)
		}
	}
	l.SetRemote(nil)
	if named, reserved := report(6); named || reserved {
		t.Errorf("when it is local: named %t, reserved %t", named, reserved)
	}
}
