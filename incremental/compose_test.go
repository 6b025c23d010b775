package incremental

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// parents are tasks of one operator with long lives: puts, deletes and puts
// again of the same keys, with tables on all levels, bases over bases, and
// deltas over the last one.
func parents(t *testing.T, store objectstore.Store, r *rand.Rand, n int) (states []manifest.KeyedState, model map[string]string) {
	t.Helper()
	model = make(map[string]string)
	for i := range n {
		o := taskOptions{store: store, subtask: i, epoch: 1, next: 1, groups: keyGroups(128, n, i), held: true}
		for epoch := range manifest.Epoch(1 + r.IntN(3)) {
			o.epoch = epoch + 1
			k := startTask(t, o)
			for range 2 + r.IntN(10) {
				k.change(r, r.IntN(300))
				k.spill()
				if r.IntN(4) == 0 {
					first := r.IntN(128)
					if err := k.db.Compact(t.Context(), groupKey(uint16(first)), groupKey(uint16(first+r.IntN(60)+1)), false); err != nil {
						t.Fatal(err)
					}
				}
			}
			if r.IntN(4) > 0 {
				k.materialize()
			}
			for range r.IntN(4) {
				k.change(r, 100)
				k.spill()
			}
			state, _ := k.checkpoint(o.next, o.next-1)
			k.close()
			o.restored, o.next = &state, o.next+1
		}
		states = append(states, *o.restored)
		maps.Copy(model, restored(t, store, *o.restored))
	}
	return states, model
}

// Tables that are taken as they are give what copying them gives: in the
// beginning, while they are made local, afterwards, compacted, and in the
// database that a base of it is.
func TestComposeEqualsCopy(t *testing.T) {
	seeds := uint64(12)
	if heavy() {
		seeds = 400
	}
	composed := 0
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 12))
		store := objectstore.NewMem()
		states, model := parents(t, store, r, 1+int(seed%4))
		first := uint16(r.IntN(128))
		part := groups(first, first+uint16(r.IntN(128-int(first))))
		if r.IntN(3) == 0 {
			part = groups(0, 127)
		}
		state, want := Rescale(states, part), inGroups(model, part)
		if seed%3 == 0 {
			state = withoutPacks(state)
		}
		what := fmt.Sprintf("seed %d, %s", seed, part)
		sameState(t, restored(t, store, state), want, what+" copied")

		k := startTask(t, taskOptions{store: store, epoch: 9, next: 100, groups: part, restored: &state, lazy: true, held: r.IntN(2) == 0})
		if k.stats.Copied != nil {
			t.Fatalf("%s: copied: %v", what, k.stats.Copied)
		}
		if k.remote.Composed() {
			composed++
			if _, err := CaptureBase(k.db, k.fs); !errors.Is(err, ErrRemoteTables) {
				t.Fatalf("%s: captured before it was hydrated: %v", what, err)
			}
		}
		if r.IntN(4) > 0 {
			sameState(t, k.model, want, what+" composed")
		}
		for range r.IntN(3) {
			k.change(r, 100)
			k.spill()
		}
		checkReads(t, k, r, what)
		k.hydrate()
		sameState(t, contents(t, k.db), k.model, what+" hydrated")
		names, err := k.remote.FS.List(k.dir)
		must(t, err)
		if slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, externalSuffix) }) {
			t.Fatalf("%s: external tables are left: %q", what, names)
		}
		k.materialize()
		if err := k.db.Compact(t.Context(), groupKey(0), lastKey, false); err != nil {
			t.Fatal(err)
		}
		sameState(t, contents(t, k.db), k.model, what+" compacted")
		checkReads(t, k, r, what)
		again, _ := k.checkpoint(100, 0)
		if len(again.Pieces) != 1 || len(again.Deltas) != 0 {
			t.Fatalf("%s: %d pieces, %d deltas after a base", what, len(again.Pieces), len(again.Deltas))
		}
		sameState(t, restored(t, store, again), k.model, what+" of its base")
		k.close()
	}
	if composed < int(seeds)/3 {
		t.Errorf("only %d of %d states were composed", composed, seeds)
	}
}

