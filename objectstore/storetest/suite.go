package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
)

// Run is the suite that every Store passes. open returns an empty store each
// time, removed at the end of the test it is given. It takes a few seconds,
// and a few thousand requests.
func Run(t *testing.T, open func(t *testing.T) objectstore.Store) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, objectstore.Store)
	}{
		{"RoundTrip", testRoundTrip},
		{"Overwrite", testOverwrite},
		{"Missing", testMissing},
		{"Ranges", testRanges},
		{"BadKeys", testBadKeys},
		{"Cancelled", testCancelled},
		{"BrokenBody", testBrokenBody},
		{"IfAbsent", testIfAbsent},
		{"IfMatch", testIfMatch},
		{"RaceIfAbsent", testRaceIfAbsent},
		{"RaceIfMatch", testRaceIfMatch},
		{"ReadWhileWritten", testReadWhileWritten},
		{"ListOrder", testListOrder},
		{"ListEnds", testListEnds},
		{"ManyObjects", testManyObjects},
		{"Delete", testDelete},
		{"Probe", testProbe},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, open(t)) })
	}
}

func put(t *testing.T, s objectstore.Store, key, body string, opts objectstore.PutOptions) objectstore.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, objectstore.Bytes([]byte(body)), opts)
	if err != nil {
		t.Fatalf("Put %q %+v: %v", key, opts, err)
	}
	return info
}

func wantBody(t *testing.T, s objectstore.Store, key, want string) objectstore.Info {
	t.Helper()
	got, info, err := objectstore.ReadAll(t.Context(), s, key, 1<<30)
	if err != nil {
		t.Fatalf("read %q: %v", key, err)
	}
	if string(got) != want {
		t.Fatalf("%q holds %d bytes %.40q, want %d bytes %.40q", key, len(got), got, len(want), want)
	}
	return info
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func testRoundTrip(t *testing.T, s objectstore.Store) {
	for i, size := range []int{0, 1, 4095, 1<<20 + 7, 3 << 20} {
		key := fmt.Sprintf("data/%02x/object-%d.sst", i, size)
		body := pattern(size, byte(i))
		written := put(t, s, key, body, objectstore.PutOptions{})
		read := wantBody(t, s, key, body)
		stat, err := s.Stat(t.Context(), key)
		if err != nil {
			t.Fatalf("Stat: %v", err)
		}
		for what, info := range map[string]objectstore.Info{"Put": written, "Get": read, "Stat": stat} {
			if info.Key != key || info.Size != int64(size) || info.ETag != stat.ETag || info.ETag == "" {
				t.Errorf("%s of %q: %+v, want size %d and the ETag %s", what, key, info, size, stat.ETag)
			}
		}
		for what, info := range map[string]objectstore.Info{"Get": read, "Stat": stat} {
			if age := info.Date.Sub(info.LastModified); info.LastModified.IsZero() || age < -2*time.Second || age > time.Minute {
				t.Errorf("%s of a new object: Date %v − LastModified %v = %v", what, info.Date, info.LastModified, age)
			}
		}
	}
}

// pattern is size bytes that differ by seed and have no short period.
func pattern(size int, seed byte) string {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16)*31 + seed
	}
	return string(b)
}

func testOverwrite(t *testing.T, s objectstore.Store) {
	first := put(t, s, "a/b", "one", objectstore.PutOptions{})
	second := put(t, s, "a/b", "three", objectstore.PutOptions{})
	if first.ETag == second.ETag {
		t.Errorf("different bytes have the same ETag %s", first.ETag)
	}
	wantBody(t, s, "a/b", "three")
}

func testMissing(t *testing.T, s objectstore.Store) {
	put(t, s, "dir/object", "x", objectstore.PutOptions{})
	for _, key := range []string{"missing", "dir", "dir/objec", "dir/object2", "dir/other/deep"} {
		_, _, err := s.Get(t.Context(), key, 0, -1)
		wantError(t, "Get "+key, err, objectstore.ErrNotExist)
		_, err = s.Stat(t.Context(), key)
		wantError(t, "Stat "+key, err, objectstore.ErrNotExist)
	}
}

