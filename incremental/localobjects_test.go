package incremental

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// localSet is a directory of copies in memory, of objects with made-up content.
type localSet struct {
	t *testing.T
	*LocalObjects
	fs vfs.FS
}

func newLocalSet(t *testing.T, maxBytes int64) *localSet {
	t.Helper()
	s := &localSet{t: t, fs: vfs.NewMem()}
	s.LocalObjects = NewLocalObjects("/job/objects", LocalOptions{FS: s.fs, MaxBytes: maxBytes})
	if err := s.Retain(slices.Values[[]manifest.Object](nil)); err != nil {
		t.Fatal(err)
	}
	return s
}

// object makes one for a checkpoint, of 10 bytes, and keeps a copy.
func (s *localSet) object(id manifest.ID, n uint64) manifest.Object {
	s.t.Helper()
	name := manifest.DataName{ID: id, Epoch: 1, Operator: "op", N: n, Ext: manifest.ExtSST}
	o := manifest.Object{Key: name.Key(), Size: 10}
	if err := writeFile(s.fs, "/job/file", fmt.Appendf(nil, "%10d", n)); err != nil {
		s.t.Fatal(err)
	}
	s.Keep(o, "/job/file")
	return o
}

// wantNames fails the test unless exactly these objects have copies.
func (s *localSet) wantNames(what string, objects ...manifest.Object) {
	s.t.Helper()
	names, err := s.fs.List("/job/objects")
	if err != nil {
		s.t.Fatal(err)
	}
	var want []string
	for _, o := range objects {
		want = append(want, url.QueryEscape(o.Key))
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		s.t.Errorf("%s: copies of %q, want %q", what, names, want)
	}
	if n, size := s.Size(); n != len(want) || size != int64(10*n) {
		s.t.Errorf("%s: size is %d objects of %d bytes, want %d", what, n, size, len(want))
	}
}

// B68: confirming a checkpoint removes what only earlier ones named, aborting
// one only takes it out of account.
func TestB68_ConfirmAndAbort(t *testing.T) {
	s := newLocalSet(t, 0)
	objects := slices.Values[[]manifest.Object]
	base, d1, d2, d3 := s.object(1, 0), s.object(1, 1), s.object(2, 2), s.object(3, 3)
	k := s.Task(objects([]manifest.Object{base}))
	k.Reported(1, objects([]manifest.Object{base, d1}))
	k.Reported(2, objects([]manifest.Object{base, d1, d2}))
	k.Reported(3, objects([]manifest.Object{base, d1, d2, d3}))
	k.Aborted(2)
	s.wantNames("after abort 2", base, d1, d2, d3)
	k.Confirmed(1)
	s.wantNames("after confirm 1", base, d1, d2, d3)

	// A new base takes the place of all; a delta is there for the next one.
	base4, d5 := s.object(4, 4), s.object(5, 5)
	k.Reported(4, objects([]manifest.Object{base4, d3}))
	k.Confirmed(3)
	s.wantNames("after confirm 3", base, d1, d2, d3, base4, d5)
	k.Confirmed(4)
	k.Confirmed(3) // late
	s.wantNames("after confirm 4", d3, base4, d5)

	// What was uploaded for an aborted one is named by the next, or by none.
	d6, old := s.object(5, 6), s.object(3, 7)
	k.Reported(5, objects([]manifest.Object{base4, d3, d5, d6, old}))
	k.Confirmed(4)
	s.wantNames("before abort 5", d3, base4, d5, d6, old)
	k.Aborted(5)
	k.Confirmed(4)
	s.wantNames("after abort 5", d3, base4, d5, d6)
	k.Reported(6, objects([]manifest.Object{base4, d5}))
	k.Confirmed(6)
	s.wantNames("after confirm 6", base4, d5)
}

// An object stays as long as one of several tasks needs it.
func TestLocalObjectsAreShared(t *testing.T) {
	s := newLocalSet(t, 0)
	objects := slices.Values[[]manifest.Object]
	shared, own := s.object(1, 0), s.object(1, 1)
	a := s.Task(objects([]manifest.Object{shared}))
	b := s.Task(objects([]manifest.Object{shared, own}))
	a.Reported(7, objects(nil))
	b.Reported(7, objects([]manifest.Object{own}))
	a.Confirmed(7)
	s.wantNames("confirmed by one", shared, own)
	b.Confirmed(7)
	s.wantNames("confirmed by both", own)
}