// checkReads compares some reads by key, which go through the tables' filters.
func checkReads(t *testing.T, k *task, r *rand.Rand, what string) {
	t.Helper()
	for range 200 {
		key := k.randomKey(r)
		value, closer, err := k.db.Get([]byte(key))
		want, there := k.model[key]
		switch {
		case errors.Is(err, pebble.ErrNotFound) && !there:
			continue
		case err != nil || !there || string(value) != want:
			t.Fatalf("%s: get %q: %q, %v; want %q, there %t", what, key, value, err, want, there)
		}
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// countingStore counts the bytes that are read.
type countingStore struct {
	objectstore.Store
	gets, bytes atomic.Int64
}

func (s *countingStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, objectstore.Info, error) {
	r, info, err := s.Store.Get(ctx, key, off, n)
	if err != nil {
		return nil, info, err
	}
	s.gets.Add(1)
	return &countingReader{r, s}, info, nil
}

type countingReader struct {
	io.ReadCloser
	s *countingStore
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.s.bytes.Add(int64(n))
	return n, err
}

// take gives what was counted and begins anew.
func (s *countingStore) take() (gets, bytes int64) { return s.gets.Swap(0), s.bytes.Swap(0) }

const (
	chunkTables = 12      // of each parent's base
	chunkBytes  = 2 << 20 // of each
	deltaBytes  = 3 << 20 // of each parent's delta
)

// chunkedParents are tasks with a base of many tables that do not overlap, and
// a delta over all of their key groups.
func chunkedParents(t testing.TB, store objectstore.Store, n int) (states []manifest.KeyedState) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{1})
	for i := range n {
		g := keyGroups(128, n, i)
		width := int(g.Last-g.First) + 1
		fs := NewRecordFS(vfs.NewMem())
		db, err := pebble.Open("/p", PebbleOptions(DBOptions{FS: fs}))
		must(t, err)
		ledger := NewLedger(LedgerOptions{Operator: "op", Subtask: i, Epoch: 1, NextID: 1, KeyGroups: g})
		for c := range chunkTables {
			first := int(g.First) + c*width/chunkTables
			after := int(g.First) + (c+1)*width/chunkTables
			_, err := WriteDelta(fs, "/table", evenly(rng, first, after, chunkBytes))
			must(t, err)
			must(t, db.Ingest(t.Context(), []string{"/table"}))
		}
		must(t, ledger.StartBase(0))
		c, err := CaptureBase(db, fs)
		must(t, err)
		b, _, err := UploadBase(t.Context(), c, UploadBaseOptions{Uploader: Uploader{store}, Ledger: ledger, Parallel: 1})
		must(t, errors.Join(err, c.Release(), ledger.FinishBase(b), db.Close()))

		position := ledger.NextPosition()
		d, err := WriteDelta(fs, "/delta", evenly(rng, int(g.First), int(g.Last)+1, deltaBytes))
		must(t, err)
		f, err := fs.Open("/delta")
		must(t, err)
		o, err := Uploader{store}.PutFile(t.Context(), ledger.DeltaName(position).Key(), f, d.Size)
		must(t, errors.Join(err, f.Close(), ledger.AddDelta(d.Delta(position, o.Key))))
		must(t, ledger.Barrier(Barrier{ID: 1}))
		state, _, err := ledger.Report(1)
		must(t, err)
		states = append(states, *state)
	}
	return states
}

