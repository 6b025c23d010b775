package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"github.com/ckpt-io/ckpt/objectstore"
)

func testKeys(t testing.TB) *Keys {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	k, err := ReadKeys(strings.NewReader(id.String()))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestContentSizeIsTheInverse(t *testing.T) {
	want := int64(0) // the next content
	for stored := int64(0); stored < headerSize+3*encChunk+100; stored++ {
		size, ok := contentSize(stored)
		if should := stored == storedSize(want); ok != should || ok && size != want {
			t.Fatalf("stored %d: content %d, %v; want %d, %v", stored, size, ok, want, should)
		}
		if ok {
			want++
		}
	}
	if size, ok := contentSize(storedSize(maxSize)); !ok || size != maxSize {
		t.Errorf("largest: %d, %v", size, ok)
	}
}

// Who knows the recipient, but not the secret key, makes an age file that the
// key opens and we do not take.
func TestTagVouches(t *testing.T) {
	keys := testKeys(t)
	forger := *keys.keys[0]
	forger.vouch = make([]byte, len(forger.vouch))
	header, _, err := forger.newHeader("data/x", 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := age.DecryptHeader(header, keys.identities()...); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.open(header, "data/x"); !errors.Is(err, objectstore.ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}

// However a body is read, it is the same bytes.
func TestSealedBodyReadsAlike(t *testing.T) {
	keys := testKeys(t)
	for _, size := range []int{0, 1, chunkSize, chunkSize + 1, keptChunks*chunkSize + 5, (keptChunks + 9) * chunkSize} {
		content := make([]byte, size)
		rand.NewChaCha8([32]byte{1}).Read(content)
		b, err := keys.seal("k", objectstore.Bytes(content))
		if err != nil {
			t.Fatal(err)
		}
		whole := make([]byte, b.Size())
		if n, err := b.ReadAt(whole, 0); n != len(whole) || err != nil && err != io.EOF {
			t.Fatalf("%d bytes: %d, %v", size, n, err)
		}
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(g), 1))
				for range 30 {
					off := rnd.Int64N(b.Size() + 10)
					p := make([]byte, rnd.IntN(3*encChunk))
					n, err := b.ReadAt(p, off)
					want := whole[min(off, b.Size()):]
					want = want[:min(len(want), len(p))]
					if !bytes.Equal(p[:n], want) || (n < len(p)) != (err == io.EOF) {
						t.Errorf("%d bytes at %d of %d: %d, %v", len(p), off, b.Size(), n, err)
					}
				}
			})
		}
		wg.Wait()
		if len(b.kept) > keptChunks || len(b.turn) > keptChunks {
			t.Errorf("%d chunks are kept", len(b.kept))
		}
	}
	if _, err := (&sealedBody{}).ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset is read")
	}
}

// Sealing other content under a nonce that was used would break the encryption.
func TestChangedBodyIsNotSealed(t *testing.T) {
	content := make([]byte, (keptChunks+2)*chunkSize)
	b, err := testKeys(t).seal("k", objectstore.Bytes(content))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, encChunk)
	if _, err := b.ReadAt(p, headerSize+encChunk); err != nil {
		t.Fatal(err)
	}
	content[chunkSize+7] ^= 1
	clear(p)
	if _, err := b.ReadAt(p, headerSize+encChunk); !errors.Is(err, errBodyChanged) || !bytes.Equal(p, make([]byte, encChunk)) {
		t.Errorf("got %v and %x...", err, p[:8])
	}
	if _, err := b.ReadAt(p, headerSize); err != nil {
		t.Errorf("another chunk: %v", err)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	var h headers
	for i := range 5 * maxHeaders {
		h.put(fmt.Sprint(i), &opened{size: int64(i)})
		if o := h.get("0"); o == nil || o.size != 0 {
			t.Fatalf("after %d others the one in use is forgotten", i)
		}
		if n := len(h.new) + len(h.old); n > 2*maxHeaders {
			t.Fatalf("%d are remembered", n)
		}
	}
	if h.get("1") != nil {
		t.Error("one that was not used is remembered for ever")
	}
	h.forget("0")
	if h.get("0") != nil {
		t.Error("one is there that was forgotten")
	}
}

// A header opens if and only if it is the one that was made.
func FuzzOpenHeader(f *testing.F) {
	keys := testKeys(f)
	header, _, err := keys.keys[0].newHeader("data/x", 12345)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(header)
	f.Add([]byte(intro))
	f.Add([]byte(intro + "-> " + stanzaType + " 1 0123456789abcdef 5 AAAA .\n\n--- AAAA\n"))
	f.Add(bytes.Replace(header, []byte(" 12345 "), []byte(" 99999 "), 1))
	other := bytes.Clone(header)
	copy(other[bytes.Index(other, []byte(keys.keys[0].id)):], "0000000000000000")
	f.Add(other)
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := keys.open(data, "data/x")
		switch {
		case err == nil && (!bytes.Equal(data[:headerSize-nonceSize], header[:headerSize-nonceSize]) || o.size != 12345):
			t.Fatalf("a header that was never made opens: %q", data)
		case err != nil && !errors.Is(err, objectstore.ErrDamaged) && !errors.Is(err, objectstore.ErrNotEncrypted) && !errors.Is(err, objectstore.ErrKey):
			t.Fatalf("error of no kind: %v", err)
		}
	})
}
