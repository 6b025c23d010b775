package incremental

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/remote"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// versioned orders the versions of a key (key@version) from the newest.
var versioned = func() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "test.versioned"
	c.Split = func(key []byte) int {
		if i := bytes.IndexByte(key, '@'); i >= 0 {
			return i
		}
		return len(key)
	}
	suffixes := func(a, b []byte) int {
		if len(a) == 0 || len(b) == 0 {
			return cmp.Compare(len(a), len(b))
		}
		return bytes.Compare(b, a)
	}
	c.ComparePointSuffixes, c.CompareRangeSuffixes = suffixes, suffixes
	c.Compare = func(a, b []byte) int {
		i, j := c.Split(a), c.Split(b)
		return cmp.Or(bytes.Compare(a[:i], b[:j]), suffixes(a[i:], b[j:]))
	}
	c.AbbreviatedKey = func(key []byte) uint64 { return pebble.DefaultComparer.AbbreviatedKey(key[:c.Split(key)]) }
	c.Separator = func(dst, a, _ []byte) []byte { return append(dst, a...) }
	c.Successor = func(dst, a []byte) []byte { return append(dst, a...) }
	return &c
}()

// adder merges counts.
type adder struct{ sum uint64 }

func (a *adder) MergeNewer(v []byte) error { a.sum += binary.BigEndian.Uint64(v); return nil }
func (a *adder) MergeOlder(v []byte) error { return a.MergeNewer(v) }
func (a *adder) Finish(bool) ([]byte, io.Closer, error) {
	return binary.BigEndian.AppendUint64(nil, a.sum), nil, nil
}

var adding = &pebble.Merger{Name: "test.add", Merge: func(_, v []byte) (pebble.ValueMerger, error) {
	a := new(adder)
	return a, a.MergeNewer(v)
}}

// A database ordered and merged in its owner's way comes back with all that it
// can hold: merge operands that were never merged, deleted ranges, range keys.
func TestSnapshotterForeignOptions(t *testing.T) {
	opts := func() *pebble.Options {
		o := smallTables(false)()
		o.Comparer, o.Merger = versioned, adding
		return o
	}
	store := newPutStore(t)
	w := openUserDB(t, store, vfs.NewMem(), "/", opts, 1, 1, nil)
	one := binary.BigEndian.AppendUint64(nil, 1)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var op *manifest.Operator
	for round := range 3 {
		for i := range 500 {
			must(w.db.Merge(fmt.Appendf(nil, "%03d@5", i), one, pebble.NoSync))
			must(w.db.Merge(fmt.Appendf(nil, "%03d@7", i), one, pebble.NoSync))
		}
		must(w.db.DeleteRange([]byte("100"), []byte("200"), pebble.NoSync))
		must(w.db.RangeKeySet([]byte("400"), []byte("500"), []byte("@5"), fmt.Append(nil, round), pebble.NoSync))
		must(w.db.RangeKeyUnset([]byte("440"), []byte("450"), []byte("@5"), pebble.NoSync))
		op = w.snapshot(manifest.ID(round + 1))
	}
	want := everything(t, w.db)
	restoreUserDB(t, store, op, opts, func(db *pebble.DB) {
		got := everything(t, db)
		if !slices.Equal(got, want) {
			t.Errorf("restored %d entries, want %d, or others", len(got), len(want))
		}
		if n := len(got); n != 802 || got[0] != "000@7=0000000000000003" || !slices.Contains(got, "450-500 [@5=2] ") {
			t.Errorf("%d entries, from %q to %q", n, got[0], got[n-1])
		}
	})

	// Opened in another way it is refused by Pebble, for it has the OPTIONS.
	fs := vfs.NewMem()
	if _, err := Restore(t.Context(), RestoreOptions{Store: store, State: *op.Tasks[0].Keyed, Dir: "/restored", FS: fs}); err != nil {
		t.Fatal(err)
	}
	if db, err := pebble.Open("/restored", &pebble.Options{FS: fs, Logger: &logger{}}); err == nil || !strings.Contains(err.Error(), versioned.Name) {
		t.Errorf("opened with another comparer: %v, %v", db, err)
	}
}

