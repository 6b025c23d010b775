package filesink

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest"
)

func lines(dst []byte, s string) []byte { return append(append(dst, s...), '\n') }

// open makes a writer that has recovered handles.
func open(t *testing.T, dir string, epoch manifest.Epoch, subtask int, handles ...[]byte) *writer[string] {
	t.Helper()
	sw, err := New(dir, lines).Writer(engine.SinkContext{Epoch: epoch, Subtask: subtask, Parallelism: subtask + 1})
	if err != nil {
		t.Fatal(err)
	}
	w := sw.(*writer[string])
	t.Cleanup(func() { w.Close() })
	if err := w.Recover(t.Context(), handles); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *writer[T]) mustPrepare(t *testing.T, id manifest.ID, records ...T) [][]byte {
	t.Helper()
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	handles, err := w.Prepare(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return handles
}

func (w *writer[T]) mustCommit(t *testing.T, handles [][]byte) {
	t.Helper()
	if err := w.Commit(t.Context(), handles); err != nil {
		t.Fatal(err)
	}
}

// visible is the content of the parts in dir.
func visible(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, e := range entries {
		if e.Name() == pendingDir {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		parts[e.Name()] = string(content)
	}
	return parts
}

func pending(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, pendingDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func wantParts(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if got := visible(t, dir); !maps.Equal(got, want) {
		t.Errorf("visible parts %q, want %q", got, want)
	}
}

func TestAppearsWhenCommitted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	w := open(t, dir, 1, 3)
	h := w.mustPrepare(t, 7, "a", "b")
	wantParts(t, dir, map[string]string{})
	w.mustCommit(t, h)
	wantParts(t, dir, map[string]string{"part-3-7": "a\nb\n"})
	if p := pending(t, dir); len(p) > 0 {
		t.Errorf("left %q", p)
	}
}

func TestB67_NotifyOfEachCheckpoint(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 1, 0)
	h1 := w.mustPrepare(t, 1, "one")
	h2 := w.mustPrepare(t, 2, "two")
	w.mustCommit(t, h1)
	wantParts(t, dir, map[string]string{"part-0-1": "one\n"})
	w.mustCommit(t, h2)
	wantParts(t, dir, map[string]string{"part-0-1": "one\n", "part-0-2": "two\n"})
}

func TestB67_F105_LostNotice(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 1, 0)
	h := w.mustPrepare(t, 1, "one")
	h = append(h, w.mustPrepare(t, 2, "two")...)
	w.mustCommit(t, h)
	wantParts(t, dir, map[string]string{"part-0-1": "one\n", "part-0-2": "two\n"})
}