// The oldest go first, and one that is larger than the bound does not come in.
func TestLocalObjectsAreBounded(t *testing.T) {
	s := newLocalSet(t, 35)
	var all []manifest.Object
	for i := range uint64(6) {
		all = append(all, s.object(1, i))
	}
	s.wantNames("six of 10 bytes in 35", all[3:]...)
	large := manifest.Object{Key: "large", Size: 36}
	s.Keep(large, "/job/file")
	s.wantNames("one that is too large", all[3:]...)
	s.GiveWay()
	s.wantNames("after a full disk")
	s.wantNames("kept again", s.object(1, 7))
}

// What a crash left, or somebody put there, is removed at the next start; what
// the checkpoint names stays.
func TestRetain(t *testing.T) {
	s := newLocalSet(t, 0)
	kept, cut := s.object(1, 0), s.object(1, 2)
	s.object(1, 1) // named by nothing
	for _, name := range []string{url.QueryEscape(kept.Key) + localTemp, "foreign", "%zz", url.QueryEscape(cut.Key)} {
		if err := writeFile(s.fs, "/job/objects/"+name, []byte("torn")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.fs.MkdirAll("/job/objects/dir/sub", 0o700); err != nil {
		t.Fatal(err)
	}
	again := NewLocalObjects("/job/objects", LocalOptions{FS: s.fs})
	if err := again.Retain(slices.Values([]manifest.Object{kept, cut})); err != nil {
		t.Fatal(err)
	}
	s.LocalObjects = again
	s.wantNames("named by the checkpoint", kept)
	if err := s.Retain(slices.Values[[]manifest.Object](nil)); err != nil {
		t.Fatal(err)
	}
	s.wantNames("no checkpoint")
}

// keepAll keeps copies of all objects of a state, from a restore.
func keepAll(t *testing.T, l *LocalObjects, fs vfs.FS, store objectstore.Store, state manifest.KeyedState) {
	t.Helper()
	opts := RestoreOptions{Store: store, State: state, Dir: "/job/first", FS: fs, Local: l}
	if _, err := Restore(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	if err := fs.RemoveAll("/job/first"); err != nil {
		t.Fatal(err)
	}
}

// F77: whatever a power cut leaves of the copies, which nobody syncs, the
// state that is restored is the right one.
func TestF77_TornLocalObjects(t *testing.T) {
	store := objectstore.NewMem()
	state, want := rescaledState(t, store)
	var used, fetched int64
	for percent := 0; percent <= 100; percent += 10 {
		fs := vfs.NewCrashableMem()
		l := NewLocalObjects("/job/objects", LocalOptions{FS: fs})
		if err := l.Retain(state.NeededObjects()); err != nil {
			t.Fatal(err)
		}
		keepAll(t, l, NewRecordFS(fs), store, state)
		// Their names are durable, or nothing of them would be left.
		if err := errors.Join(syncDir(fs, "/job/objects"), syncDir(fs, "/job"), syncDir(fs, "/")); err != nil {
			t.Fatal(err)
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(77, uint64(percent)))})
		l = NewLocalObjects("/job/objects", LocalOptions{FS: clone})
		if err := l.Retain(state.NeededObjects()); err != nil {
			t.Fatal(err)
		}
		stats, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: "/job/db", FS: clone, Local: l})
		if err != nil {
			t.Fatal(err)
		}
		used, fetched = used+stats.LocalObjects, fetched+stats.Objects
		sameState(t, plain(t, clone, "/job/db"), want, fmt.Sprintf("%d percent", percent))
	}
	if used == 0 || fetched == 0 {
		t.Errorf("%d copies were used, %d objects fetched", used, fetched)
	}
}

// Whichever operation on the copies fails, the restore succeeds.
func TestLocalObjectsFail(t *testing.T) {
	store := objectstore.NewMem()
	state, want := smallState(t, store)
	for k := int64(1); ; k++ {
		disk := &faultyDisk{k: k, forever: k%2 == 0, err: syscall.EIO}
		fs := vfs.NewMem()
		l := NewLocalObjects("/job/objects", LocalOptions{FS: disk.wrap(fs)})
		for round := range 3 {
			_ = l.Retain(state.NeededObjects()) // that too
			dir := fmt.Sprintf("/job/db%d", round)
			if _, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: dir, FS: fs, Local: l}); err != nil {
				t.Fatalf("operation %d, round %d: %v", k, round, err)
			}
			if k%5 == 0 {
				sameState(t, plain(t, fs, dir), want, fmt.Sprintf("operation %d", k))
			}
			l.Drop(tablesOf(state)[0].Key, syscall.EIO)
		}
		if !disk.hit.Load() {
			break
		}
	}
}

