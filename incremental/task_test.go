package incremental

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// task is a subtask without records: a map of what its state should hold, and
// all that this package makes of it. The changes since the last delta are in
// dirty.
type task struct {
	t       *testing.T
	store   objectstore.Store
	dir     string
	fs      *RecordFS
	remote  *RemoteFS // under fs, of a lazy restore
	stats   RestoreStats
	db      *pebble.DB
	ledger  *Ledger
	failed  firstError
	groups  manifest.KeyGroupRange
	model   map[string]string
	dirty   map[string]bool
	atCut   map[string]string // the model at the last barrier
	spilled uint64
}

type taskOptions struct {
	store    objectstore.Store
	subtask  int
	epoch    manifest.Epoch
	next     manifest.ID
	restored *manifest.KeyedState
	reserved []manifest.Object
	groups   manifest.KeyGroupRange
	held     bool // compactions are
	lazy     bool // restore
}

func startTask(t *testing.T, o taskOptions) *task {
	t.Helper()
	k := &task{
		t: t, store: o.store, dir: "/task/db", fs: NewRecordFS(vfs.NewMem()), groups: o.groups,
		model: make(map[string]string), dirty: make(map[string]bool),
	}
	if o.lazy {
		k.remote = NewRemoteFS(t.Context(), vfs.NewMem(), o.store)
		k.fs = NewRecordFS(k.remote)
	}
	if o.restored != nil {
		stats, err := Restore(t.Context(), RestoreOptions{Store: o.store, State: *o.restored, Dir: k.dir, FS: k.fs})
		if err != nil {
			t.Fatal(err)
		}
		k.stats = stats
	}
	opts := PebbleOptions(DBOptions{FS: k.fs, Failed: k.failed.set})
	opts.DisableAutomaticCompactions = o.held
	db, err := pebble.Open(k.dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	k.db = db
	k.model = contents(t, db)
	k.ledger = NewLedger(LedgerOptions{
		Operator: "op", Subtask: o.subtask, Epoch: o.epoch, NextID: o.next, KeyGroups: o.groups,
		Restored: o.restored, Reserved: o.reserved,
	})
	if o.lazy {
		k.ledger.SetRemote(k.remote.Objects())
	}
	k.spilled = k.ledger.position
	t.Cleanup(k.close)
	return k
}

func (k *task) close() {
	if k.db == nil {
		return
	}
	if err := errors.Join(k.db.Close(), k.failed.get()); err != nil {
		k.t.Error(err)
	}
	k.db = nil
}

// hydrate makes what a lazy restore left in the store local.
func (k *task) hydrate() {
	k.t.Helper()
	if k.remote == nil {
		return
	}
	if err := k.remote.Hydrate(HydrateOptions{DB: k.db}); err != nil {
		k.t.Fatal(err)
	}
	if left := k.remote.Objects(); len(left) > 0 {
		k.t.Fatalf("%d objects are remote after hydration", len(left))
	}
	k.ledger.SetRemote(nil)
}

// change does n random puts and deletes.
func (k *task) change(r *rand.Rand, n int) {
	for range n {
		key := k.randomKey(r)
		if r.IntN(5) == 0 {
			delete(k.model, key)
		} else {
			k.model[key] = fmt.Sprintf("value-%d", r.Uint64())
		}
		k.dirty[key] = true
	}
}

func (k *task) randomKey(r *rand.Rand) string {
	kg := k.groups.First + uint16(r.IntN(int(k.groups.Last-k.groups.First)+1))
	return string(groupKey(kg)) + fmt.Sprintf("key-%03d", r.IntN(300))
}

// heavy reports whether the long forms of tests are asked for.
func heavy() bool { return os.Getenv("CKPT_HEAVY") == "1" }

// spill makes a delta of the changes, uploads and ingests it.
func (k *task) spill() {
	if len(k.dirty) == 0 {
		return
	}
	k.t.Helper()
	position := k.ledger.NextPosition()
	d := k.delta(position, k.ledger.DeltaName(position))
	if err := k.ledger.AddDelta(d); err != nil {
		k.t.Fatal(err)
	}
}

func (k *task) delta(position uint64, name manifest.DataName) manifest.Delta {
	k.t.Helper()
	path := filepath.Join(filepath.Dir(k.dir), fmt.Sprintf("delta-%d", position))
	file, err := WriteDelta(k.fs, path, k.entries())
	if err != nil {
		k.t.Fatal(err)
	}
	f, err := k.fs.Open(path)
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	o := manifest.Object{Key: name.Key(), Size: file.Size, SHA256: file.SHA256}
	if err := (Uploader{k.store}).Put(k.t.Context(), o, f); err != nil {
		k.t.Fatal(err)
	}
	if err := k.db.Ingest(k.t.Context(), []string{path}); err != nil {
		k.t.Fatal(err)
	}
	k.spilled = position
	clear(k.dirty)
	return file.Delta(position, o.Key)
}

func (k *task) entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, key := range slices.Sorted(maps.Keys(k.dirty)) {
			v, ok := k.model[key]
			if !yield(Entry{Key: []byte(key), Value: []byte(v), Delete: !ok}) {
				return
			}
		}
	}
}

