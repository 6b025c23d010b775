package incremental

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// putStore knows what was written to it, and refuses to be asked what it has.
type putStore struct {
	objectstore.Store
	t    testing.TB
	fail func(key string) error

	mu   sync.Mutex
	puts map[string]int64 // sizes by key
}

func newPutStore(t testing.TB) *putStore {
	return &putStore{Store: objectstore.NewMem(), t: t, puts: make(map[string]int64)}
}

func (s *putStore) Put(ctx context.Context, key string, b objectstore.Body, o objectstore.PutOptions) (objectstore.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(key); err != nil {
			return objectstore.Info{}, err
		}
	}
	if _, again := s.puts[key]; again {
		s.t.Errorf("%s is written twice", key)
	}
	s.puts[key] = b.Size()
	return s.Store.Put(ctx, key, b, o)
}

func (s *putStore) Stat(context.Context, string) (objectstore.Info, error) {
	s.t.Error("the store was asked for an object")
	return objectstore.Info{}, objectstore.ErrNotExist
}

// total is how many objects were written, and their bytes.
func (s *putStore) total() (objects, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.puts {
		bytes += n
	}
	return int64(len(s.puts)), bytes
}

// userDB is a database of somebody else's and its snapshots.
type userDB struct {
	t      *testing.T
	store  objectstore.Store
	fs     vfs.FS
	dir    string
	opts   func() *pebble.Options
	db     *pebble.DB
	snaps  *Snapshotter
	newest manifest.ID
}

