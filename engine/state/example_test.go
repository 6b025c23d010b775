package state_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/ckpt-io/ckpt/engine/keygroup"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// Counting words, a checkpoint in between, and the state as it was then.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "state")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	opts := state.Options{
		Operator: "count", KeyGroups: keygroup.Range(128, 1, 0), Epoch: 1, NextID: 1,
		Store: objectstore.NewMem(), Dir: filepath.Join(dir, "1"),
	}
	store, err := state.Open(ctx, opts)
	if err != nil {
		log.Fatal(err)
	}
	count(store, "to", "be")
	checkpoint := store.Capture(state.Trigger{ID: 1, Kind: manifest.Periodic})
	count(store, "or", "not", "to", "be") // goes on at once
	keyed, _, _, err := checkpoint.Wait(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Close(); err != nil {
		log.Fatal(err)
	}

	opts.Epoch, opts.NextID, opts.Restored, opts.Dir = 2, 2, keyed, filepath.Join(dir, "2")
	if store, err = state.Open(ctx, opts); err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	count(store, "be")
	// Output:
	// to 1
	// be 1
	// or 1
	// not 1
	// to 2
	// be 2
	// be 2
}

func count(store *state.Store, words ...string) {
	counts, err := state.NewValue(store, "count", state.Int64)
	if err != nil {
		log.Fatal(err)
	}
	for _, w := range words {
		if err := store.SetKey(keygroup.Of(keygroup.Default, []byte(w), 128), []byte(w)); err != nil {
			log.Fatal(err)
		}
		n, _, err := counts.Get()
		if err != nil {
			log.Fatal(err)
		}
		if err := counts.Set(n + 1); err != nil {
			log.Fatal(err)
		}
		fmt.Println(w, n+1)
	}
}
