package file_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/file"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

func open(t testing.TB, dir string) *file.Store {
	t.Helper()
	s, err := file.Open(dir, file.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func put(ctx context.Context, s objectstore.Store, key, body string, opts objectstore.PutOptions) error {
	_, err := s.Put(ctx, key, objectstore.Bytes([]byte(body)), opts)
	return err
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// files are the paths of all files below a directory, with their sizes.
func files(t *testing.T, dir string) (got []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			got = append(got, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objectstore.Store { return open(t, t.TempDir()) })
}

func TestOpenMissing(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "a", "b")
	_, err := file.Open(dir, file.Options{})
	wantError(t, "Open", err, objectstore.ErrNoBucket)
	if !strings.Contains(err.Error(), dir) || errors.Is(err, objectstore.ErrNotExist) {
		t.Errorf("Open: %v", err)
	}
	if entries, _ := os.ReadDir(parent); len(entries) != 0 {
		t.Errorf("Open created %v", entries)
	}
	open(t, dir)
	if s, err := file.Open(dir, file.Options{}); err != nil {
		t.Errorf("Open of what was created: %v", err)
	} else if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(parent, "file"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, create := range []bool{false, true} {
		if _, err := file.Open(filepath.Join(parent, "file"), file.Options{Create: create}); !errors.Is(err, objectstore.ErrNoBucket) {
			t.Errorf("Open of a file as a store, create %v: %v", create, err)
		}
	}
}

func TestReadsCreateNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	s.Stat(t.Context(), "a/b")
	s.Get(t.Context(), "a/b", 0, -1)
	for _, err := range s.List(t.Context(), "a/", "") {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), "a/b"); err != nil {
		t.Error(err)
	}
	if n, err := s.SweepTemp(0); n != 0 || err != nil {
		t.Errorf("SweepTemp = %d, %v", n, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the store now holds %v, %v", entries, err)
	}
}

// TestNothingLeavesTheRoot tries keys and symbolic links that lead out.
func TestNothingLeavesTheRoot(t *testing.T) {
	parent := t.TempDir()
	outside := filepath.Join(parent, "outside")
	dir := filepath.Join(parent, "store")
	s := open(t, dir)
	if err := os.MkdirAll(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o666); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"abs": outside, "rel": "../outside", "file": filepath.Join(outside, "secret"), "dangling": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
	}
	for _, key := range []string{"abs/secret", "rel/secret", "file", "dangling"} {
		if r, _, err := s.Get(t.Context(), key, 0, -1); err == nil {
			b, _ := io.ReadAll(r)
			t.Errorf("Get %q = %q", key, b)
		}
		if _, err := s.Stat(t.Context(), key); err == nil {
			t.Errorf("Stat %q: no error", key)
		}
	}
	for _, key := range []string{"abs/new", "rel/new", "dangling/new"} {
		for _, opts := range []objectstore.PutOptions{{}, {IfAbsent: true}} {
			if err := put(t.Context(), s, key, "x", opts); err == nil {
				t.Errorf("Put %q %+v: no error", key, opts)
			}
		}
		s.Delete(t.Context(), "abs/secret")
	}
	for info, err := range s.List(t.Context(), "", "") {
		t.Errorf("List yields %+v, %v", info, err)
	}
	if got := files(t, outside); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("outside holds %q", got)
	}
	for _, key := range []string{".tmp", ".tmp/x", ".tmp/lock"} {
		wantError(t, "Put "+key, put(t.Context(), s, key, "x", objectstore.PutOptions{}), objectstore.ErrBadKey)
	}
}