// tablesOf are the objects of a state's bases and deltas.
func tablesOf(s manifest.KeyedState) (out []manifest.Object) {
	for o := range s.NeededObjects() {
		out = append(out, o)
	}
	return out
}

// A lazy restore takes from the store what has no copy, or a wrong one, and
// nothing else; what is hydrated has a sound one afterwards.
func TestLazyRestoreUsesLocalObjects(t *testing.T) {
	store := objectstore.NewMem()
	state, want := leveledState(t, store, 3)
	disk := vfs.NewMem()
	l := NewLocalObjects("/job/objects", LocalOptions{FS: disk})
	if err := l.Retain(state.NeededObjects()); err != nil {
		t.Fatal(err)
	}
	keepAll(t, l, NewRecordFS(disk), store, state)
	tables := slices.Collect(func(yield func(manifest.Object) bool) {
		for _, f := range state.Pieces[0].Base.Files {
			if isTable(f) && !yield(f.Object) {
				return
			}
		}
	})
	l.Drop(tables[0].Key, errors.New("for the test"))
	name, _ := localName(tables[1].Key)
	if err := errors.Join(disk.Remove(l.path(name)), writeFile(disk, l.path(name), make([]byte, tables[1].Size))); err != nil {
		t.Fatal(err)
	}
	for round, wantRemote := range []int64{2, 0} { // the wrong copy is found out as Restore reads it
		if round == 1 { // there is nothing more to fetch
			store = objectstore.NewMem()
		}
		remote := NewRemoteFS(t.Context(), disk, store)
		fs := NewRecordFS(remote)
		dir := fmt.Sprintf("/job/db%d", round)
		stats, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: dir, FS: fs, Local: l})
		if err != nil {
			t.Fatal(err)
		}
		if stats.RemoteObjects != wantRemote || stats.Objects != 0 || stats.LocalObjects == 0 {
			t.Errorf("round %d: %+v", round, stats)
		}
		if err := remote.Hydrate(HydrateOptions{}); err != nil {
			t.Fatal(err)
		}
		sameState(t, plain(t, disk, dir), want, dir)
		if n, _ := remote.Left(); n != 0 {
			t.Errorf("%d tables are left", n)
		}
	}
}

// Tasks keep, restore, confirm and give way at the same time.
func TestLocalObjectsConcurrently(t *testing.T) {
	store := objectstore.NewMem()
	state, want := smallState(t, store)
	fs := vfs.NewMem()
	l := NewLocalObjects("/job/objects", LocalOptions{FS: fs})
	if err := l.Retain(state.NeededObjects()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			task := l.Task(state.NeededObjects())
			for round := range manifest.ID(5) {
				dir := fmt.Sprintf("/job/db-%d-%d", i, round)
				if _, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: dir, FS: fs, Local: l}); err != nil {
					t.Error(err)
				}
				task.Reported(round+1, state.NeededObjects())
				task.Aborted(round)
				task.Confirmed(round + 1)
				if i == 0 {
					l.GiveWay()
				}
			}
		})
	}
	wg.Wait()
	for i := range 4 {
		sameState(t, plain(t, fs, fmt.Sprintf("/job/db-%d-4", i)), want, fmt.Sprint(i))
	}
	names, err := fs.List("/job/objects")
	if n, _ := l.Size(); err != nil || n != len(names) {
		t.Errorf("%d copies in %d files (%v)", n, len(names), err)
	}
}

func FuzzLocalName(f *testing.F) {
	for _, key := range []string{"", ".", "..", "../../etc/passwd", "data/00/x.sst", "a%2Fb", "a b", "a+b", "\x00", `a\b:c`, strings.Repeat("/", 100)} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		name, ok := localName(key)
		if !ok {
			return
		}
		if back, err := url.QueryUnescape(name); err != nil || back != key {
			t.Errorf("%q is kept as %q, which is %q, %v", key, name, back, err)
		}
		if name == "" || name[0] == '.' || len(name) > maxLocalName || path.Base(name) != name || strings.ContainsAny(name, "/\\:\x00 ") {
			t.Errorf("%q is kept as %q", key, name)
		}
	})
}