func testRanges(t *testing.T, s objectstore.Store) {
	const body = "0123456789"
	put(t, s, "r", body, objectstore.PutOptions{})
	put(t, s, "empty", "", objectstore.PutOptions{})
	for _, tc := range []struct {
		key         string
		off, length int64
		want        string
	}{
		{"r", 0, -1, body},
		{"r", 0, 10, body},
		{"r", 0, 1, "0"},
		{"r", 9, 1, "9"},
		{"r", 3, 4, "3456"},
		{"r", 3, -1, "3456789"},
		{"r", 8, 100, "89"},
		{"r", 0, 1 << 40, body},
		{"r", 0, 0, ""},
		{"r", 5, 0, ""},
		{"r", 10, -1, ""},
		{"r", 10, 5, ""},
		{"r", 1000, 5, ""},
		{"r", 1000, -1, ""},
		{"empty", 0, -1, ""},
		{"empty", 0, 10, ""},
		{"empty", 3, 10, ""},
	} {
		r, info, err := s.Get(t.Context(), tc.key, tc.off, tc.length)
		if err != nil {
			t.Errorf("Get %q %d+%d: %v", tc.key, tc.off, tc.length, err)
			continue
		}
		got, err := io.ReadAll(r)
		if closeErr := r.Close(); err != nil || closeErr != nil || string(got) != tc.want {
			t.Errorf("Get %q %d+%d = %q, %v, %v, want %q", tc.key, tc.off, tc.length, got, err, closeErr, tc.want)
		}
		if want := map[string]int64{"r": 10, "empty": 0}[tc.key]; info.Size != want || info.Key != tc.key {
			t.Errorf("Get %q %d+%d: Info %+v, want the whole object's size %d", tc.key, tc.off, tc.length, info, want)
		}
	}
	_, _, err := s.Get(t.Context(), "absent", 1000, 5)
	wantError(t, "Get past the end of a missing object", err, objectstore.ErrNotExist)
	_, _, err = s.Get(t.Context(), "absent", 0, 0)
	wantError(t, "Get of nothing of a missing object", err, objectstore.ErrNotExist)
}

func testBadKeys(t *testing.T, s objectstore.Store) {
	put(t, s, "good", "x", objectstore.PutOptions{})
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "../a", "a\x00b", "a\nb", `a\b`, "\xff",
		strings.Repeat("k", objectstore.MaxSegment+1), strings.Repeat("k/", objectstore.MaxKey/2) + "kk",
	} {
		_, err := s.Put(t.Context(), key, objectstore.Bytes(nil), objectstore.PutOptions{})
		wantError(t, fmt.Sprintf("Put %q", key), err, objectstore.ErrBadKey)
		_, _, err = s.Get(t.Context(), key, 0, -1)
		wantError(t, fmt.Sprintf("Get %q", key), err, objectstore.ErrBadKey)
		_, err = s.Stat(t.Context(), key)
		wantError(t, fmt.Sprintf("Stat %q", key), err, objectstore.ErrBadKey)
		wantError(t, fmt.Sprintf("Delete %q", key), s.Delete(t.Context(), "good", key), objectstore.ErrBadKey)
	}
	wantBody(t, s, "good", "x") // a bad key among them refuses the whole Delete
	long := strings.Repeat("k", objectstore.MaxSegment)
	put(t, s, long, "long", objectstore.PutOptions{IfAbsent: true})
	wantBody(t, s, long, "long")
}

func testCancelled(t *testing.T, s objectstore.Store) {
	put(t, s, "k", "x", objectstore.PutOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Put(ctx, "k", objectstore.Bytes([]byte("y")), objectstore.PutOptions{})
	wantError(t, "Put", err, context.Canceled)
	if errors.Is(err, objectstore.ErrUnknownOutcome) {
		t.Errorf("Put that never began: %v", err)
	}
	_, _, err = s.Get(ctx, "k", 0, -1)
	wantError(t, "Get", err, context.Canceled)
	_, err = s.Stat(ctx, "k")
	wantError(t, "Stat", err, context.Canceled)
	wantError(t, "Delete", s.Delete(ctx, "k"), context.Canceled)
	for _, e := range s.List(ctx, "", "") {
		err = e
	}
	wantError(t, "List", err, context.Canceled)
	wantBody(t, s, "k", "x")
}

// brokenBody cannot be read past its middle.
type brokenBody struct{ *bytes.Reader }

var errBroken = errors.New("disk on fire")

func (b brokenBody) ReadAt(p []byte, off int64) (int, error) {
	if half := b.Size() / 2; off+int64(len(p)) > half {
		if off >= half {
			return 0, errBroken
		}
		n, _ := b.Reader.ReadAt(p[:half-off], off)
		return n, errBroken
	}
	return b.Reader.ReadAt(p, off)
}

func testBrokenBody(t *testing.T, s objectstore.Store) {
	body := brokenBody{bytes.NewReader(make([]byte, 1<<20))}
	_, err := s.Put(t.Context(), "broken", body, objectstore.PutOptions{IfAbsent: true})
	wantError(t, "Put", err, errBroken)
	if errors.Is(err, objectstore.ErrUnknownOutcome) {
		t.Errorf("Put of half a body: %v", err)
	}
	_, err = s.Stat(t.Context(), "broken")
	wantError(t, "Stat", err, objectstore.ErrNotExist)
	wantKeys(t, s, "", "")
}
