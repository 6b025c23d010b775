package incremental

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/zstd"
)

func TestWriteDelta(t *testing.T) {
	fs := NewRecordFS(vfs.NewMem())
	entries := []Entry{
		{Key: []byte("\x00\x01"), Value: nil}, // the shortest key, and empty is not absent
		{Key: []byte("\x00\x02a"), Delete: true},
		{Key: []byte("\x00\x02b"), Value: bytes.Repeat([]byte("v"), 3<<20)},
		{Key: append([]byte("\x00\x03"), bytes.Repeat([]byte("k"), 60<<10)...), Value: []byte("long key")},
	}
	d, err := WriteDelta(fs, "/d.sst", slices.Values(entries))
	if err != nil {
		t.Fatal(err)
	}
	content, err := readFile(fs, "/d.sst")
	if err != nil {
		t.Fatal(err)
	}
	if d.Entries != 4 || d.Bytes != 2+3+3+3<<20+2+60<<10+8 || d.Size != int64(len(content)) || d.SHA256 != sha256.Sum256(content) {
		t.Errorf("got %+v for a file of %d bytes", d, len(content))
	}

	db, err := pebble.Open("/db", PebbleOptions(DBOptions{FS: fs}))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	before, err := WriteDelta(fs, "/before.sst", slices.Values([]Entry{{Key: []byte("\x00\x02a"), Value: []byte("x")}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{before.Path, d.Path} {
		if err := db.Ingest(t.Context(), []string{path}); err != nil {
			t.Fatal(err)
		}
	}
	want := make(map[string]string)
	for _, e := range entries {
		if !e.Delete {
			want[string(e.Key)] = string(e.Value)
		}
	}
	sameState(t, contents(t, db), want, "ingested")
}

func TestWriteDeltaRefuses(t *testing.T) {
	fs := vfs.NewMem()
	for _, keys := range [][]string{{"b", "a"}, {"a", "a"}} {
		entries := []Entry{{Key: []byte(keys[0])}, {Key: []byte(keys[1])}}
		if _, err := WriteDelta(fs, "/d.sst", slices.Values(entries)); err == nil {
			t.Errorf("keys %q were taken", keys)
		}
	}
	d, err := WriteDelta(fs, "/d.sst", slices.Values([]Entry(nil)))
	if err != nil || d != (DeltaFile{}) {
		t.Errorf("without entries: got %+v, %v", d, err)
	}
	if names, _ := fs.List("/"); len(names) != 0 {
		t.Errorf("left behind: %q", names)
	}
}

// F74: a disk that fails or is full at any operation is an error.
func TestWriteDeltaOnFailingDisk(t *testing.T) {
	entries := []Entry{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b"), Value: []byte("2")}}
	for k := int64(1); ; k++ {
		disk := &faultyDisk{k: k, forever: true, err: syscall.ENOSPC}
		_, err := WriteDelta(disk.wrap(vfs.NewMem()), "/d.sst", slices.Values(entries))
		if !disk.hit.Load() {
			break
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("operation %d: got %v", k, err)
		}
	}
}

// sample makes changed keys as the design's measurements have them: values half
// random and half text, or counters.
func sample(n, valueSize int) (entries []Entry, stream []byte) {
	r := rand.New(rand.NewPCG(1, 2))
	id := 0
	for i := range n {
		id += 1 + r.IntN(39) // of 1 M keys, every twentieth
		key := binary.BigEndian.AppendUint16(nil, uint16(i*128/n))
		key = fmt.Appendf(key, "%012d", id)
		value := make([]byte, valueSize)
		for j := range value {
			if j < valueSize/2 {
				value[j] = byte(r.Uint32())
			} else {
				value[j] = "the quick brown fox "[j%20]
			}
		}
		if valueSize == 8 {
			binary.LittleEndian.PutUint64(value, r.Uint64N(1000))
		}
		entries = append(entries, Entry{Key: key, Value: value})
		stream = append(append(stream, key...), value...)
	}
	return entries, stream
}

// A delta takes no more than 1.2 times what one stream of zstd at its fastest
// level makes of the sorted keys and values.
func TestDeltaSize(t *testing.T) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	for _, valueSize := range []int{8, 100, 200} {
		entries, stream := sample(50_000, valueSize)
		d, err := WriteDelta(vfs.NewMem(), "/d.sst", slices.Values(entries))
		if err != nil {
			t.Fatal(err)
		}
		ratio := float64(d.Size) / float64(len(enc.EncodeAll(stream, nil)))
		t.Logf("values of %d bytes: %.3f of one zstd stream, %.3f of the content", valueSize, ratio, float64(d.Size)/float64(len(stream)))
		if ratio > 1.2 {
			t.Errorf("values of %d bytes: %.2f times one zstd stream", valueSize, ratio)
		}
	}
}

func BenchmarkWriteDelta(b *testing.B) {
	for _, valueSize := range []int{8, 200} {
		b.Run(fmt.Sprintf("values=%d", valueSize), func(b *testing.B) {
			entries, stream := sample(50_000, valueSize)
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				if _, err := WriteDelta(vfs.NewMem(), "/d.sst", slices.Values(entries)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
