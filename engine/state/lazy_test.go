package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// The random life of a store whose restored state comes slowly and with faults
// that pass, so that reads, writes, captures, materializations and retention
// happen while it is hydrated. To restore lazily is what a store does if it is
// not told otherwise.
func TestLazyStoreIsAMap(t *testing.T) {
	lazy := 0
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 45))
		opts := testOptions(t)
		opts.Materialize = MaterializePolicy{MaxDeltas: 1 + rng.IntN(4)}
		opts.Caches = NewCaches(1<<20, 100)
		t.Cleanup(opts.Caches.Close)
		j := newJob(t, opts)
		j.stop()
		rules := []storetest.Rule{
			{Op: storetest.Get, Chance: 0.5, Do: storetest.Delay(20 * time.Millisecond)},
			{Op: storetest.Get, Chance: 0.02, Do: storetest.Fail(objectstore.ErrUnavailable)},
			{Op: storetest.Get, Chance: 0.05, Do: storetest.CutBody(100)},
		}
		for nth := 3; nth < 200; nth += 17 { // what is asked for again is right
			rules = append(rules, storetest.Rule{Op: storetest.Get, Nth: nth, Do: storetest.FlipByte(int64(rng.IntN(2000)))})
		}
		j.opts.Store = storetest.NewFaulty(j.objects, seed, rules...)
		j.start(nil)
		j.onStart = func() {
			if j.store.restored.RemoteObjects > 0 {
				lazy++
			}
		}
		j.randomLife(rng)
	}
	if lazy < 4 {
		t.Errorf("only %d lazy restores", lazy)
	}
}

// The same for states that are put together.
func TestComposedStoreIsAMap(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 48))
		j, faulty, from := composedJob(t, Lazy)
		faulty.Add(storetest.Rule{Op: storetest.Get, Chance: 0.5, Do: storetest.Delay(20 * time.Millisecond)})
		j.opts.Materialize = MaterializePolicy{MaxDeltas: 1 + rng.IntN(4)}
		j.opts.Caches = NewCaches(1<<20, 100)
		t.Cleanup(j.opts.Caches.Close)
		j.start(from)
		if j.store.restored.RemoteObjects < 3 {
			t.Errorf("%d objects are remote", j.store.restored.RemoteObjects)
		}
		j.check(rng)
		j.randomLife(rng)
		if j.seen.bases == 0 {
			t.Error("no base was made")
		}
	}
}

// lazyJob has a checkpoint of one base to restore from.
func lazyJob(t *testing.T, restore RestoreMode) (*job, *storetest.Faulty, *checkpoint) {
	t.Helper()
	opts := testOptions(t)
	opts.Materialize = MaterializePolicy{MaxDeltas: 1}
	opts.Restore = restore
	j := newJob(t, opts)
	rng := rand.New(rand.NewPCG(1, 46))
	var c *checkpoint
	for c == nil || len(c.keyed.Pieces) == 0 || len(c.keyed.Deltas) > 0 {
		j.write(rng, 100)
		j.trigger(manifest.Periodic)
		j.commit()
		j.awaitBase()
		j.trigger(manifest.Periodic)
		c = j.commit()
	}
	j.stop()
	faulty := storetest.NewFaulty(j.objects, 1)
	j.opts.Store = faulty
	return j, faulty, c
}

// awaitBase returns when no base is under way.
func (j *job) awaitBase() {
	for busy := true; busy; runtime.Gosched() {
		j.store.mu.Lock()
		busy = j.store.base.cancel != nil
		j.store.mu.Unlock()
	}
}