// openUserDB opens the database in dir; fs nil is the operating system's.
func openUserDB(t *testing.T, s objectstore.Store, fs vfs.FS, dir string, opts func() *pebble.Options, epoch manifest.Epoch, next manifest.ID, previous *manifest.Operator) *userDB {
	t.Helper()
	w := &userDB{t: t, store: s, fs: fs, dir: filepath.Join(dir, "db"), opts: opts, newest: next - 1}
	o := opts()
	o.FS = fs
	var err error
	if w.db, err = pebble.Open(w.dir, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.snaps, err = NewSnapshotter(w.db, SnapshotterOptions{
		Store: s, Operator: "db", Epoch: epoch, NextID: next, Previous: previous, FS: fs, Dir: filepath.Join(dir, "scratch"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// snapshot takes one that builds on the one before.
func (w *userDB) snapshot(id manifest.ID) *manifest.Operator {
	w.t.Helper()
	op, err := w.snaps.Snapshot(w.t.Context(), Barrier{ID: id, OldestBase: w.newest})
	if err != nil {
		w.t.Fatal(err)
	}
	m := BackupManifest("job", w.snaps.opts.Epoch, id, w.newest, op)
	m.JobUUID = "u"
	stored, err := manifest.Encode(m)
	if err != nil {
		w.t.Fatal(err)
	}
	if m, err = manifest.Decode(stored); err != nil {
		w.t.Fatal(err)
	}
	w.newest = id
	return m.Operator("db")
}

// restoreUserDB restores a snapshot and reads it with the user's options.
func restoreUserDB(t *testing.T, s objectstore.Store, op *manifest.Operator, opts func() *pebble.Options, read func(*pebble.DB)) {
	t.Helper()
	fs := vfs.NewMem()
	if _, err := Restore(t.Context(), RestoreOptions{Store: s, State: *op.Tasks[0].Keyed, Dir: "/restored", FS: fs}); err != nil {
		t.Fatal(err)
	}
	o := opts()
	o.FS, o.ErrorIfNotExists = fs, true
	db, err := pebble.Open("/restored", o)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	read(db)
}

// smallTables makes options under which little data makes many files.
func smallTables(walOff bool) func() *pebble.Options {
	return func() *pebble.Options {
		o := &pebble.Options{
			DisableWAL: walOff, MemTableSize: 32 << 10, L0CompactionThreshold: 2, LBaseMaxBytes: 64 << 10,
			MaxManifestFileSize: 16 << 10, Logger: &logger{}, FormatMajorVersion: pebble.FormatNewest,
		}
		o.TargetFileSizes[0] = 16 << 10
		return o
	}
}

// churn does n random changes, sets, deletes and deletes of ranges, among
// 300 of 3000 keys.
func (w *userDB) churn(r *rand.Rand, model map[string]string, n int) {
	w.t.Helper()
	must := func(err error) {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	first := r.IntN(2700)
	for range n {
		key := fmt.Sprintf("%04d", first+r.IntN(300))
		switch r.IntN(40) {
		case 0:
			end := fmt.Sprintf("%04d~", first+r.IntN(300))
			if end > key {
				must(w.db.DeleteRange([]byte(key), []byte(end), pebble.NoSync))
				maps.DeleteFunc(model, func(k, _ string) bool { return key <= k && k < end })
			}
		case 1, 2, 3, 4:
			must(w.db.Delete([]byte(key), pebble.NoSync))
			delete(model, key)
		default:
			v := fmt.Sprintf("%x", r.Uint64()) + strings.Repeat("v", r.IntN(200))
			must(w.db.Set([]byte(key), []byte(v), pebble.NoSync))
			model[key] = v
		}
	}
}

// Snapshots that build on each other, with flushes and compactions between
// them, are each exact for ever, and upload each file once.
func TestSnapshotterExact(t *testing.T) {
	disks := map[string]func() (vfs.FS, string){
		"disk":   func() (vfs.FS, string) { return nil, t.TempDir() },
		"memory": func() (vfs.FS, string) { return vfs.NewMem(), "/" },
		"record": func() (vfs.FS, string) { return NewRecordFS(vfs.NewMem()), "/" },
	}
	for name, disk := range disks {
		for _, walOff := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/DisableWAL=%t", name, walOff), func(t *testing.T) {
				fs, dir := disk()
				store := newPutStore(t)
				w := openUserDB(t, store, fs, dir, smallTables(walOff), 1, 1, nil)
				r := rand.New(rand.NewPCG(9, 9))
				model := make(map[string]string)
				var ops []*manifest.Operator
				var models []map[string]string
				var reused int
				for id := manifest.ID(1); id <= 12; id++ {
					w.churn(r, model, 600)
					if id%4 == 0 {
						if err := w.db.Compact(t.Context(), []byte("0"), []byte("9"), false); err != nil {
							t.Fatal(err)
						}
						w.churn(r, model, 3) // left in the memtable
					}
					objects, bytes := store.total()
					op := w.snapshot(id)
					afterObjects, afterBytes := store.total()
					stats := op.Tasks[0].Stats
					if stats.NewObjects != afterObjects-objects || stats.NewBytes != afterBytes-bytes {
						t.Errorf("snapshot %d: %+v, uploaded %d objects", id, stats, afterObjects-objects)
					}
					reused += w.checkUploads(op, ops)
					ops, models = append(ops, op), append(models, maps.Clone(model))
				}
				if reused == 0 {
					t.Error("no snapshot had a file of the one before")
				}
				for i, op := range ops {
					restoreUserDB(t, store, op, smallTables(walOff), func(db *pebble.DB) {
						sameState(t, contents(t, db), models[i], fmt.Sprintf("snapshot %d", i+1))
					})
				}
				w.checkScratch(fs, dir)
			})
		}
	}
}

// checkUploads wants every table that the snapshot before had under the same
// name to be the same object, and returns how many there are.
func (w *userDB) checkUploads(op *manifest.Operator, before []*manifest.Operator) (reused int) {
	w.t.Helper()
	if len(before) == 0 {
		return 0
	}
	had := make(map[string]manifest.Object)
	for _, f := range before[len(before)-1].Tasks[0].Keyed.Pieces[0].Base.Files {
		had[f.Name] = f.Object
	}
	for _, f := range op.Tasks[0].Keyed.Pieces[0].Base.Files {
		if strings.HasSuffix(f.Name, ".log") {
			w.t.Errorf("the snapshot has the WAL %s", f.Name)
		}
		if o, ok := had[f.Name]; ok && immutable(f.Name) {
			if reused++; o != f.Object {
				w.t.Errorf("%s is uploaded again, as %s", f.Name, f.Object.Key)
			}
		}
	}
	return reused
}

// checkScratch wants nothing but the lock to stay.
func (w *userDB) checkScratch(fs vfs.FS, dir string) {
	w.t.Helper()
	if fs == nil {
		fs = vfs.Default
	}
	names, err := fs.List(filepath.Join(dir, "scratch", "db.snapshot"))
	if _, recorded := fs.(*RecordFS); !recorded && (err != nil || !slices.Equal(names, []string{"LOCK"})) {
		w.t.Errorf("the scratch directory holds %q, %v", names, err)
	}
}

// What is committed before the call is in a snapshot, however many go on
// writing, and no batch is in it in part.
func TestSnapshotterWhileWriting(t *testing.T) {
	for _, walOff := range []bool{false, true} {
		t.Run(fmt.Sprintf("DisableWAL=%t", walOff), func(t *testing.T) {
			store := newPutStore(t)
			w := openUserDB(t, store, nil, t.TempDir(), smallTables(walOff), 1, 1, nil)
			const writers = 3
			var committed [writers]atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			var group sync.WaitGroup
			for i := range writers {
				group.Go(func() {
					for n := int64(1); ctx.Err() == nil; n++ {
						if err := w.commitPair(i, n); err != nil {
							t.Error(err)
							return
						}
						committed[i].Store(n)
					}
				})
			}
			type taken struct {
				op     *manifest.Operator
				before [writers]int64
			}
			var snaps []taken
			for id := manifest.ID(1); id <= 10; id++ {
				var s taken
				for i := range writers {
					s.before[i] = committed[i].Load()
				}
				s.op = w.snapshot(id)
				snaps = append(snaps, s)
			}
			cancel()
			group.Wait()
			for i, s := range snaps {
				restoreUserDB(t, store, s.op, smallTables(walOff), func(db *pebble.DB) {
					checkPairs(t, contents(t, db), s.before[:], fmt.Sprintf("snapshot %d", i+1))
				})
			}
		})
	}
}

// commitPair sets two keys far apart to n in one batch, and leaves a key of
// its own.
func (w *userDB) commitPair(writer int, n int64) error {
	b := w.db.NewBatch()
	defer b.Close()
	value := fmt.Appendf(nil, "%d", n)
	return errors.Join(
		b.Set(fmt.Appendf(nil, "a%d", writer), value, nil),
		b.Set(fmt.Appendf(nil, "z%d", writer), value, nil),
		b.Set(fmt.Appendf(nil, "m%d-%08d", writer, n), make([]byte, 100), nil),
		b.Commit(pebble.NoSync),
	)
}

// checkPairs wants the first commits of each writer, and at least so many.
func checkPairs(t *testing.T, got map[string]string, before []int64, what string) {
	t.Helper()
	for i, least := range before {
		a, z := got[fmt.Sprintf("a%d", i)], got[fmt.Sprintf("z%d", i)]
		var n int64
		if a != "" {
			fmt.Sscan(a, &n)
		}
		if a != z || n < least {
			t.Errorf("%s: writer %d has %q and %q, %d were committed before", what, i, a, z, least)
		}
		rows := int64(0)
		for key := range got {
			if strings.HasPrefix(key, fmt.Sprintf("m%d-", i)) {
				rows++
			}
		}
		if _, last := got[fmt.Sprintf("m%d-%08d", i, n)]; rows != n || n > 0 && !last {
			t.Errorf("%s: writer %d has %d rows of %d", what, i, rows, n)
		}
	}
}
