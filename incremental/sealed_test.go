package incremental

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
)

// A state in an encrypted store restores, and what was done to one of its
// objects is found, and named, before Pebble sees it.
func TestF47_RestoreFromEncryptedStore(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.ReadKeys(strings.NewReader(id.String()))
	if err != nil {
		t.Fatal(err)
	}
	under := objectstore.NewMem()
	store, err := seal.New(under, keys)
	if err != nil {
		t.Fatal(err)
	}
	state, want := smallState(t, store)
	lazy := mustLazy(t, store, state)
	got, err := readAll(lazy.DB)
	lazy.close(t)
	if err != nil || !maps.Equal(got, want) {
		t.Fatalf("a lazy restore reads %d keys, %v; want %d", len(got), err, len(want))
	}
	opts := RestoreOptions{Store: store, State: state, Dir: "/db", FS: vfs.NewMem()}
	if _, err := Restore(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	first := ""
	for o := range state.ContentObjects() {
		stored, _, err := objectstore.ReadAll(t.Context(), under, o.Key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		plain, _, err := objectstore.ReadAll(t.Context(), store, o.Key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(stored)
		flipped[len(flipped)-20] ^= 1
		for what, bad := range map[string][]byte{"flipped": flipped, "cut": stored[:len(stored)-1], "not encrypted": plain, "gone": nil} {
			overwrite(t, under, o.Key, bad)
			wantCorrupt(t, store, state, o.Key, what)
		}
		if first != "" {
			moved, _, err := objectstore.ReadAll(t.Context(), under, first, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, under, o.Key, moved)
			wantCorrupt(t, store, state, o.Key, "another object")
		}
		overwrite(t, under, o.Key, stored)
		first = o.Key
	}
}