// everything lists a database with its range keys.
func everything(t *testing.T, db *pebble.DB) (out []string) {
	t.Helper()
	it, err := db.NewIter(&pebble.IterOptions{KeyTypes: pebble.IterKeyTypePointsAndRanges})
	if err != nil {
		t.Fatal(err)
	}
	for it.First(); it.Valid(); it.Next() {
		var line string
		points, ranges := it.HasPointAndRange()
		if ranges && it.RangeKeyChanged() {
			start, end := it.RangeBounds()
			line = fmt.Sprintf("%s-%s [", start, end)
			for _, k := range it.RangeKeys() {
				line += fmt.Sprintf("%s=%s", k.Suffix, k.Value)
			}
			line += "] "
		}
		if points {
			line += fmt.Sprintf("%s=%x", it.Key(), it.Value())
		}
		out = append(out, line)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// Values that Pebble keeps in blob files, apart from their keys, come along.
func TestSnapshotterBlobFiles(t *testing.T) {
	opts := func() *pebble.Options {
		o := smallTables(true)()
		o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
			return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: 50, MaxBlobReferenceDepth: 4, TargetGarbageRatio: 0.3}
		}
		return o
	}
	for _, fs := range []vfs.FS{vfs.NewMem(), NewRecordFS(vfs.NewMem())} {
		store := newPutStore(t)
		w := openUserDB(t, store, fs, "/", opts, 1, 1, nil)
		r := rand.New(rand.NewPCG(4, 2))
		model := make(map[string]string)
		var ops []*manifest.Operator
		for id := manifest.ID(1); id <= 6; id++ {
			w.churn(r, model, 400)
			op := w.snapshot(id)
			w.checkUploads(op, ops)
			ops = append(ops, op)
			restoreUserDB(t, store, op, opts, func(db *pebble.DB) {
				sameState(t, contents(t, db), model, fmt.Sprintf("snapshot %d", id))
			})
		}
		blobs := 0
		for _, f := range ops[5].Tasks[0].Keyed.Pieces[0].Base.Files {
			if strings.HasSuffix(f.Name, ".blob") {
				blobs++
			}
		}
		if blobs == 0 {
			t.Error("there is no blob file")
		}
	}
}

// A database whose WAL is elsewhere is restored with that place in its options:
// the copy opens with an empty directory there, or with another one and the old
// path as one to recover from.
func TestSnapshotterWALDir(t *testing.T) {
	opts := func() *pebble.Options {
		o := smallTables(false)()
		o.WALDir = "/wal"
		return o
	}
	store := newPutStore(t)
	w := openUserDB(t, store, vfs.NewMem(), "/", opts, 1, 1, nil)
	model := make(map[string]string)
	w.churn(rand.New(rand.NewPCG(5, 5)), model, 500)
	op := w.snapshot(1)
	moved := func() *pebble.Options {
		o, old := smallTables(false)(), vfs.NewMem()
		if err := old.MkdirAll("/wal", 0o700); err != nil {
			t.Fatal(err)
		}
		o.WALDir, o.WALRecoveryDirs = "/other", []wal.Dir{{FS: old, Dirname: "/wal"}}
		return o
	}
	for name, opts := range map[string]func() *pebble.Options{"the same, empty": opts, "another": moved} {
		restoreUserDB(t, store, op, opts, func(db *pebble.DB) { sameState(t, contents(t, db), model, name) })
	}
	neither := smallTables(false)()
	neither.FS = vfs.NewMem()
	if _, err := Restore(t.Context(), RestoreOptions{Store: store, State: *op.Tasks[0].Keyed, Dir: "/restored", FS: neither.FS}); err != nil {
		t.Fatal(err)
	}
	if db, err := pebble.Open("/restored", neither); err == nil {
		t.Errorf("opened without the old path: %v", db.Close())
	}
}