// composedJob is lazyJob with a state put together from those of three tasks.
func composedJob(t *testing.T, restore RestoreMode) (*job, *storetest.Faulty, *checkpoint) {
	t.Helper()
	opts := testOptions(t)
	opts.Materialize, opts.Restore = MaterializePolicy{MaxDeltas: 1}, restore
	j := newJob(t, opts)
	j.stop()
	from := &checkpoint{id: 900, model: map[string]string{}}
	var parents []manifest.KeyedState
	for g := range testGroups.Last + 1 {
		parent, part := parentJob(t, int(g)+1), manifest.KeyGroupRange{First: g, Last: g}
		c := parent.live[len(parent.live)-1]
		parents = append(parents, incremental.Rescale([]manifest.KeyedState{*c.keyed}, part))
		for key, value := range c.model {
			if part.Contains(uint16(key[0])<<8 | uint16(key[1])) {
				from.model[key] = value
			}
		}
		for o := range c.keyed.NeededObjects() {
			body, _, err := objectstore.ReadAll(t.Context(), parent.objects, o.Key, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := j.objects.Put(t.Context(), o.Key, objectstore.Bytes(body), objectstore.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	keyed := incremental.Rescale(parents, testGroups)
	if len(keyed.Pieces) != 3 {
		t.Fatalf("%d pieces", len(keyed.Pieces))
	}
	from.keyed, j.model = &keyed, from.model
	j.live, j.epoch, j.next = []*checkpoint{from}, 100, 901
	faulty := storetest.NewFaulty(j.objects, 1)
	j.opts.Store = faulty
	return j, faulty, from
}

// parentJob has a checkpoint of a base and a few deltas.
func parentJob(t *testing.T, subtask int) *job {
	opts := testOptions(t)
	opts.Materialize, opts.Subtask = MaterializePolicy{MaxDeltas: 4}, subtask
	j := newJob(t, opts)
	rng := rand.New(rand.NewPCG(uint64(subtask), 47))
	for c := (*checkpoint)(nil); c == nil || len(c.keyed.Pieces) == 0 || len(c.keyed.Deltas) == 0; {
		j.write(rng, 100)
		j.trigger(manifest.Periodic)
		c = j.commit()
	}
	j.stop()
	return j
}

type lazyStart func(*testing.T, RestoreMode) (*job, *storetest.Faulty, *checkpoint)

// lazyStarts are the two kinds of state that are left in the object store.
var lazyStarts = map[string]lazyStart{
	"one base": lazyJob, "composed": composedJob,
}

// blockGets holds all reads back until the function it returns is called.
func blockGets(f *storetest.Faulty) (release func()) {
	gate := make(chan struct{})
	f.Add(storetest.Rule{Op: storetest.Get, Do: storetest.At(storetest.Before, func(ctx context.Context, _ storetest.Call) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})})
	return func() { close(gate) }
}

// tableOf is the object of a table of the checkpoint's base.
func tableOf(c *checkpoint) manifest.Object {
	for _, f := range c.keyed.Pieces[0].Base.Files {
		if strings.HasSuffix(f.Name, ".sst") {
			return f.Object
		}
	}
	return manifest.Object{}
}

// A lazy store opens, captures and writes while the object store answers no
// read, and is hydrated when it does.
func TestLazyStoreWorksBeforeItIsHydrated(t *testing.T) {
	for name, start := range lazyStarts {
		t.Run(name, func(t *testing.T) { lazyStoreWorksBeforeItIsHydrated(t, start) })
	}
}

func lazyStoreWorksBeforeItIsHydrated(t *testing.T, start lazyStart) {
	j, faulty, from := start(t, Lazy)
	release := blockGets(faulty)
	hydrations := make(chan Hydration, 1)
	j.opts.OnHydrated = func(h Hydration) { hydrations <- h }
	j.start(from)
	select {
	case <-j.store.Hydrated():
		t.Error("hydrated without reading")
	default:
	}
	j.put([]byte("\x00\x01\x01ak"), []byte("v"))
	j.trigger(manifest.Periodic)
	c := j.commit()
	if !c.keeps()[tableOf(from).Key] {
		t.Error("the checkpoint does not keep a table that is still remote")
	}
	if pieces := len(from.keyed.Pieces); pieces > 1 {
		if got := len(c.keyed.Pieces); got != pieces {
			t.Errorf("the checkpoint names %d pieces, want the parents' %d", got, pieces)
		}
		if j.store.mayBegin() {
			t.Error("a base may be begun of a state that is not local")
		}
	}
	release()
	<-j.store.Hydrated()
	if h := <-hydrations; h.Objects == 0 || h.Objects != j.store.RestoreStats().RemoteObjects || h.Bytes == 0 {
		t.Errorf("hydration was %+v of %+v", h, j.store.RestoreStats())
	}
	j.awaitBase()
	faulty.Cut(true) // nothing is read from the store any more
	rng := rand.New(rand.NewPCG(1, 1))
	j.check(rng)
	faulty.Cut(false)
	for range 100 {
		j.write(rng, 10)
		j.trigger(manifest.Periodic)
		if c := j.commit(); !c.keeps()[tableOf(from).Key] {
			return
		}
	}
	t.Errorf("%d compactions since it is local, and the restored table is still kept", j.store.db.Metrics().Compact.Count)
}

func TestEagerStoreIsHydratedAtOnce(t *testing.T) {
	for name, start := range lazyStarts {
		t.Run(name, func(t *testing.T) { eagerStoreIsHydratedAtOnce(t, start) })
	}
}

func eagerStoreIsHydratedAtOnce(t *testing.T, start lazyStart) {
	j, faulty, from := start(t, Eager)
	j.start(from)
	select {
	case <-j.store.Hydrated():
	default:
		t.Error("not hydrated")
	}
	faulty.Cut(true)
	j.check(rand.New(rand.NewPCG(1, 1)))
	faulty.Cut(false)
	if n := j.store.RestoreStats().RemoteObjects; n != 0 {
		t.Errorf("%d objects are remote", n)
	}
}

func TestRestoreModeIsChecked(t *testing.T) {
	opts := testOptions(t)
	opts.Store, opts.NextID, opts.Restore = objectstore.NewMem(), 1, "later"
	if _, err := Open(t.Context(), opts); err == nil || !strings.Contains(err.Error(), `"later"`) {
		t.Errorf("got %v", err)
	}
}

// F33 F47 F48: an object that turns out to be damaged or missing after the
// store opened fails the store and is named; no read ever gives a wrong value,
// and none gives any afterwards.
func TestF33_F47_F48_LazyStoreFailsForDamage(t *testing.T) {
	for name, start := range lazyStarts {
		t.Run(name, func(t *testing.T) { lazyStoreFailsForDamage(t, start) })
	}
}

func lazyStoreFailsForDamage(t *testing.T, start lazyStart) {
	for name, damage := range map[string]func(good []byte) []byte{
		"missing":    func([]byte) []byte { return nil },
		"longer":     func(good []byte) []byte { return append(good, 0) },
		"same size":  func(good []byte) []byte { return make([]byte, len(good)) },
		"first byte": func(good []byte) []byte { good[0] ^= 1; return good },
		"last byte":  func(good []byte) []byte { good[len(good)-1] ^= 1; return good },
	} {
		for _, read := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/read=%t", name, read), func(t *testing.T) {
				j, faulty, from := start(t, Lazy)
				release := blockGets(faulty)
				failures := make(chan error, 1)
				j.opts.OnFailure = func(err error) { failures <- err }
				j.start(from)
				table := tableOf(from)
				good, _, err := objectstore.ReadAll(t.Context(), j.objects, table.Key, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				if err := j.objects.Delete(t.Context(), table.Key); err != nil {
					t.Fatal(err)
				}
				if bad := damage(good); bad != nil {
					if _, err := j.objects.Put(t.Context(), table.Key, objectstore.Bytes(bad), objectstore.PutOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				release()
				for key, want := range j.model {
					if !read {
						break
					}
					if v, ok, err := j.store.Get([]byte(key)); err == nil && (!ok || string(v) != want) {
						t.Fatalf("get %x = %x, %t; want %x", key, v, ok, want)
					}
				}
				err = <-failures
				var corrupt *manifest.CorruptError
				if !errors.As(err, &corrupt) || corrupt.Key != table.Key || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("failed with %v, want a CorruptError of %s", err, table.Key)
				}
				for key := range j.model {
					if _, _, err := j.store.Get([]byte(key)); !errors.Is(err, manifest.ErrCorrupt) {
						t.Fatalf("get afterwards: %v", err)
					}
				}
			})
		}
	}
}

// A store can be closed, and fails, while reads wait for the object store:
// they come back, and no goroutine stays.
func TestLazyStoreIsClosedWhileHydrated(t *testing.T) {
	for name, start := range lazyStarts {
		t.Run(name, func(t *testing.T) { lazyStoreIsClosedWhileHydrated(t, start) })
	}
}

func lazyStoreIsClosedWhileHydrated(t *testing.T, start lazyStart) {
	j, faulty, from := start(t, Lazy)
	blockGets(faulty)
	before := runtime.NumGoroutine()
	j.start(from)
	var key []byte
	for k := range j.model {
		key = []byte(k)
	}
	got := make(chan error)
	go func() {
		_, _, err := j.store.Get(key)
		got <- err
	}()
	for waiting := 0; waiting == 0; runtime.Gosched() {
		waiting = len(faulty.Calls())
	}
	j.store.stop(ErrClosed) // as Close does first
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("read that waited: %v", err)
	}
	if err := j.store.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(j.store.opts.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory after close: %v", err)
	}
	deadline := time.Now().Add(time.Minute)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
		runtime.Gosched()
	}
}