// TestB67_Restore commits what is prepared and aborts what is unfinished, by
// writers of another number than before.
func TestB67_Restore(t *testing.T) {
	dir := t.TempDir()
	var committed [][]byte
	for i := range 3 {
		w := open(t, dir, 1, i)
		committed = append(committed, w.mustPrepare(t, 1, fmt.Sprint("one ", i))...)
		w.mustPrepare(t, 2, "prepared for a checkpoint that was never committed")
		if err := w.Write("never prepared"); err != nil {
			t.Fatal(err)
		}
		if err := w.buf.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(pending(t, dir)); n != 9 {
		t.Fatalf("%d uncommitted files, want 9", n)
	}
	w0 := open(t, dir, 2, 0, committed[0], committed[2])
	if n := len(pending(t, dir)); n != 7 {
		t.Errorf("%d uncommitted files after one of two has recovered, want 7: Recover must remove nothing", n)
	}
	w1 := open(t, dir, 2, 1, committed[1])
	for _, w := range []*writer[string]{w1, w0} {
		if err := w.AbortLeftovers(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if p := pending(t, dir); len(p) > 0 {
		t.Errorf("left %q", p)
	}
	want := map[string]string{"part-0-1": "one 0\n", "part-1-1": "one 1\n", "part-2-1": "one 2\n"}
	wantParts(t, dir, want)

	// Id 2 comes again in the new epoch, as it was never committed.
	w0.mustCommit(t, w0.mustPrepare(t, 2, "two"))
	want["part-0-2"] = "two\n"
	wantParts(t, dir, want)
}

func TestF8_CommitTwice(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 1, 0)
	h := w.mustPrepare(t, 1, "one")
	w.mustCommit(t, h)
	w.mustCommit(t, h)
	open(t, dir, 2, 0, h...)
	open(t, dir, 3, 1, append(h, h...)...)
	wantParts(t, dir, map[string]string{"part-0-1": "one\n"})
}

// TestF9_HalfCommitted recovers handles of which some were committed.
func TestF9_HalfCommitted(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir, 1, 0), open(t, dir, 1, 1)
	ha, hb := a.mustPrepare(t, 1, "a"), b.mustPrepare(t, 1, "b")
	a.mustCommit(t, ha)
	open(t, dir, 2, 0, append(ha, hb...)...)
	wantParts(t, dir, map[string]string{"part-0-1": "a\n", "part-1-1": "b\n"})
}

// TestF21_ZombieWriter lets a writer that was replaced go on.
func TestF21_ZombieWriter(t *testing.T) {
	dir := t.TempDir()
	zombie := open(t, dir, 1, 0)
	done := zombie.mustPrepare(t, 1, "one")
	if err := zombie.Write("zombie"); err != nil {
		t.Fatal(err)
	}
	next := open(t, dir, 2, 0, done...)
	if err := next.AbortLeftovers(t.Context()); err != nil {
		t.Fatal(err)
	}
	mine := next.mustPrepare(t, 2, "successor")
	// The zombie awakes: what it learns late and what it still writes.
	zombie.mustCommit(t, done)
	if err := zombie.AbortLeftovers(t.Context()); err != nil {
		t.Fatal(err)
	}
	zombie.mustPrepare(t, 2, "zombie")
	zombie.mustPrepare(t, 3, "zombie")
	next.mustCommit(t, mine)
	wantParts(t, dir, map[string]string{"part-0-1": "one\n", "part-0-2": "successor\n"})
	for _, name := range pending(t, dir) {
		if epoch, err := parsePendingName(name); err != nil || epoch != 1 {
			t.Errorf("uncommitted file %q is not the zombie's", name)
		}
	}
}

func TestNothingWritten(t *testing.T) {
	dir := t.TempDir()
	sw, err := New(dir, func(dst []byte, s string) []byte { return append(dst, s...) }).Writer(engine.SinkContext{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := sw.(*writer[string])
	defer w.Close()
	if err := w.Recover(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if h := w.mustPrepare(t, 1); len(h) > 0 {
		t.Errorf("handles %q of nothing", h)
	}
	if h := w.mustPrepare(t, 2, "", ""); len(h) > 0 {
		t.Errorf("handles %q of records without bytes", h)
	}
	w.mustCommit(t, nil)
	wantParts(t, dir, map[string]string{})
	if p := pending(t, dir); len(p) > 0 {
		t.Errorf("left %q", p)
	}
}

func TestCloseKeepsPrepared(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 1, 0)
	h := w.mustPrepare(t, 1, "one")
	if err := w.Write("two"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if p := pending(t, dir); len(p) != 1 {
		t.Errorf("uncommitted files %q, want the prepared one", p)
	}
	open(t, dir, 2, 0, h...)
	wantParts(t, dir, map[string]string{"part-0-1": "one\n"})
}

func TestMovedDirectory(t *testing.T) {
	old := filepath.Join(t.TempDir(), "old")
	h := open(t, old, 1, 0).mustPrepare(t, 1, "one")
	dir := filepath.Join(filepath.Dir(old), "new")
	if err := os.Rename(old, dir); err != nil {
		t.Fatal(err)
	}
	open(t, dir, 2, 0, h...)
	wantParts(t, dir, map[string]string{"part-0-1": "one\n"})
}

func TestLargeOutput(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 1, 0)
	record := strings.Repeat("x", 1000)
	w.mustCommit(t, w.mustPrepare(t, 1, slices.Repeat([]string{record}, 500)...))
	if got := visible(t, dir)["part-0-1"]; got != strings.Repeat(record+"\n", 500) {
		t.Errorf("%d bytes came out", len(got))
	}
}

func TestCommitRefuses(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, dir, prepared string)
		is    error
	}{
		{"prepared file removed", func(t *testing.T, dir, prepared string) {
			if err := os.Remove(filepath.Join(dir, pendingDir, prepared)); err != nil {
				t.Fatal(err)
			}
		}, ErrLost},
		{"part of another job, same size", func(t *testing.T, dir, _ string) {
			if err := os.WriteFile(filepath.Join(dir, "part-0-1"), []byte("two\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, ErrConflict},
		{"part of another size", func(t *testing.T, dir, prepared string) {
			if err := os.Remove(filepath.Join(dir, pendingDir, prepared)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "part-0-1"), []byte("other\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, ErrConflict},
		{"directory in the way", func(t *testing.T, dir, _ string) {
			if err := os.Mkdir(filepath.Join(dir, "part-0-1"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, ErrConflict},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			w := open(t, dir, 1, 0)
			h := w.mustPrepare(t, 1, "one")
			tt.spoil(t, dir, w.name)
			err := w.Commit(t.Context(), h)
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), filepath.Join(dir, "part-0-1")) {
				t.Errorf("error %v, want %v", err, tt.is)
			}
		})
	}
}

func TestF57_HandlesOutsideRefused(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "out")
	w := open(t, dir, 1, 0)
	w.mustPrepare(t, 1, "one")
	good := w.name
	for _, h := range []string{
		"", "{}", "null", `{"pending":`,
		`{"pending":"` + good + `","part":"../part-0-1","bytes":4}`,
		`{"pending":"` + good + `","part":"/tmp/part-0-1","bytes":4}`,
		`{"pending":"` + good + `","part":"part-0-1/../../x","bytes":4}`,
		`{"pending":"` + good + `","part":"part-00-1","bytes":4}`,
		`{"pending":"` + good + `","part":"part-0-0","bytes":4}`,
		`{"pending":"` + good + `","part":"part--1-1","bytes":4}`,
		`{"pending":"` + good + `","part":"part-0-1","bytes":0}`,
		`{"pending":"../../x","part":"part-0-1","bytes":4}`,
		`{"pending":"/etc/passwd","part":"part-0-1","bytes":4}`,
		`{"pending":"C:\\x","part":"part-0-1","bytes":4}`,
		"{\"pending\":\"" + good + "\\u0000\",\"part\":\"part-0-1\",\"bytes\":4}",
	} {
		if err := w.Commit(t.Context(), [][]byte{[]byte(h)}); err == nil {
			t.Errorf("handle %s was taken", h)
		}
		if got, err := parseHandle([]byte(h)); err == nil {
			t.Errorf("handle %s was read as %+v", h, got)
		}
	}
	wantParts(t, dir, map[string]string{})
	if entries, err := os.ReadDir(base); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v beside the output", entries, err)
	}
}

// TestF57_LinkedPending commits through a .pending that leads elsewhere.
func TestF57_LinkedPending(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, pendingDir)); err != nil {
		t.Skip("no symbolic links here")
	}
	sw, err := New(dir, lines).Writer(engine.SinkContext{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer sw.Close()
	err = sw.Recover(t.Context(), nil)
	if err == nil {
		err = sw.Write("x")
	}
	if err == nil {
		t.Error("wrote through a link that leads out of the directory")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("%v, %v outside", entries, err)
	}
}

func TestLeavesForeignFilesAlone(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 5, 0)
	foreign := []string{"0000000005-0-9", "0000000006-0-0", "1-0-0", "0000000001-0-x", "0000000001-0-00", "notes"}
	for _, name := range append(foreign, "0000000004-2-0") {
		if err := os.WriteFile(filepath.Join(dir, pendingDir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.AbortLeftovers(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(foreign)
	if got := pending(t, dir); !slices.Equal(got, foreign) {
		t.Errorf("left %q, want %q", got, foreign)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	sw, err := New(file, lines).Writer(engine.SinkContext{})
	if err != nil {
		t.Fatal(err)
	}
	defer sw.Close()
	if err := sw.Recover(t.Context(), nil); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v", err)
	}
}

func TestWriteAfterDirectoryVanished(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	w := open(t, dir, 1, 0)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := w.Write("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func FuzzParseHandle(f *testing.F) {
	f.Add([]byte(`{"pending":"0000000001-0-0","part":"part-0-1","bytes":4}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHandle(b)
		if err != nil {
			return
		}
		if !filepath.IsLocal(h.Part) || filepath.Base(h.Part) != h.Part || filepath.Base(h.Pending) != h.Pending {
			t.Errorf("handle %+v leads out of the directory", h)
		}
		encoded, err := h.encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseHandle(encoded); err != nil || again != h {
			t.Errorf("%+v came back as %+v, %v", h, again, err)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	sw, err := New(b.TempDir(), lines).Writer(engine.SinkContext{Epoch: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer sw.Close()
	if err := sw.Recover(b.Context(), nil); err != nil {
		b.Fatal(err)
	}
	w := sw.(*writer[string])
	b.ReportAllocs()
	for b.Loop() {
		if w.bytes > 64<<20 {
			if err := w.discard(); err != nil {
				b.Fatal(err)
			}
			w.bytes = 0
		}
		if err := sw.Write("philosophy\t12345"); err != nil {
			b.Fatal(err)
		}
	}
}