// checkpoint captures and reports one checkpoint at once.
func (k *task) checkpoint(id, oldestBase manifest.ID) (manifest.KeyedState, []manifest.Object) {
	k.t.Helper()
	k.spill()
	if err := k.ledger.Barrier(Barrier{ID: id, OldestBase: oldestBase}); err != nil {
		k.t.Fatal(err)
	}
	k.atCut = maps.Clone(k.model)
	keyed, reserved, err := k.ledger.Report(id)
	if err != nil {
		k.t.Fatal(err)
	}
	return *keyed, reserved
}

// materialize makes a base of the database as it is.
func (k *task) materialize() UploadStats {
	k.t.Helper()
	k.hydrate()
	if err := k.ledger.StartBase(k.spilled); err != nil {
		k.t.Fatal(err)
	}
	c, err := CaptureBase(k.db, k.fs)
	if err != nil {
		k.t.Fatal(err)
	}
	base, stats, err := UploadBase(k.t.Context(), c, UploadBaseOptions{
		Uploader: Uploader{k.store}, Ledger: k.ledger, Position: k.spilled, Parallel: 1,
	})
	if err := errors.Join(err, c.Release()); err != nil {
		k.t.Fatal(err)
	}
	if err := k.ledger.FinishBase(base); err != nil {
		k.t.Fatal(err)
	}
	return stats
}

// contents reads a whole database.
func contents(t *testing.T, db *pebble.DB) map[string]string {
	t.Helper()
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for it.First(); it.Valid(); it.Next() {
		out[string(it.Key())] = string(it.Value())
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// restored gives what a state holds, read with plain Pebble.
func restored(t *testing.T, s objectstore.Store, state manifest.KeyedState) map[string]string {
	t.Helper()
	fs := vfs.NewMem()
	if _, err := Restore(t.Context(), RestoreOptions{Store: s, State: state, Dir: "/a/restored", FS: fs}); err != nil {
		t.Fatal(err)
	}
	return plain(t, fs, "/a/restored")
}

func plain(t *testing.T, fs vfs.FS, dir string) map[string]string {
	t.Helper()
	db, err := pebble.Open(dir, &pebble.Options{FS: fs, Logger: quiet{t}})
	if err != nil {
		t.Fatal(err)
	}
	out := contents(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// quiet keeps Pebble's talk out of the test's output.
type quiet struct{ t *testing.T }

func (quiet) Infof(string, ...any)             {}
func (quiet) Errorf(string, ...any)            {}
func (q quiet) Fatalf(format string, a ...any) { q.t.Errorf(format, a...) }

func sameState(t *testing.T, got, want map[string]string, what string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	shown := 0
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[key]; (!ok || v != want[key]) && shown < 3 {
			t.Errorf("%s: key %q is %q (there: %t), want %q", what, key, v, ok, want[key])
			shown++
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok && shown < 6 {
			t.Errorf("%s: key %q should not be there", what, key)
			shown++
		}
	}
	t.Fatalf("%s: %d keys, want %d", what, len(got), len(want))
}

// inGroups keeps the keys of some key groups.
func inGroups(model map[string]string, r manifest.KeyGroupRange) map[string]string {
	out := make(map[string]string)
	for k, v := range model {
		if r.Contains(binary.BigEndian.Uint16([]byte(k))) {
			out[k] = v
		}
	}
	return out
}

// sorted makes the entries of a delta that sets all of a model.
func sorted(model map[string]string) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for _, k := range slices.Sorted(maps.Keys(model)) {
			if !yield(Entry{Key: []byte(k), Value: []byte(model[k])}) {
				return
			}
		}
	}
}