// Open ends with its context also while it waits for a table, and leaves
// nothing.
func TestLazyOpenIsCancelled(t *testing.T) {
	for name, start := range lazyStarts {
		t.Run(name, func(t *testing.T) { lazyOpenIsCancelled(t, start) })
	}
}

func lazyOpenIsCancelled(t *testing.T, start lazyStart) {
	j, _, from := start(t, Lazy)
	o := j.opts
	o.Epoch, o.NextID, o.Restored = 9, 100, from.keyed
	o.Dir = filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	if _, err := os.Stat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory after open: %v", err)
	}
}

// What a crash leaves of a store that was being hydrated is not taken for a
// state, and in nobody's way.
func TestLazyStoreAfterCrash(t *testing.T) {
	for name, start := range lazyStarts {
		t.Run(name, func(t *testing.T) { lazyStoreAfterCrash(t, start) })
	}
}

func lazyStoreAfterCrash(t *testing.T, start lazyStart) {
	j, faulty, from := start(t, Lazy)
	release := blockGets(faulty)
	j.start(from)
	var crashed string
	for copied := false; !copied; { // Pebble may remove a file meanwhile
		crashed = filepath.Join(t.TempDir(), "s")
		err := os.CopyFS(crashed, os.DirFS(j.store.opts.Dir))
		if copied = err == nil; !copied && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	release()
	o := j.opts
	o.Epoch, o.NextID, o.Restored, o.Dir = 9, 100, from.keyed, crashed
	if _, err := Open(t.Context(), o); !errors.Is(err, incremental.ErrDirNotEmpty) {
		t.Errorf("open over it: %v", err)
	}
	if got := readBack(t, faulty, testGroups, from.keyed); !maps.Equal(got, j.model) {
		t.Error("restored beside it: other state")
	}
}