// Two lives that go on from one snapshot give the same numbers to different
// files, and different names to their objects. Neither uploads again what the
// snapshot has.
func TestSnapshotterLives(t *testing.T) {
	for _, recorded := range []bool{false, true} {
		t.Run(fmt.Sprintf("RecordFS=%t", recorded), func(t *testing.T) {
			store := newPutStore(t)
			r := rand.New(rand.NewPCG(3, 3))
			model := make(map[string]string)
			w := openUserDB(t, store, vfs.NewMem(), "/", smallTables(false), 1, 1, nil)
			w.churn(r, model, 3000)
			first := w.snapshot(1)
			_, whole := store.total()

			for epoch := manifest.Epoch(2); epoch <= 3; epoch++ {
				var fs vfs.FS = vfs.NewMem()
				if recorded {
					fs = NewRecordFS(fs)
				}
				if _, err := Restore(t.Context(), RestoreOptions{Store: store, State: *first.Tasks[0].Keyed, Dir: "/db", FS: fs}); err != nil {
					t.Fatal(err)
				}
				life := openUserDB(t, store, fs, "/", heldTables, epoch, 2, first)
				mine := maps.Clone(model)
				for id := manifest.ID(2); id <= 4; id++ {
					life.churn(r, mine, 5)
					_, before := store.total()
					op := life.snapshot(id)
					if _, after := store.total(); (after-before)*4 > whole {
						t.Errorf("epoch %d: snapshot %d uploaded %d bytes, all of it is %d", epoch, id, after-before, whole)
					}
					restoreUserDB(t, store, op, smallTables(false), func(db *pebble.DB) {
						sameState(t, contents(t, db), mine, fmt.Sprintf("epoch %d, snapshot %d", epoch, id))
					})
				}
			}
			restoreUserDB(t, store, first, smallTables(false), func(db *pebble.DB) {
				sameState(t, contents(t, db), model, "the first life")
			})
		})
	}
}

// heldTables is smallTables without compactions, and so without the stop that
// would wait for one when level 0 is full.
func heldTables() *pebble.Options {
	o := smallTables(false)()
	o.DisableAutomaticCompactions = true
	o.L0StopWritesThreshold = 1 << 20
	return o
}

// A database that did not change costs nothing but its small files.
func TestSnapshotterIdle(t *testing.T) {
	store := newPutStore(t)
	w := openUserDB(t, store, nil, t.TempDir(), heldTables, 1, 1, nil)
	w.churn(rand.New(rand.NewPCG(1, 1)), make(map[string]string), 500)
	w.snapshot(1)
	objects, _ := store.total()
	for id := manifest.ID(2); id < 5; id++ {
		w.snapshot(id)
	}
	if after, _ := store.total(); after != objects {
		t.Errorf("%d objects for nothing", after-objects)
	}
}

// After a failed upload the same checkpoint is tried again, with what was
// uploaded before, and a crash leaves nothing in the way.
func TestSnapshotterTriesAgain(t *testing.T) {
	store := newPutStore(t)
	w := openUserDB(t, store, vfs.NewMem(), "/", heldTables, 1, 1, nil)
	model := make(map[string]string)
	w.churn(rand.New(rand.NewPCG(1, 1)), model, 2000)
	full := errors.New("bucket is full")
	w.snaps.opts.Parallel = 1
	store.fail = func(string) error {
		if len(store.puts) == 2 {
			return full
		}
		return nil
	}
	if _, err := w.snaps.Snapshot(t.Context(), Barrier{ID: 1}); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	store.fail = nil
	if err := w.fs.MkdirAll("/scratch/db.snapshot/db/left", 0o700); err != nil {
		t.Fatal(err)
	}
	op := w.snapshot(1) // the store fails the test if a name comes twice
	objects, _ := store.total()
	if _, want := needed(op.Tasks[0].Keyed); objects != want {
		t.Errorf("%d objects were uploaded for %d", objects, want)
	}
	restoreUserDB(t, store, op, heldTables, func(db *pebble.DB) { sameState(t, contents(t, db), model, "restored") })

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.snaps.Snapshot(ctx, Barrier{ID: 2}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	w.snapshot(2)
	if _, err := w.snaps.Snapshot(t.Context(), Barrier{ID: 2}); err == nil {
		t.Error("an id came twice")
	}
}

// F47: an object that was damaged or lost is found, and named.
func TestF47_SnapshotDamaged(t *testing.T) {
	store := newPutStore(t)
	w := openUserDB(t, store, vfs.NewMem(), "/", heldTables, 1, 1, nil)
	w.churn(rand.New(rand.NewPCG(1, 1)), make(map[string]string), 1000)
	state := *w.snapshot(1).Tasks[0].Keyed
	for o := range state.NeededObjects() {
		content, _, err := objectstore.ReadAll(t.Context(), store, o.Key, o.Size)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 1
		overwrite(t, store.Store, o.Key, content)
		wantCorrupt(t, store, state, o.Key, "a flipped bit")
		overwrite(t, store.Store, o.Key, nil)
		wantCorrupt(t, store, state, o.Key, "gone")
		content[len(content)/2] ^= 1
		overwrite(t, store.Store, o.Key, content)
	}
}

// A whole database is restored as it is or not at all.
func TestRestoreWholeRefuses(t *testing.T) {
	store := newPutStore(t)
	w := openUserDB(t, store, vfs.NewMem(), "/", heldTables, 1, 1, nil)
	w.churn(rand.New(rand.NewPCG(1, 1)), make(map[string]string), 100)
	whole := *w.snapshot(1).Tasks[0].Keyed
	other := whole.Pieces[0]
	other.KeyGroups = groups(1, 1)
	for name, state := range map[string]manifest.KeyedState{
		"delta over it":   {Pieces: whole.Pieces, Deltas: []manifest.Delta{testDelta(1)}},
		"beside another":  {KeyGroups: groups(0, 1), Pieces: []manifest.Piece{whole.Pieces[0], other}},
		"for more groups": {KeyGroups: groups(0, 1), Pieces: whole.Pieces},
		"rescaled":        Rescale([]manifest.KeyedState{whole, {KeyGroups: groups(1, 1)}}, groups(0, 1)),
	} {
		fs := vfs.NewMem()
		_, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: "/db", FS: fs})
		if names, _ := fs.List("/"); !errors.Is(err, ErrIncompatible) || len(names) > 0 {
			t.Errorf("%s: %v, left %q", name, err, names)
		}
	}
	newer := whole
	base := *whole.Pieces[0].Base
	base.FormatMajorVersion = uint64(pebble.FormatNewest) + 1
	newer.Pieces = []manifest.Piece{{Base: &base}}
	if _, err := Restore(t.Context(), RestoreOptions{Store: store, State: newer, Dir: "/db", FS: vfs.NewMem()}); !errors.Is(err, manifest.ErrNewerFormat) {
		t.Errorf("newer Pebble: %v", err)
	}
}

