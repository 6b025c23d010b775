package seal_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
)

var update = flag.Bool("update", false, "write golden files that are missing; those that are there are never written again")

// Objects that were stored once are read for ever, by name, content and key.
func TestGoldenFiles(t *testing.T) {
	for _, name := range []string{"v1-x25519", "v1-hybrid"} {
		t.Run(name, func(t *testing.T) {
			keyFile, object := filepath.Join("testdata", name+".key"), filepath.Join("testdata", name+".age")
			if _, err := os.Stat(object); *update && err != nil {
				writeGolden(t, keyFile, object, name)
			}
			keys, _, err := seal.LoadKeys(keyFile)
			if err != nil {
				t.Fatal(err)
			}
			stored, err := os.ReadFile(object)
			if err != nil {
				t.Fatal(err)
			}
			mem := objectstore.NewMem()
			put(t, mem, "data/golden", stored)
			s, err := seal.New(mem, keys)
			if err != nil {
				t.Fatal(err)
			}
			if got := raw(t, s, "data/golden"); !bytes.Equal(got, goldenContent()) {
				t.Errorf("it holds %d bytes: %.40q", len(got), got)
			}
		})
	}
}

// goldenContent does not change, whatever becomes of generators of random
// numbers, and has two chunks.
func goldenContent() []byte {
	b := make([]byte, 65536+100)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

func writeGolden(t *testing.T, keyFile, object, name string) {
	t.Helper()
	line := newIdentity(t)
	if name == "v1-hybrid" {
		line = newHybrid(t)
	}
	mem := objectstore.NewMem()
	put(t, newStore(t, mem, line), "data/golden", goldenContent())
	for file, data := range map[string][]byte{keyFile: []byte("# of the golden file only\n" + line + "\n"), object: raw(t, mem, "data/golden")} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
