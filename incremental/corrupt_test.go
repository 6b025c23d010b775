package incremental

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// smallState is one with a base of its own and deltas over it.
func smallState(t *testing.T, store objectstore.Store) (manifest.KeyedState, map[string]string) {
	t.Helper()
	k := startTask(t, taskOptions{store: store, epoch: 1, next: 1, groups: allGroups})
	r := rand.New(rand.NewPCG(1, 8))
	for i := range 3 {
		k.change(r, 20)
		k.spill()
		if i == 1 {
			k.materialize()
		}
	}
	state, _ := k.checkpoint(1, 0)
	if len(state.Pieces) != 1 || len(state.Deltas) != 1 {
		t.Fatalf("%d pieces, %d deltas", len(state.Pieces), len(state.Deltas))
	}
	return state, k.atCut
}

// wantCorrupt wants a restore to fail for one object, and to leave nothing.
func wantCorrupt(t *testing.T, store objectstore.Store, state manifest.KeyedState, key, what string) {
	t.Helper()
	fs := vfs.NewMem()
	_, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: "/db", FS: fs})
	var corrupt *manifest.CorruptError
	if !errors.As(err, &corrupt) || corrupt.Key != key {
		t.Fatalf("%s: got %v, want a CorruptError of %s", what, err, key)
	}
	if names, _ := fs.List("/"); len(names) != 0 {
		t.Fatalf("%s: left %q", what, names)
	}
}

func overwrite(t *testing.T, s objectstore.Store, key string, content []byte) {
	t.Helper()
	if err := s.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if content == nil {
		return
	}
	if _, err := s.Put(t.Context(), key, objectstore.Bytes(content), objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// F33 F47 F48 F49 F50: an object that is damaged in any way, or gone, is found
// before Pebble sees it, and named.
func TestF33_F47_F48_F49_F50_RestoreRefusesDamage(t *testing.T) {
	store := objectstore.NewMem()
	state, want := smallState(t, store)
	for o := range state.ContentObjects() {
		good, _, err := objectstore.ReadAll(t.Context(), store, o.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for i := range good {
			bad := append([]byte(nil), good...)
			bad[i] ^= 1 << (i % 8)
			overwrite(t, store, o.Key, bad)
			wantCorrupt(t, store, state, o.Key, fmt.Sprintf("byte %d flipped", i))
		}
		other := make([]byte, len(good))
		for what, bad := range map[string][]byte{
			"of the same size": other, "truncated": good[:len(good)-1], "empty": {},
			"with a byte more": append(append([]byte(nil), good...), 0), "missing": nil,
		} {
			overwrite(t, store, o.Key, bad)
			wantCorrupt(t, store, state, o.Key, what)
		}
		overwrite(t, store, o.Key, good)
	}
	sameState(t, restored(t, store, state), want, "undamaged")
}

// F34: a body that a store spoils once on its way is read again, one that it
// always spoils is corrupt.
func TestF34_RestoreReadsSpoiledBodyAgain(t *testing.T) {
	store := objectstore.NewMem()
	state, want := smallState(t, store)
	key := state.Deltas[0].Object.Key
	for name, spoil := range map[string]storetest.Action{"truncated": storetest.Truncate(9), "flipped": storetest.FlipByte(9)} {
		rule := storetest.Rule{Op: storetest.Get, Key: key, Nth: 1, Do: spoil}
		sameState(t, restored(t, storetest.NewFaulty(store, 1, rule), state), want, name)
		rule.Nth = 0
		wantCorrupt(t, storetest.NewFaulty(store, 1, rule), state, key, name)
	}
}

func TestRestoreStoreFails(t *testing.T) {
	store := objectstore.NewMem()
	state, _ := smallState(t, store)
	for name, rule := range map[string]storetest.Rule{
		"out of reach": {Op: storetest.Get, Nth: 2, Do: storetest.Fail(objectstore.ErrUnavailable)},
		"cut off":      {Op: storetest.Get, Nth: 1, Do: storetest.CutBody(5)},
	} {
		fs := vfs.NewMem()
		_, err := Restore(t.Context(), RestoreOptions{Store: storetest.NewFaulty(store, 1, rule), State: state, Dir: "/db", FS: fs})
		if !errors.Is(err, objectstore.ErrUnavailable) || errors.Is(err, manifest.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrUnavailable and not corruption", name, err)
		}
		if names, _ := fs.List("/"); len(names) != 0 {
			t.Errorf("%s: left %q", name, names)
		}
	}
}

// F57: no name in a manifest leads out of the directory.
func TestF57_RestoreRefusesNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "/etc/x", "a/../../x", `C:\x`, "a\x00b", "a b", strings.Repeat("x", 256)} {
		state := manifest.KeyedState{KeyGroups: allGroups, Pieces: []manifest.Piece{{
			KeyGroups: allGroups, Base: &manifest.Base{Files: []manifest.File{{Name: name, Inline: []byte("x")}}},
		}}}
		fs := vfs.NewMem()
		_, err := Restore(t.Context(), RestoreOptions{Store: objectstore.NewMem(), State: state, Dir: "/a/db", FS: fs})
		if !errors.Is(err, manifest.ErrInvalid) {
			t.Errorf("%q: got %v", name, err)
		}
		if names, _ := fs.List("/"); len(names) != 0 {
			t.Errorf("%q: wrote %q", name, names)
		}
	}
}

// F59: a base of a newer Pebble, or of a database with another order of keys,
// is refused by type.
func TestF59_RestoreRefusesForeignBase(t *testing.T) {
	store := objectstore.NewMem()
	state, _ := smallState(t, store)
	restore := func() error {
		_, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: "/db", FS: vfs.NewMem()})
		return err
	}
	base := state.Pieces[0].Base
	base.FormatMajorVersion = uint64(pebble.FormatNewest) + 1
	var newer *manifest.NewerFormatError
	if err := restore(); !errors.As(err, &newer) || newer.Want != newer.Have+1 {
		t.Errorf("newer Pebble: got %v", err)
	}
	base.FormatMajorVersion = uint64(FormatMajorVersion)
	for i, f := range base.Files {
		if strings.HasPrefix(f.Name, "OPTIONS-") {
			for _, line := range []string{"comparer=leveldb.BytewiseComparator", "merger=pebble.concatenate"} {
				name, _, _ := strings.Cut(line, "=")
				base.Files[i].Inline = []byte(strings.Replace(string(f.Inline), line, name+"=other", 1))
				if err := restore(); !errors.Is(err, ErrIncompatible) {
					t.Errorf("other %s: got %v", name, err)
				}
			}
		}
	}
}