func TestSnapshotterRefuses(t *testing.T) {
	fs := vfs.NewMem()
	db, err := pebble.Open("/db", &pebble.Options{FS: fs, Logger: &logger{}})
	if err != nil {
		t.Fatal(err)
	}
	good := SnapshotterOptions{Store: objectstore.NewMem(), Operator: "db", Epoch: 1, NextID: 1, FS: fs, Dir: "/scratch"}
	engine := &manifest.Operator{UID: "db", Tasks: []manifest.Task{{Keyed: &manifest.KeyedState{Pieces: []manifest.Piece{{Base: testBase("a")}}}}}}
	for name, spoil := range map[string]func(*SnapshotterOptions){
		"":             func(*SnapshotterOptions) {},
		"no store":     func(o *SnapshotterOptions) { o.Store = nil },
		"invalid":      func(o *SnapshotterOptions) { o.Operator = "a-b" },
		"epoch 0":      func(o *SnapshotterOptions) { o.Epoch = 0 },
		"next id 0":    func(o *SnapshotterOptions) { o.NextID = 0 },
		"no directory": func(o *SnapshotterOptions) { o.Dir = "" },
		"previous":     func(o *SnapshotterOptions) { o.Previous = engine },
	} {
		o := good
		spoil(&o)
		if _, err := NewSnapshotter(db, o); (err == nil) != (name == "") || err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = pebble.Open("/db", &pebble.Options{FS: fs, Logger: &logger{}, ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := NewSnapshotter(db, good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Snapshot(t.Context(), Barrier{ID: 1}); !errors.Is(err, pebble.ErrReadOnly) {
		t.Errorf("open for reading only: %v", err)
	}
}

// Tables that Pebble keeps elsewhere are not on the disk to be copied.
func TestSnapshotterRefusesRemoteTables(t *testing.T) {
	opts := func() *pebble.Options {
		o := heldTables()
		o.FormatMajorVersion = pebble.FormatNewest
		o.Experimental.RemoteStorage = remote.MakeSimpleFactory(map[remote.Locator]remote.Storage{"": remote.NewInMem()})
		o.Experimental.CreateOnShared = remote.CreateOnSharedAll
		return o
	}
	w := openUserDB(t, newPutStore(t), vfs.NewMem(), "/", opts, 1, 1, nil)
	if err := w.db.SetCreatorID(1); err != nil {
		t.Fatal(err)
	}
	w.churn(rand.New(rand.NewPCG(1, 1)), make(map[string]string), 100)
	if _, err := w.snaps.Snapshot(t.Context(), Barrier{ID: 1}); !errors.Is(err, ErrRemoteTables) {
		t.Errorf("got %v", err)
	}
}
