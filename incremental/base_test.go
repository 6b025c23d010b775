package incremental

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// A capture holds exactly what the database held, however much is ingested and
// compacted before its files are read; and it leaves nothing behind.
func TestCaptureBaseExact(t *testing.T) {
	store := objectstore.NewMem()
	k := startTask(t, taskOptions{store: store, epoch: 1, next: 1, groups: allGroups})
	r := rand.New(rand.NewPCG(1, 4))
	for range 12 {
		k.change(r, 300)
		k.spill()
	}
	c, err := CaptureBase(k.db, k.fs)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.ledger.StartBase(k.spilled); err != nil {
		t.Fatal(err)
	}
	position, want := k.spilled, contents(t, k.db)
	for range 12 {
		k.change(r, 300)
		k.spill()
	}
	if err := k.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	base, _, err := UploadBase(t.Context(), c, UploadBaseOptions{
		Uploader: Uploader{store}, Ledger: k.ledger, Position: position, Parallel: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	k.db.TestOnlyWaitForCleaning() // of what the compaction replaced
	held := len(tables(t, k.fs, k.dir))
	if err := errors.Join(c.Release(), c.Release()); err != nil {
		t.Fatal(err)
	}
	if left := len(tables(t, k.fs, k.dir)); left >= held {
		t.Errorf("%d tables before the release, %d after: none was held back", held, left)
	}
	state := manifest.KeyedState{KeyGroups: allGroups, Pieces: []manifest.Piece{{KeyGroups: allGroups, Base: &base}}}
	sameState(t, restored(t, store, state), want, "base")
	for _, f := range base.Files {
		if strings.HasSuffix(f.Name, ".log") {
			t.Errorf("the base has a WAL, %s", f.Name)
		}
	}
	k.close()
	checkFilesOf(t, k.fs, k.dir)
}

func tables(t *testing.T, fs vfs.FS, dir string) (out []string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, ".sst") {
			out = append(out, n)
		}
	}
	return out
}