// evenly spreads entries that do not compress over some key groups.
func evenly(rng *rand.ChaCha8, first, after, bytes int) func(func(Entry) bool) {
	value := make([]byte, 4096)
	n := bytes / len(value)
	return func(yield func(Entry) bool) {
		for i := range n {
			rng.Read(value)
			kg := first + i*(after-first)/n
			if !yield(Entry{Key: fmt.Appendf(groupKey(uint16(kg)), "key-%08d", i), Value: value}) {
				return
			}
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// B45: a task whose state is put together from others' fetches what its key
// groups need. Eagerly that is whole tables that have some of them; lazily it is
// nothing that the MANIFESTs say to open it, and then the parts.
func TestB45_RescaledTaskFetchesItsRange(t *testing.T) {
	mem := objectstore.NewMem()
	states := chunkedParents(t, mem, 2)
	for _, g := range []manifest.KeyGroupRange{keyGroups(128, 3, 1), groups(60, 67), groups(0, 127)} {
		state := Rescale(states, g)
		if len(state.Pieces) != 2 {
			t.Fatalf("%d pieces", len(state.Pieces))
		}
		need := int64(2*chunkTables*chunkBytes+2*deltaBytes) * int64(g.Last-g.First+1) / 128
		within := func(what string, bytes, bound int64) {
			t.Helper()
			t.Logf("%s needs %d kB, %s %d kB", g, need>>10, what, bytes>>10)
			if bytes > bound {
				t.Errorf("%s: %s fetches %d bytes of %d that it needs", g, what, bytes, need)
			}
		}
		store := &countingStore{Store: mem}
		_, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: "/db", FS: vfs.NewMem()})
		must(t, err)
		_, bytes := store.take()
		within("eager", bytes, need+2*chunkBytes+2*deltaBytes+1<<20)

		disk := NewRecordFS(NewRemoteFS(t.Context(), vfs.NewMem(), store))
		stats, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: "/db", FS: disk})
		must(t, errors.Join(err, stats.Copied))
		db, err := pebble.Open("/db", PebbleOptions(DBOptions{FS: disk}))
		must(t, err)
		gets, bytes := store.take()
		within(fmt.Sprintf("open in %d requests", gets), bytes, 0)
		must(t, disk.remote.Hydrate(HydrateOptions{DB: db}))
		_, bytes = store.take()
		// What is cut is read in segments: two at each end and two at the end
		// of the table.
		within("hydrate", bytes, need+4*6*segmentSize+need/50)
		must(t, db.Close())
	}
}

// An iterator from before a composed state was local reads all of it, also the
// tables that it opens afterwards.
func TestComposedStateIsKeptForReaders(t *testing.T) {
	store := objectstore.NewMem()
	state := Rescale(chunkedParents(t, store, 2), allGroups)
	disk := NewRecordFS(NewRemoteFS(t.Context(), vfs.NewMem(), store))
	_, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: "/db", FS: disk})
	must(t, err)
	files := pebble.NewFileCache(1, 1) // so that tables are opened again
	defer files.Unref()
	var failed firstError
	db, err := pebble.Open("/db", PebbleOptions(DBOptions{FS: disk, FileCache: files, Failed: failed.set}))
	must(t, err)
	it, err := db.NewIter(nil)
	must(t, err)
	if !it.First() {
		t.Fatal("no first key")
	}
	hydrated := make(chan error, 1)
	go func() { hydrated <- disk.remote.Hydrate(HydrateOptions{DB: db}) }()
	for external := true; external; runtime.Gosched() {
		external = false
		levels, err := db.SSTables()
		must(t, err)
		for _, tables := range levels {
			external = external || slices.ContainsFunc(tables, func(t pebble.SSTableInfo) bool { return t.BackingType == pebble.BackingTypeExternal })
		}
	}
	n := 0
	for ; it.Valid(); it.Next() {
		n++
	}
	must(t, errors.Join(it.Error(), it.Close(), <-hydrated, failed.get()))
	if want := 2 * (chunkTables*chunkBytes + deltaBytes) / 4096; n < want*9/10 || disk.remote.Composed() {
		t.Errorf("%d entries, want some %d; composed %t", n, want, disk.remote.Composed())
	}
	must(t, db.Close())
}

// A base of which the bounds show what no external file can be is copied, and
// the restore says why.
func TestComposeRefusesWhatItCannotExpress(t *testing.T) {
	store := objectstore.NewMem()
	r := rand.New(rand.NewPCG(1, 13))
	states, model := parents(t, store, r, 2)
	k := startTask(t, taskOptions{store: store, subtask: 2, epoch: 7, next: 9, groups: keyGroups(128, 2, 0), restored: &states[0]})
	first := groupKey(0)
	must(t, k.db.DeleteRange(first, groupKey(9), pebble.NoSync))
	must(t, k.db.Flush())
	for key := range model {
		if key < string(groupKey(9)) {
			delete(model, key)
		}
	}
	k.materialize()
	states[0], _ = k.checkpoint(9, 0)
	k.close()
	state := Rescale(states, allGroups)
	l := mustLazy(t, store, state)
	if !errors.Is(l.stats.Copied, errNotComposable) || l.stats.RemoteObjects != 0 {
		t.Errorf("copied for %v, %d objects are remote", l.stats.Copied, l.stats.RemoteObjects)
	}
	sameState(t, contents(t, l.DB), model, "copied")
}