// A base without its MANIFEST, or with one cut short, is an error.
func TestRestoreRefusesHalfBase(t *testing.T) {
	for _, prefix := range []string{"MANIFEST-", "marker.manifest", "marker.format-version", "OPTIONS-"} {
		store := objectstore.NewMem()
		state, want := smallState(t, store)
		base := state.Pieces[0].Base
		for i, f := range base.Files {
			if !strings.HasPrefix(f.Name, prefix) {
				continue
			}
			base.Files = append(base.Files[:i:i], base.Files[i+1:]...)
			break
		}
		fs := vfs.NewMem()
		_, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: "/db", FS: fs})
		if prefix == "OPTIONS-" && err == nil {
			sameState(t, plain(t, fs, "/db"), want, "without OPTIONS, which Pebble can do without")
		} else if err == nil {
			t.Errorf("without %s: no error", prefix)
		}
	}
}

// F78: a directory that holds anything, or is none, is refused and left alone.
func TestF78_RestoreRefusesDir(t *testing.T) {
	store := objectstore.NewMem()
	state, want := smallState(t, store)
	parent := t.TempDir()
	path := func(name string) string { return filepath.Join(parent, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(path("full/sub"), 0o700))
	must(os.Mkdir(path("link"), 0o700))
	must(os.Symlink(path("full"), path("link/sub")))
	must(os.WriteFile(path("file"), []byte("x"), 0o600))
	must(os.Mkdir(path("empty"), 0o700))
	for _, c := range []struct {
		dir string
		err error
	}{
		{"full", ErrDirNotEmpty}, {"link", ErrDirNotEmpty}, {"file", nil}, {"file/below", nil},
	} {
		_, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: path(c.dir)})
		if err == nil || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, want %v", c.dir, err, c.err)
		}
	}
	if content, err := os.ReadFile(path("file")); string(content) != "x" {
		t.Errorf("the file holds %q, %v", content, err)
	}
	for _, dir := range []string{"empty", "new", "deep/er/new"} {
		_, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: path(dir)})
		must(err)
		sameState(t, plain(t, vfs.Default, path(dir)), want, dir)
	}
	for _, name := range []string{"empty.restoring", "new.restoring", "full.restoring", "file.restoring"} {
		if _, err := os.Stat(path(name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
}

// Two restores of one directory do not disturb each other.
func TestRestoreLocks(t *testing.T) {
	store := objectstore.NewMem()
	state, want := smallState(t, store)
	fs := vfs.NewMem()
	w, err := openWorkDir(NewRecordFS(fs), "/db")
	if err != nil {
		t.Fatal(err)
	}
	opts := RestoreOptions{Store: store, State: state, Dir: "/db", FS: fs}
	if _, err := Restore(t.Context(), opts); err == nil {
		t.Error("restored beside another restore")
	}
	if _, err := fs.Stat(w.database()); err != nil {
		t.Errorf("the other restore's work is gone: %v", err)
	}
	w.close()
	if _, err := Restore(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	sameState(t, plain(t, fs, "/db"), want, "after the other one")
}