// checkFilesOf wants no table in a closed database's directory that the
// database does not know.
func checkFilesOf(t *testing.T, fs vfs.FS, dir string) {
	t.Helper()
	on := tables(t, fs, dir)
	db, err := pebble.Open(dir, &pebble.Options{FS: fs, Logger: quiet{t}, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	levels, err := db.SSTables()
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, l := range levels {
		for _, s := range l {
			known = append(known, fmt.Sprintf("%06d.sst", s.BackingSSTNum))
		}
	}
	slices.Sort(known)
	if known = slices.Compact(known); !slices.Equal(on, known) {
		t.Errorf("the directory holds %q, the database knows %q", on, known)
	}
}

// Two captures at a time hold a table until both are released.
func TestRecordFSPins(t *testing.T) {
	fs := NewRecordFS(vfs.NewMem())
	if err := writeFile(fs, "/000001.sst", []byte("x")); err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for range 2 {
		dir, err := fs.begin()
		if err != nil {
			t.Fatal(err)
		}
		if err := fs.Link("/000001.sst", fs.PathJoin(dir, "000001.sst")); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	if err := fs.Remove("/000001.sst"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if err := fs.release(dirs[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := fs.Stat("/000001.sst"); (err == nil) != want {
			t.Errorf("after %d releases: there %t, want %t", i+1, err == nil, want)
		}
	}
}

// What is known of a file goes with its links and names, and ends with it.
func TestRecordFSRemembers(t *testing.T) {
	fs := NewRecordFS(vfs.NewMem())
	digest := fileDigest{size: 1, sha256: manifest.Digest{1}}
	knows := func(path string, want bool) {
		t.Helper()
		if d, ok := fs.digest(path); ok != want || ok && d != digest {
			t.Errorf("%s: known %t, want %t", path, ok, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(fs.MkdirAll("/a", 0o700))
	must(fs.MkdirAll("/a-b", 0o700))
	must(writeFile(fs, "/a/1", []byte("x")))
	must(writeFile(fs, "/a-b/1", []byte("x")))
	fs.remember("/a/1", digest)
	fs.remember("/a-b/1", digest)
	must(fs.Link("/a/1", "/a/2"))
	must(fs.Link("/a/1", "/a/3"))
	must(fs.Remove("/a/2"))
	must(writeFile(fs, "/a/3", []byte("y")))
	must(fs.Rename("/a", "/c"))
	knows("/c/1", true)
	knows("/c/2", false)
	knows("/c/3", false)
	knows("/a/1", false)
	knows("/a-b/1", true)
	must(fs.RemoveAll("/c"))
	knows("/c/1", false)
}

// A base is not sent twice: the deltas it was made of are in the store as they
// were ingested, and so is what an earlier base had, packs included.
func TestUploadBaseReuses(t *testing.T) {
	store := objectstore.NewMem()
	k := startTask(t, taskOptions{store: store, epoch: 1, next: 1, groups: allGroups, held: true})
	r := rand.New(rand.NewPCG(1, 5))
	k.change(r, 100)
	k.spill()
	if stats := k.materialize(); stats.Objects != 1 || stats.ReusedBytes == 0 { // its pack
		t.Errorf("a base of one delta cost %+v", stats)
	}
	if stats := k.materialize(); stats.Objects != 0 || stats.ReusedBytes == 0 {
		t.Errorf("the same base again cost %+v", stats)
	}
	state, reserved := k.checkpoint(1, 0)
	k.close()

	// The next life knows the files that it was restored from.
	k = startTask(t, taskOptions{store: store, epoch: 2, next: 2, groups: allGroups, restored: &state, reserved: reserved, held: true})
	k.change(r, 3)
	k.spill()
	if stats := k.materialize(); stats.Objects != 1 || stats.ReusedBytes == 0 {
		t.Errorf("a base of a restored base and one delta cost %+v", stats)
	}
	state, _ = k.checkpoint(2, 1)
	if b := state.Pieces[0].Base; len(b.Packs) != 2 {
		t.Errorf("the base refers to packs %v, want that of the restored one and one of its own", b.Packs)
	}
	sameState(t, restored(t, store, state), k.atCut, "base of the same objects")
}

// busyLedger makes reports between each upload and its entry.
type busyLedger struct {
	*Ledger
	t *testing.T
}

func (l *busyLedger) AddFile(o manifest.Object) error {
	for range 3 {
		id := l.barrier + 1
		if err := l.Barrier(Barrier{ID: id}); err != nil {
			l.t.Error(err)
		}
		if _, _, err := l.Report(id); err != nil {
			l.t.Error(err)
		}
	}
	return l.Ledger.AddFile(o)
}

// However many reports are made while a file is uploaded, it is sent once, and
// the base is complete.
func TestUploadBaseSlowly(t *testing.T) {
	store := objectstore.NewMem()
	k := startTask(t, taskOptions{store: store, epoch: 1, next: 1, groups: allGroups})
	k.change(rand.New(rand.NewPCG(1, 6)), 50)
	position := k.ledger.NextPosition()
	k.delta(position, k.ledger.DeltaName(position)) // never entered: nothing to reuse
	l := NewLedger(LedgerOptions{Operator: "op", Epoch: 1, NextID: 3, KeyGroups: allGroups})
	if err := l.StartBase(0); err != nil {
		t.Fatal(err)
	}
	c, err := CaptureBase(k.db, k.fs)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	var waited int64
	base, stats, err := UploadBase(t.Context(), c, UploadBaseOptions{
		Uploader: Uploader{store}, Ledger: &busyLedger{Ledger: l, t: t},
		Wait: func(_ context.Context, size int64) error { waited += size; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if stats.Objects != 2 || waited != stats.Bytes {
		t.Errorf("stats are %+v after waits for %d bytes, want one file sent once, and a pack", stats, waited)
	}
	if err := l.FinishBase(base); err != nil {
		t.Error(err)
	}
}

func TestUploadBaseFails(t *testing.T) {
	mem := objectstore.NewMem()
	k := startTask(t, taskOptions{store: mem, epoch: 1, next: 1, groups: allGroups})
	k.change(rand.New(rand.NewPCG(1, 6)), 50)
	position := k.ledger.NextPosition()
	k.delta(position, k.ledger.DeltaName(position))
	c, err := CaptureBase(k.db, k.fs)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	boom := errors.New("boom")
	for _, c2 := range []struct {
		name string
		opts UploadBaseOptions
		want error
	}{
		{"store", UploadBaseOptions{Uploader: Uploader{storetest.NewFaulty(mem, 1, storetest.Rule{Do: storetest.Fail(boom)})}}, boom},
		{"wait", UploadBaseOptions{Uploader: Uploader{mem}, Wait: func(context.Context, int64) error { return boom }}, boom},
	} {
		l := NewLedger(LedgerOptions{Operator: "op", Epoch: 1, NextID: 3, KeyGroups: allGroups})
		if err := l.StartBase(0); err != nil {
			t.Fatal(err)
		}
		c2.opts.Ledger = l
		if _, _, err := UploadBase(t.Context(), c, c2.opts); !errors.Is(err, c2.want) {
			t.Errorf("%s: got %v, want %v", c2.name, err, c2.want)
		}
	}
}

// A large MANIFEST is an object: a checkpoint's manifest does not repeat it.
func TestUploadBaseLargeManifest(t *testing.T) {
	fs := NewRecordFS(vfs.NewMem())
	c := &BaseCapture{fs: fs, Files: []CapturedFile{
		{Name: "MANIFEST-000001", content: make([]byte, inlineSize+1)},
		{Name: "OPTIONS-000003", content: make([]byte, inlineSize)},
	}}
	l := NewLedger(LedgerOptions{Operator: "op", Epoch: 1, NextID: 3, KeyGroups: allGroups})
	if err := l.StartBase(0); err != nil {
		t.Fatal(err)
	}
	base, _, err := UploadBase(t.Context(), c, UploadBaseOptions{Uploader: Uploader{objectstore.NewMem()}, Ledger: l, Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	if m, o := base.Files[0], base.Files[1]; m.Object.Key == "" || m.Inline != nil || o.Object.Key != "" || len(o.Inline) != inlineSize {
		t.Errorf("MANIFEST is %v with %d bytes inline, OPTIONS %v with %d", m.Object, len(m.Inline), o.Object, len(o.Inline))
	}
}

// Of the files that are no tables, only the largest is ever an object, unless
// the others would swell every manifest.
func TestUploadBaseInlines(t *testing.T) {
	for _, tc := range []struct {
		sizes []int
		want  []bool
	}{
		{[]int{0, inlineSize, inlineSize}, []bool{true, true, true}},
		{[]int{inlineSize + 1, 0}, []bool{false, true}},
		{[]int{20 << 10, 300 << 10, 40 << 10}, []bool{true, false, true}},
		{[]int{20 << 10, 300 << 10, 50 << 10, 10}, []bool{false, false, false, true}},
	} {
		var files []CapturedFile
		for _, n := range tc.sizes {
			files = append(files, CapturedFile{content: make([]byte, n)})
		}
		if got := inlined(files); !slices.Equal(got, tc.want) {
			t.Errorf("of files with sizes %v stand in the manifest: %v, want %v", tc.sizes, got, tc.want)
		}
	}
}

// A base with one new table, in a database of many, costs its upload and at
// most one more.
func TestBaseOfOneNewTable(t *testing.T) {
	faulty := storetest.NewFaulty(objectstore.NewMem(), 1)
	fs := NewRecordFS(vfs.NewMem())
	opts := PebbleOptions(DBOptions{FS: fs})
	opts.DisableAutomaticCompactions = true
	db, err := pebble.Open("/db", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l := NewLedger(LedgerOptions{Operator: "op", Epoch: 1, NextID: 1, KeyGroups: allGroups})
	id := manifest.ID(0)
	made := 0
	base := func(tables int) (puts int) {
		for range tables {
			made++
			path := fmt.Sprintf("/table-%d", made)
			key := []byte(path)
			if _, err := WriteDelta(fs, path, slices.Values([]Entry{{Key: key, Value: key}})); err != nil {
				t.Fatal(err)
			}
			if err := db.Ingest(t.Context(), []string{path}); err != nil {
				t.Fatal(err)
			}
		}
		faulty.Forget()
		if err := l.StartBase(0); err != nil {
			t.Fatal(err)
		}
		c, err := CaptureBase(db, fs)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := UploadBase(t.Context(), c, UploadBaseOptions{Uploader: Uploader{faulty}, Ledger: l, Parallel: 1})
		if err := errors.Join(err, c.Release(), l.FinishBase(b)); err != nil {
			t.Fatal(err)
		}
		id++
		if err := l.Barrier(Barrier{ID: id, OldestBase: id - 1}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Report(id); err != nil {
			t.Fatal(err)
		}
		return len(faulty.Calls())
	}
	if n := base(300); n < 300 {
		t.Errorf("first base of 300 tables took %d requests", n)
	}
	for range 3 {
		// The table, what a pack has of it, and Pebble's MANIFEST.
		if n := base(1); n < 1 || n > 3 {
			t.Errorf("base with one new table took %d requests, want at most 3", n)
		}
	}
	if n := base(0); n > 1 {
		t.Errorf("base with nothing new took %d requests, want at most 1", n)
	}
}

// BenchmarkCaptureBase is what a capture costs the goroutine that ingests.
func BenchmarkCaptureBase(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("tables=%d", n), func(b *testing.B) {
			fs := NewRecordFS(nil)
			dir := b.TempDir()
			opts := PebbleOptions(DBOptions{FS: fs})
			opts.DisableAutomaticCompactions = true
			db, err := pebble.Open(filepath.Join(dir, "db"), opts)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			for i := range n {
				path := filepath.Join(dir, fmt.Sprint(i))
				key := []byte(fmt.Sprintf("%08d", i))
				if _, err := WriteDelta(fs, path, slices.Values([]Entry{{Key: key, Value: key}})); err != nil {
					b.Fatal(err)
				}
				if err := db.Ingest(b.Context(), []string{path}); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				c, err := CaptureBase(db, fs)
				if err != nil {
					b.Fatal(err)
				}
				if err := c.Release(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
