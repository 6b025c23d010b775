package incremental

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// deltasState is a state of deltas alone, each of about so many bytes that do
// not compress, and what it holds.
func deltasState(t *testing.T, store objectstore.Store, deltas, size int) (manifest.KeyedState, map[string]string) {
	t.Helper()
	k := startTask(t, taskOptions{store: store, epoch: 1, next: 1, groups: allGroups, held: true})
	rng := rand.NewChaCha8([32]byte{7})
	for i := range deltas {
		for j := range size / 1000 {
			value := make([]byte, 1000)
			rng.Read(value)
			key := string(groupKey(uint16(j%128))) + fmt.Sprintf("%04d", j*(1+i%2))
			k.model[key], k.dirty[key] = string(value), true
		}
		k.spill()
	}
	state, _ := k.checkpoint(1, 0)
	k.close()
	return state, k.atCut
}

// readFrom counts the bytes and requests that a store was asked for.
func readFrom(f *storetest.Faulty) (bytes int64, gets int) {
	for _, c := range f.Calls() {
		if c.Op == storetest.Get {
			gets++
			bytes += c.Length
		}
	}
	return bytes, gets
}

// Deltas are laid over a state by their ends: what is in them is fetched when it
// is read. Hydrated, the database has them all.
func TestLazyDeltasAreNotDownloaded(t *testing.T) {
	mem := objectstore.NewMem()
	const deltas, size = 12, 3 << 20
	state, want := deltasState(t, mem, deltas, size)
	store := storetest.NewFaulty(mem, 1)
	l := mustLazy(t, store, state)
	bytes, gets := readFrom(store)
	if bytes > deltas*size/4 || gets != 2*deltas {
		t.Errorf("%d bytes of %d by %d gets to open %d deltas", bytes, deltas*size, gets, deltas)
	}
	if l.stats.RemoteObjects != deltas || l.stats.Objects != 0 {
		t.Errorf("restore says %+v", l.stats)
	}
	if names, err := l.disk.List("/a/db.restoring"); err == nil {
		t.Errorf("left beside it: %q", names)
	}
	sameState(t, contents(t, l.DB), want, "lazy")
	if err := l.remote.Hydrate(HydrateOptions{DB: l.DB}); err != nil {
		t.Fatal(err)
	}
	l.close(t)
	sameState(t, plain(t, l.disk, "/a/db"), want, "reopened")
}

// A base that is made while deltas are still remote consists of their objects,
// and is restored as lazily.
func TestBaseOfRemoteDeltas(t *testing.T) {
	mem := objectstore.NewMem()
	state, want := deltasState(t, mem, 3, 2<<20)
	store := storetest.NewFaulty(mem, 1)
	l := mustLazy(t, store, state)
	before, _ := readFrom(store)
	ledger := NewLedger(LedgerOptions{Operator: "op", Epoch: 2, NextID: 2, KeyGroups: allGroups, Restored: &state})
	ledger.SetRemote(l.remote.Objects())
	base := materialized(t, l, ledger, mem)
	if bytes, _ := readFrom(store); bytes != before {
		t.Errorf("%d bytes were read to make it", bytes-before)
	}
	for _, f := range base.Files {
		if isTable(f) && f.Pack.Pack == 0 {
			t.Errorf("%s is in no pack", f.Name)
		}
	}
	again := manifest.KeyedState{KeyGroups: allGroups, Pieces: []manifest.Piece{{KeyGroups: allGroups, Base: &base}}}
	sameState(t, contents(t, mustLazy(t, mem, again).DB), want, "restored")
}

func materialized(t *testing.T, l *lazyDB, ledger *Ledger, store objectstore.Store) manifest.Base {
	t.Helper()
	c, err := CaptureBase(l.DB, l.fs)
	if err != nil {
		t.Fatal(err)
	}
	position := ledger.Position()
	if err := ledger.StartBase(position); err != nil {
		t.Fatal(err)
	}
	base, _, err := UploadBase(t.Context(), c, UploadBaseOptions{Uploader: Uploader{store}, Ledger: ledger, Position: position, Parallel: 1})
	if err := errors.Join(err, ledger.FinishBase(base), c.Release()); err != nil {
		t.Fatal(err)
	}
	return base
}