func TestListSkipsTemporaries(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, k := range []string{"a", "dir/.tmp/b"} {
		if err := put(t.Context(), s, k, "x", objectstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, prefix := range []string{"", ".", ".tmp", ".tmp/"} {
		for info, err := range s.List(t.Context(), prefix, "") {
			if err != nil || strings.HasPrefix(info.Key, ".tmp") {
				t.Errorf("List(%q) yields %+v, %v", prefix, info, err)
			}
		}
	}
	for _, prefix := range []string{"../", "/", "a//", "./", "dir/../"} {
		for info, err := range s.List(t.Context(), prefix, "") {
			t.Errorf("List(%q) yields %+v, %v", prefix, info, err)
		}
	}
}

func TestSweepTemp(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := put(t.Context(), s, "k", "x", objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for name, age := range map[string]time.Duration{"put-OLD": 2 * time.Hour, "put-NEW": time.Minute, "other": 2 * time.Hour} {
		path := filepath.Join(dir, ".tmp", name)
		if err := os.WriteFile(path, []byte("half"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.SweepTemp(time.Hour); n != 1 || err != nil {
		t.Errorf("SweepTemp = %d, %v, want 1", n, err)
	}
	want := []string{".tmp/lock", ".tmp/other", ".tmp/put-NEW", "k"}
	if got := files(t, dir); !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

// TestFailedPutLeavesNothing checks each way a Put fails for temporaries.
func TestFailedPutLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := put(t.Context(), s, "k", "x", objectstore.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	wantError(t, "create again", put(t.Context(), s, "k", "y", objectstore.PutOptions{IfAbsent: true}), objectstore.ErrPrecondition)
	wantError(t, "replace", put(t.Context(), s, "k", "y", objectstore.PutOptions{IfMatch: "other"}), objectstore.ErrPrecondition)
	if err := put(t.Context(), s, "k/below", "y", objectstore.PutOptions{}); err == nil || errors.Is(err, objectstore.ErrNoBucket) {
		t.Errorf("Put below an object: %v", err)
	}
	if err := put(t.Context(), s, "dir/x", "y", objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	wantError(t, "Put onto a directory", put(t.Context(), s, "dir", "y", objectstore.PutOptions{IfAbsent: true}), objectstore.ErrBadKey)
	if got, want := files(t, dir), []string{".tmp/lock", "dir/x", "k"}; !slices.Equal(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
}

func TestDirectoryRemovedUnderUs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	if err := put(t.Context(), s, "a/b/c", "x", objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"a", "a/b", ".tmp"} {
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
		if err := put(t.Context(), s, "a/b/c", "y", objectstore.PutOptions{}); err != nil {
			t.Errorf("Put after %s was removed: %v", gone, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	wantError(t, "Put without the root", put(t.Context(), s, "a/b/c", "z", objectstore.PutOptions{}), objectstore.ErrNoBucket)
}

func TestPermission(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := put(t.Context(), s, "d/k", "x", objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"d", ".tmp", "."} {
		path = filepath.Join(dir, path)
		if err := os.Chmod(path, 0o555); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(path, 0o777)
	}
	if probe, err := os.Create(filepath.Join(dir, "d", "probe")); err == nil {
		probe.Close()
		os.Remove(probe.Name())
		t.Skip("this user may write everywhere")
	}
	wantError(t, "Put", put(t.Context(), s, "d/l", "x", objectstore.PutOptions{}), objectstore.ErrPermission)
	wantError(t, "Delete", s.Delete(t.Context(), "d/k"), objectstore.ErrPermission)
}

// TestLargeETag replaces an object above the size whose ETag is a hash.
func TestLargeETag(t *testing.T) {
	s := open(t, t.TempDir())
	big := strings.Repeat("x", 3<<20)
	info, err := s.Put(t.Context(), "k", objectstore.Bytes([]byte(big)), objectstore.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), s, "k", big+"y", objectstore.PutOptions{IfMatch: info.ETag}); err != nil {
		t.Errorf("replace: %v", err)
	}
	wantError(t, "replace again", put(t.Context(), s, "k", big, objectstore.PutOptions{IfMatch: info.ETag}), objectstore.ErrPrecondition)
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			s := open(b, b.TempDir())
			body := objectstore.Bytes(make([]byte, size))
			b.SetBytes(int64(size))
			n := 0
			for b.Loop() {
				n++
				if _, err := s.Put(b.Context(), fmt.Sprintf("k/%d", n%64), body, objectstore.PutOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
