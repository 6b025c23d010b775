package incremental

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestCompressionValidate(t *testing.T) {
	for _, c := range []Compression{"", NoCompression, Snappy, Zstd1, Zstd3, Zstd5} {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []Compression{"zstd", "None", "zstd19"} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "zstd3") {
			t.Errorf("%q: %v", c, err)
		}
	}
}

// A database whose compression changes with every start, and whose deltas have
// yet another one, reads as ever. Each table says that it was written as asked.
func TestCompressionsMix(t *testing.T) {
	fs := NewRecordFS(vfs.NewMem())
	rng := rand.New(rand.NewPCG(7, 1))
	all := []Compression{NoCompression, Snappy, Zstd1, Zstd3, Zstd5}
	want := make(map[string]string)
	for i, c := range all {
		db, err := pebble.Open("/db", PebbleOptions(DBOptions{FS: fs, Compression: c}))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // a single table would only be moved
			changed := make(map[string]string)
			for range 2000 {
				changed[fmt.Sprintf("key%06d", rng.IntN(4000))] = fmt.Sprintf("%d the value of the key is this text %x", i, rng.Uint32())
			}
			maps.Copy(want, changed)
			d, err := WriteCompressedDelta(fs, "/d", all[len(all)-1-i], sorted(changed))
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Ingest(t.Context(), []string{d.Path}); err != nil {
				t.Fatal(err)
			}
		}
		levels, err := db.SSTables(pebble.WithProperties())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := levels[0][0].Properties.CompressionName, profiles[all[len(all)-1-i]].Name; got != want {
			t.Errorf("delta is compressed by %s, want %s", got, want)
		}
		if err := db.Compact(t.Context(), []byte{0}, []byte{255}, false); err != nil {
			t.Fatal(err)
		}
		if levels, err = db.SSTables(pebble.WithProperties()); err != nil {
			t.Fatal(err)
		}
		if got, want := levels[6][0].Properties.CompressionName, profiles[c].Name; got != want {
			t.Errorf("compacted table is compressed by %s, want %s", got, want)
		}
		sameState(t, contents(t, db), want, string(c))
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStrongerCompressionsAreSmaller(t *testing.T) {
	entries := make(map[string]string)
	rng := rand.New(rand.NewPCG(7, 2))
	for i := range 5000 {
		entries[fmt.Sprintf("key%06d", i)] = fmt.Sprintf(`{"user":%d,"seen":%d,"text":"the value is this text"}`, rng.IntN(1000), rng.IntN(1000))
	}
	fs := vfs.NewMem()
	before := int64(1 << 60)
	for _, c := range []Compression{NoCompression, Snappy, Zstd1} {
		d, err := WriteCompressedDelta(fs, "/d", c, sorted(entries))
		if err != nil {
			t.Fatal(err)
		}
		if d.Size >= before {
			t.Errorf("%s: %d bytes, %d with the one before", c, d.Size, before)
		}
		before = d.Size
	}
}
