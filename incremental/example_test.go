package incremental_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// A task writes what changed as a delta, uploads it, enters it in its ledger
// and reports. The report is all that a restore needs.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "incremental")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store := objectstore.NewMem()
	fs := incremental.NewRecordFS(nil)
	ledger := incremental.NewLedger(incremental.LedgerOptions{
		Operator: "count", Epoch: 1, NextID: 1, KeyGroups: manifest.KeyGroupRange{First: 0, Last: 127},
	})

	// Keys begin with their key group, here 1.
	changes := []incremental.Entry{
		{Key: []byte("\x00\x01apples"), Value: []byte("3")},
		{Key: []byte("\x00\x01pears"), Value: []byte("1")},
	}
	path := filepath.Join(dir, "delta.sst")
	file, err := incremental.WriteDelta(fs, path, slices.Values(changes))
	if err != nil {
		log.Fatal(err)
	}
	position := ledger.NextPosition()
	object := manifest.Object{Key: ledger.DeltaName(position).Key(), Size: file.Size, SHA256: file.SHA256}
	f, err := os.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if err := (incremental.Uploader{Store: store}).Put(ctx, object, f); err != nil {
		log.Fatal(err)
	}
	if err := ledger.AddDelta(manifest.Delta{Position: position, Object: object}); err != nil {
		log.Fatal(err)
	}
	if err := ledger.Barrier(incremental.Barrier{ID: 1}); err != nil {
		log.Fatal(err)
	}
	state, _, err := ledger.Report(1)
	if err != nil {
		log.Fatal(err)
	}

	restored := filepath.Join(dir, "restored")
	if _, err := incremental.Restore(ctx, incremental.RestoreOptions{Store: store, State: *state, Dir: restored, FS: fs}); err != nil {
		log.Fatal(err)
	}
	db, err := pebble.Open(restored, incremental.PebbleOptions(incremental.DBOptions{FS: fs}))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	value, closer, err := db.Get([]byte("\x00\x01apples"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(file.Entries, "keys; apples:", string(value))
	closer.Close()
	// Output: 2 keys; apples: 3
}

// A state that one subtask held is divided between two.
func ExampleRescale() {
	whole := manifest.KeyedState{
		KeyGroups: manifest.KeyGroupRange{First: 0, Last: 127},
		Deltas:    []manifest.Delta{{Position: 1, Object: manifest.Object{Key: "a"}}},
	}
	for _, r := range []manifest.KeyGroupRange{{First: 0, Last: 63}, {First: 64, Last: 127}} {
		part := incremental.Rescale([]manifest.KeyedState{whole}, r)
		for _, p := range part.Pieces {
			fmt.Println(p.KeyGroups, len(p.Deltas))
		}
	}
	// Output:
	// 0-63 1
	// 64-127 1
}