// A remote table has as many names as it was given, each as good as the other,
// whichever goes first; what was read of it stays read.
func TestRemoteLinks(t *testing.T) {
	for name, after := range map[string]func(r *remoteBytes) error{
		"first removed": func(r *remoteBytes) error { return r.Remove(tablePath) },
		"second removed": func(r *remoteBytes) error {
			return errors.Join(r.Remove("/db2/u.sst"), r.Link(tablePath, "/db2/u.sst"))
		},
		"first's directory removed": func(r *remoteBytes) error {
			return errors.Join(r.Rename("/db2", "/db3"), r.RemoveAll("/db"), r.Rename("/db3", "/db2"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRemoteBytes(t, 3*segmentSize)
			if err := errors.Join(r.disk.MkdirAll("/db2", 0o700), r.read(0, 1), r.Link(tablePath, "/db2/u.sst"), after(r)); err != nil {
				t.Fatal(err)
			}
			if len(r.Objects()) != 1 {
				t.Errorf("remote are %v", r.Objects())
			}
			f, err := r.Open("/db2/u.sst")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.ReadAt(make([]byte, 10), 0); err != nil || r.gets() != 1 {
				t.Errorf("read: %v after %d gets", err, r.gets())
			}
			if err := r.Hydrate(HydrateOptions{}); err != nil {
				t.Fatal(err)
			}
			if info, err := r.disk.Stat("/db2/u.sst"); err != nil || info.Size() != r.object.Size {
				t.Errorf("local file: %v, %v", info, err)
			}
			if err := errors.Join(r.RemoveAll("/db"), r.RemoveAll("/db2")); err != nil || len(r.Objects()) != 0 {
				t.Errorf("remove all: %v", err)
			}
		})
	}
}

// Both names of a table that is hydrated are there afterwards.
func TestHydrateLinked(t *testing.T) {
	r := newRemoteBytes(t, segmentSize)
	if err := errors.Join(r.Link(tablePath, "/db/u.sst"), r.Hydrate(HydrateOptions{})); err != nil {
		t.Fatal(err)
	}
	names, err := r.disk.List("/db")
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"t.sst", "u.sst"}) {
		t.Errorf("local are %q, %v", names, err)
	}
}

// Hydrations that share streams have no more requests under way than these
// allow; and a reader waits neither for its turn nor for what hydration asked
// for.
func TestHydrationHoldsNoReaderBack(t *testing.T) {
	const allowed = 2
	streams := NewStreams(allowed)
	var running, most atomic.Int32
	gate := make(chan struct{})
	held := storetest.At(storetest.Before, func(ctx context.Context, _ storetest.Call) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	var group sync.WaitGroup
	var all []*remoteBytes
	for range 3 {
		r := newRemoteBytes(t, 2*partSize)
		all = append(all, r)
		slow := storetest.NewFaulty(r.store, 1, storetest.Rule{Op: storetest.Get, Do: held})
		group.Go(func() {
			if err := r.Hydrate(HydrateOptions{Store: slow, Streams: streams}); err != nil {
				t.Error(err)
			}
		})
	}
	finishes(t, "the first requests", func() {
		for running.Load() < allowed {
			runtime.Gosched()
		}
	})
	for _, r := range all {
		finishes(t, "a read", func() {
			if err := r.read(100, segmentSize); err != nil {
				t.Error(err)
			}
		})
	}
	close(gate)
	group.Wait()
	if most.Load() != allowed {
		t.Errorf("%d requests were under way at a time, want %d", most.Load(), allowed)
	}
	for _, r := range all {
		r.wantLocal(t)
	}
}

// A pack of which little is of use any more is given up: what is left of it
// goes into a new one.
func TestPacksAreRenewed(t *testing.T) {
	store := objectstore.NewMem()
	k := startTask(t, taskOptions{store: store, epoch: 1, next: 1, groups: allGroups, held: true})
	for i := range 8 { // tables side by side
		for j := range 20 {
			key := string(groupKey(uint16(i))) + fmt.Sprint(j)
			k.model[key], k.dirty[key] = fmt.Sprint(i, j), true
		}
		k.spill()
	}
	k.materialize()
	state, _ := k.checkpoint(1, 0)
	first := state.Pieces[0].Base.Packs
	compact := func(from, to uint16, id manifest.ID) *manifest.Base {
		for g := from; g <= to; g++ { // one new table of these groups
			key := string(groupKey(g)) + "0"
			k.model[key], k.dirty[key] = "new", true
		}
		k.spill()
		if err := k.db.Compact(t.Context(), groupKey(from), groupKey(to+1), false); err != nil {
			t.Fatal(err)
		}
		k.materialize()
		state, _ := k.checkpoint(id, id-1)
		return state.Pieces[0].Base
	}
	if b := compact(0, 1, 2); len(b.Packs) != 2 || !slices.Contains(b.Packs, first[0]) {
		t.Errorf("most of it is of use: packs are %v", b.Packs)
	}
	b := compact(1, 6, 3)
	if slices.Contains(b.Packs, first[0]) {
		t.Errorf("little of it is of use: packs are %v", b.Packs)
	}
	for _, f := range b.Files {
		if isTable(f) && f.Pack.Pack == 0 {
			t.Errorf("%s is in no pack", f.Name)
		}
	}
	sameState(t, contents(t, k.db), k.model, "compacted")
	k.close()
}

// A reader whose request is slow and then fails has what hydration brought
// meanwhile.
func TestReaderHasWhatHydrationBrought(t *testing.T) {
	begun, gate := make(chan struct{}, remoteTries), make(chan struct{})
	r := newRemoteBytes(t, 2*segmentSize, storetest.Rule{Op: storetest.Get, Do: storetest.At(storetest.Before, func(context.Context, storetest.Call) error {
		begun <- struct{}{}
		<-gate
		return objectstore.ErrUnavailable
	})})
	good := objectstore.NewMem()
	overwrite(t, good, r.object.Key, r.content)
	read := make(chan error)
	go func() { read <- r.read(0, 10) }()
	<-begun
	if err := r.Hydrate(HydrateOptions{Store: good}); err != nil {
		t.Error(err)
	}
	close(gate)
	if err := <-read; err != nil {
		t.Errorf("read: %v", err)
	}
}
