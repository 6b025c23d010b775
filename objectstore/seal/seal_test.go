package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/file"
	"github.com/ckpt-io/ckpt/objectstore/seal"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// newIdentity is a key as a line of a key file.
func newIdentity(t testing.TB) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func newHybrid(t testing.TB) string {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func readKeys(t testing.TB, lines ...string) *seal.Keys {
	t.Helper()
	k, err := seal.ReadKeys(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newStore(t testing.TB, under objectstore.Store, lines ...string) *seal.Store {
	t.Helper()
	if len(lines) == 0 {
		lines = []string{newIdentity(t)}
	}
	s, err := seal.New(under, readKeys(t, lines...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	t.Run("mem", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, func(t *testing.T) objectstore.Store { return newStore(t, objectstore.NewMem()) })
	})
	t.Run("s3", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, func(t *testing.T) objectstore.Store { return newStore(t, fakeS3(t)) })
	})
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, func(t *testing.T) objectstore.Store {
			f, err := file.Open(t.TempDir(), file.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return newStore(t, f)
		})
	})
}

// content is bytes that do not compress, the same for the same size.
func content(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	r.Read(b)
	return b
}

var sizes = []int{0, 1, 100, 65535, 65536, 65537, 131072, 200_000, 5 << 20}

func put(t testing.TB, s objectstore.Store, key string, body []byte) objectstore.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, objectstore.Bytes(body), objectstore.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func raw(t testing.TB, s objectstore.Store, key string) []byte {
	t.Helper()
	b, _, err := objectstore.ReadAll(t.Context(), s, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The age tool opens our objects.
func TestObjectsAreAgeFiles(t *testing.T) {
	for _, line := range []string{newIdentity(t), newHybrid(t)} {
		ids, err := age.ParseIdentities(strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		mem := objectstore.NewMem()
		s := newStore(t, mem, line)
		for _, size := range sizes {
			put(t, s, "data/x", content(size))
			stored := raw(t, mem, "data/x")
			r, err := age.Decrypt(bytes.NewReader(stored), ids...)
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, content(size)) {
				t.Errorf("%d bytes: age reads %d others, %v", size, len(got), err)
			}
		}
	}
}

func TestRanges(t *testing.T) {
	mem := objectstore.NewMem()
	line := newIdentity(t)
	writer := newStore(t, mem, line)
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range sizes {
		key, want := fmt.Sprint("data/", size), content(size)
		put(t, writer, key, want)
		warm := newStore(t, mem, line)
		for range 40 {
			off, n := rnd.Int64N(int64(size)+70_000), rnd.Int64N(200_000)-1
			for _, s := range []*seal.Store{warm, newStore(t, mem, line)} {
				checkRange(t, s, key, want, off, n)
			}
		}
	}
}

func checkRange(t *testing.T, s objectstore.Store, key string, content []byte, off, n int64) {
	t.Helper()
	r, info, err := s.Get(t.Context(), key, off, n)
	if err != nil {
		t.Fatalf("Get %s %d+%d: %v", key, off, n, err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	size := int64(len(content))
	start, end := min(off, size), size
	if n >= 0 {
		end = min(size, start+n)
	}
	if err != nil || !bytes.Equal(got, content[start:end]) || info.Size != size {
		t.Errorf("Get %s %d+%d: %d bytes of %d, %v", key, off, n, len(got), info.Size, err)
	}
}

func TestSizesFollowFromStoredOnes(t *testing.T) {
	mem := objectstore.NewMem()
	for _, line := range []string{newIdentity(t), newHybrid(t)} {
		s := newStore(t, mem, line)
		for _, size := range sizes {
			info := put(t, s, "data/x", content(size))
			stat, err := s.Stat(t.Context(), "data/x")
			if err != nil || stat.Size != int64(size) || info.Size != int64(size) {
				t.Errorf("%d bytes: Put says %d, Stat %d, %v", size, info.Size, stat.Size, err)
			}
			for info, err := range s.List(t.Context(), "data/", "") {
				if err != nil || info.Size != int64(size) {
					t.Errorf("%d bytes: List says %d, %v", size, info.Size, err)
				}
			}
		}
	}
}

// Only what has to be read without a key is stored as it is.
func TestPlainObjects(t *testing.T) {
	mem := objectstore.NewMem()
	s := newStore(t, mem)
	for key, plain := range map[string]bool{
		"HEAD": true, "pins/1-a": true, "probe/x": true,
		"data/00/x": false, "manifests/1-1.manifest": false, "HEAD2": false, "x/HEAD": false, "pins": false,
	} {
		put(t, s, key, []byte("the content"))
		if got := bytes.Contains(raw(t, mem, key), []byte("the content")); got != plain {
			t.Errorf("%q is stored as it is: %v, want %v", key, got, plain)
		}
	}
}

// readAll reads an object to its end or the first error.
func readAll(t testing.TB, s objectstore.Store, key string, off int64) ([]byte, error) {
	t.Helper()
	r, _, err := s.Get(t.Context(), key, off, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// No byte of a stored object can be changed without the reader noticing before
// it gets the content around it.
func TestFlippedBytes(t *testing.T) {
	t.Run("one chunk", func(t *testing.T) { checkFlips(t, 100, 1) })
	step := 499 // all bytes of a chunk are alike
	if os.Getenv("CKPT_HEAVY") != "" {
		step = 1
	}
	t.Run("two chunks", func(t *testing.T) { checkFlips(t, 70_000, step) })
}

// checkFlips changes one byte in step of an object.
func checkFlips(t *testing.T, size, step int) {
	mem := objectstore.NewMem()
	keys := readKeys(t, newIdentity(t))
	open := func() *seal.Store { // one that remembers no header
		s, err := seal.New(mem, keys)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	want := content(size)
	put(t, open(), "data/x", want)
	stored := raw(t, mem, "data/x")
	for i := 0; i < len(stored); i += step {
		bad := bytes.Clone(stored)
		bad[i] ^= 1 << (i % 8)
		put(t, mem, "data/x", bad)
		got, err := readAll(t, open(), "data/x", 0)
		if !errors.Is(err, objectstore.ErrDamaged) && !errors.Is(err, objectstore.ErrNotEncrypted) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
		// What comes before is authentic: the chunks before.
		if whole := max(0, i-2048) / 65552 * 65536; !bytes.Equal(got, want[:whole]) {
			t.Fatalf("byte %d flipped: read %d bytes", i, len(got))
		}
	}
}

func TestTruncated(t *testing.T) {
	mem := objectstore.NewMem()
	line := newIdentity(t)
	put(t, newStore(t, mem, line), "data/x", content(3*65536))
	stored := raw(t, mem, "data/x")
	for _, n := range []int{0, 1, 22, 2047, 2048, 2064, 2048 + 65552, 2048 + 2*65552, len(stored) - 16, len(stored) - 1} {
		put(t, mem, "data/x", stored[:n])
		for _, off := range []int64{0, 65536} {
			got, err := readAll(t, newStore(t, mem, line), "data/x", off)
			if len(got) > 0 || !errors.Is(err, objectstore.ErrDamaged) && !errors.Is(err, objectstore.ErrNotEncrypted) {
				t.Errorf("cut to %d bytes, from %d: %d bytes, %v", n, off, len(got), err)
			}
		}
	}
	put(t, mem, "data/x", append(stored, 0))
	if got, err := readAll(t, newStore(t, mem, line), "data/x", 0); len(got) > 0 || !errors.Is(err, objectstore.ErrDamaged) {
		t.Errorf("with one byte more: %d bytes, %v", len(got), err)
	}
}

func TestMovedAndMixed(t *testing.T) {
	mem := objectstore.NewMem()
	line := newIdentity(t)
	s := newStore(t, mem, line)
	put(t, s, "data/a", content(70_000))
	put(t, s, "data/b", content(70_000))
	a, b := raw(t, mem, "data/a"), raw(t, mem, "data/b")
	put(t, mem, "data/b", a)
	put(t, mem, "data/c", append(bytes.Clone(a[:2048]), b[2048:]...)) // header of one, payload of another
	put(t, mem, "data/d", append(bytes.Clone(b[:2048+65552]), a[2048+65552:]...))
	for _, key := range []string{"data/b", "data/c", "data/d"} {
		if got, err := readAll(t, newStore(t, mem, line), key, 0); len(got) > 0 || !errors.Is(err, objectstore.ErrDamaged) {
			t.Errorf("%s: %d bytes, %v", key, len(got), err)
		}
	}
}

// Who knows the recipient can make age files, but none that we take.
func TestForged(t *testing.T) {
	mem := objectstore.NewMem()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t, mem, id.String())
	var forged bytes.Buffer
	w, err := age.Encrypt(&forged, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	w.Write(content(100_000))
	w.Close()
	put(t, mem, "data/x", forged.Bytes())
	if got, err := readAll(t, s, "data/x", 0); len(got) > 0 || !errors.Is(err, objectstore.ErrDamaged) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestWrongKey(t *testing.T) {
	mem := objectstore.NewMem()
	old, new := newIdentity(t), newIdentity(t)
	put(t, newStore(t, mem, old), "data/x", []byte("content"))
	s := newStore(t, mem, new)
	_, err := readAll(t, s, "data/x", 0)
	keyErr, ok := errors.AsType[*objectstore.KeyError](err)
	if !ok || !errors.Is(err, objectstore.ErrKey) || keyErr.Want[0] != readKeys(t, old).IDs()[0] || keyErr.Have[0] != s.KeyIDs()[0] {
		t.Errorf("read by another key: %v", err)
	}
	// Rotation: a new key first, the old one below.
	rotated := newStore(t, mem, new, old)
	put(t, rotated, "data/y", []byte("newer"))
	for key, want := range map[string]string{"data/x": "content", "data/y": "newer"} {
		if got, err := readAll(t, rotated, key, 0); string(got) != want || err != nil {
			t.Errorf("%s: %q, %v", key, got, err)
		}
	}
	if _, err := readAll(t, newStore(t, mem, old), "data/y", 0); !errors.Is(err, objectstore.ErrKey) {
		t.Errorf("new object by the old key: %v", err)
	}
}

func TestPlainObjectIsRefused(t *testing.T) {
	mem := objectstore.NewMem()
	s := newStore(t, mem)
	for _, size := range []int{0, 7, 3000, 200_000} {
		put(t, mem, "data/x", bytes.Repeat([]byte("x"), size))
		for _, off := range []int64{0, 70_000} {
			if got, err := readAll(t, s, "data/x", off); len(got) > 0 || !errors.Is(err, objectstore.ErrNotEncrypted) {
				t.Errorf("%d plain bytes from %d: %q, %v", size, off, got, err)
			}
		}
	}
}
