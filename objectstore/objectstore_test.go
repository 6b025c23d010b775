package objectstore_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

func TestMem(t *testing.T) {
	storetest.Run(t, func(*testing.T) objectstore.Store { return objectstore.NewMem() })
}

func TestPrefix(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objectstore.Store {
		mem := objectstore.NewMem()
		for _, outside := range []string{"job", "job0/a", "job-/b", "jo", "k/job/x"} {
			put(t, mem, outside, "outside")
		}
		return objectstore.Prefix(mem, "job")
	})
}

func put(t *testing.T, s objectstore.Store, key, body string) objectstore.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, objectstore.Bytes([]byte(body)), objectstore.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestPrefixMapsKeys(t *testing.T) {
	mem := objectstore.NewMem()
	s := objectstore.Prefix(mem, "a/b")
	if info := put(t, s, "k", "x"); info.Key != "k" {
		t.Errorf("Put gives key %q", info.Key)
	}
	if _, err := mem.Stat(t.Context(), "a/b/k"); err != nil {
		t.Error(err)
	}
	if objectstore.Prefix(mem, "") != objectstore.Store(mem) {
		t.Error("an empty prefix is not the store itself")
	}
	for _, bad := range []string{"..", "/a", "a//b", "a/"} {
		s := objectstore.Prefix(mem, bad)
		if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, objectstore.ErrBadKey) {
			t.Errorf("Stat under the prefix %q: %v", bad, err)
		}
	}
	denied := storetest.NewFaulty(mem, 1, storetest.Rule{Op: storetest.Delete, Do: storetest.Fail(
		&objectstore.DeleteError{Failed: map[string]error{"a/b/k": objectstore.ErrPermission}})})
	err := objectstore.Prefix(denied, "a/b").Delete(t.Context(), "k", "l")
	var partial *objectstore.DeleteError
	if !errors.As(err, &partial) || len(partial.Failed) != 1 || !errors.Is(partial.Failed["k"], objectstore.ErrPermission) {
		t.Errorf("Delete: %v", err)
	}
	if !errors.Is(err, objectstore.ErrPermission) || !strings.Contains(err.Error(), `"k"`) {
		t.Errorf("Delete: %v", err)
	}
}

func TestValidKey(t *testing.T) {
	for _, key := range []string{"a", "HEAD", "a/b/c", "...", ".tmp/a", "a b", "ä", "a..b", "..a", strings.Repeat("k", 255), strings.Repeat("k/", 511) + "kk"} {
		if err := objectstore.ValidKey(key); err != nil {
			t.Errorf("ValidKey(%q): %v", key, err)
		}
	}
	for _, key := range []string{
		"", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\x00", "a\x1b[31m", "a\x7f", `C:\x`, "\xc0\xaf",
		strings.Repeat("k", 256), strings.Repeat("k/", 512) + "k", strings.Repeat("x", 1<<20),
	} {
		err := objectstore.ValidKey(key)
		if !errors.Is(err, objectstore.ErrBadKey) {
			t.Errorf("ValidKey(%.40q): %v", key, err)
		} else if len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x00\x1b\n") {
			t.Errorf("ValidKey(%.40q): the message is long or raw: %.500q", key, err)
		}
	}
}

func FuzzValidKey(f *testing.F) {
	f.Add("a/b")
	f.Add("../a")
	f.Fuzz(func(t *testing.T, key string) {
		if objectstore.ValidKey(key) != nil {
			return
		}
		mem := objectstore.NewMem()
		put(t, mem, key, "x")
		for info, err := range mem.List(t.Context(), key, "") {
			if err != nil || info.Key != key {
				t.Errorf("List yields %q, %v", info.Key, err)
			}
		}
	})
}

func TestMemClock(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	mem := objectstore.NewMem()
	mem.Now = func() time.Time { return now }
	put(t, mem, "k", "x")
	now = now.Add(time.Hour)
	info, err := mem.Stat(t.Context(), "k")
	if age := info.Date.Sub(info.LastModified); err != nil || age != time.Hour || !info.Date.Equal(now) {
		t.Errorf("Stat = %+v, %v", info, err)
	}
	for info := range mem.List(t.Context(), "", "") {
		if age := info.Date.Sub(info.LastModified); age != time.Hour {
			t.Errorf("List yields %+v", info)
		}
	}
}

func TestMemETag(t *testing.T) {
	mem := objectstore.NewMem()
	a, b, c := put(t, mem, "a", "same"), put(t, mem, "b", "same"), put(t, mem, "c", "other")
	if a.ETag != b.ETag || a.ETag == c.ETag {
		t.Errorf("ETags %s %s %s", a.ETag, b.ETag, c.ETag)
	}
}

// TestMemCopies changes a body after its Put and what a reader got.
func TestMemCopies(t *testing.T) {
	mem := objectstore.NewMem()
	body := []byte("abc")
	if _, err := mem.Put(t.Context(), "k", objectstore.Bytes(body), objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	body[0] = 'X'
	got, _, err := objectstore.ReadAll(t.Context(), mem, "k", 3)
	if err != nil || string(got) != "abc" {
		t.Fatalf("read %q, %v", got, err)
	}
	got[1] = 'X'
	if got, _, err := objectstore.ReadAll(t.Context(), mem, "k", 3); err != nil || string(got) != "abc" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestReadAllLimit(t *testing.T) {
	mem := objectstore.NewMem()
	put(t, mem, "k", "12345")
	if b, info, err := objectstore.ReadAll(t.Context(), mem, "k", 5); err != nil || string(b) != "12345" || info.Size != 5 {
		t.Errorf("at the limit: %q, %+v, %v", b, info, err)
	}
	if _, _, err := objectstore.ReadAll(t.Context(), mem, "k", 4); !errors.Is(err, objectstore.ErrTooLarge) {
		t.Errorf("above the limit: %v", err)
	}
	// A store that states a size and gives less must not pass for the object.
	short := storetest.NewFaulty(mem, 1, storetest.Rule{Op: storetest.Get, Do: storetest.Truncate(3)})
	if _, _, err := objectstore.ReadAll(t.Context(), short, "k", 5); !errors.Is(err, objectstore.ErrUnavailable) {
		t.Errorf("of a truncated body: %v", err)
	}
	empty := storetest.NewFaulty(mem, 1, storetest.Rule{Op: storetest.Get, Do: storetest.Truncate(0)})
	if _, _, err := objectstore.ReadAll(t.Context(), empty, "k", 5); !errors.Is(err, objectstore.ErrUnavailable) {
		t.Errorf("of a body that is empty: %v", err)
	}
}

// TestFileBody reads parts of a body that has more behind it.
func TestFileBody(t *testing.T) {
	body := objectstore.FileBody(strings.NewReader("0123456789"), 4)
	if body.Size() != 4 {
		t.Errorf("Size = %d", body.Size())
	}
	if err := iotest.TestReader(io.NewSectionReader(body, 0, body.Size()), []byte("0123")); err != nil {
		t.Error(err)
	}
	mem := objectstore.NewMem()
	if _, err := mem.Put(t.Context(), "k", objectstore.FileBody(strings.NewReader("01"), 4), objectstore.PutOptions{}); !errors.Is(err, io.EOF) {
		t.Errorf("Put of a file that is shorter than its size: %v", err)
	}
}

func TestDeleteError(t *testing.T) {
	err := error(&objectstore.DeleteError{Failed: map[string]error{"a": objectstore.ErrPermission, "b": objectstore.ErrUnavailable}})
	for _, want := range []error{objectstore.ErrPermission, objectstore.ErrUnavailable} {
		if !errors.Is(err, want) {
			t.Errorf("%v is not %v", err, want)
		}
	}
	if errors.Is(err, objectstore.ErrNoSpace) || !strings.HasPrefix(err.Error(), "delete 2 objects, ") {
		t.Errorf("%v", err)
	}
}
