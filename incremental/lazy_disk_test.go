package incremental

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// lazyLife restores a state lazily over a disk, reads all of it and hydrates it.
// It returns what was read, also if the hydration failed.
func lazyLife(ctx context.Context, store objectstore.Store, state manifest.KeyedState, disk vfs.FS, failed *firstError) (got map[string]string, err error) {
	remote := NewRemoteFS(ctx, disk, store)
	remote.pause = 1
	fs := NewRecordFS(remote)
	if _, err := Restore(ctx, RestoreOptions{Store: store, State: state, Dir: "/a/db", FS: fs}); err != nil {
		return nil, err
	}
	db, err := pebble.Open("/a/db", PebbleOptions(DBOptions{FS: fs, Failed: failed.set, Scheduler: NewCompactions(1).Compactor(true)}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if got, err = readAll(db); err != nil {
		return nil, err
	}
	return got, remote.Hydrate(HydrateOptions{DB: db, Parallel: 1})
}

// F75 F76: whichever operation of the disk fails while a database is restored
// lazily, read and hydrated, the process goes on, nothing hangs, and what is read
// is right or an error.
func TestF75_F76_LazyFailsAtEveryOperation(t *testing.T) {
	store := objectstore.NewMem()
	state, want := smallState(t, store)
	for _, forever := range []bool{false, true} {
		wrong, right := 0, 0
		for k := int64(1); ; k++ {
			disk := &faultyDisk{k: k, forever: forever, err: syscall.ENOSPC}
			var failed firstError
			var got map[string]string
			var err error
			finishes(t, fmt.Sprintf("operation %d", k), func() {
				got, err = lazyLife(t.Context(), store, state, disk.wrap(vfs.NewMem()), &failed)
			})
			if got != nil && failed.get() == nil && !maps.Equal(got, want) {
				t.Errorf("operation %d: wrong values: %v", k, err)
			}
			if errors.Is(err, manifest.ErrCorrupt) {
				t.Errorf("operation %d: the store is blamed: %v", k, err)
			}
			if err != nil {
				wrong++
			} else {
				right++
			}
			if !disk.hit.Load() {
				break
			}
		}
		if wrong < 10 || right == 0 {
			t.Errorf("forever=%t: %d lives failed, %d did not", forever, wrong, right)
		}
	}
}

// F79: a database whose directory is removed while its tables are remote fails,
// or reads what is right.
func TestF79_LazyDirectoryRemoved(t *testing.T) {
	store := objectstore.NewMem()
	state, want := leveledState(t, store, 4)
	dir := t.TempDir()
	remote := NewRemoteFS(t.Context(), nil, store)
	fs := NewRecordFS(remote)
	path := dir + "/db"
	if _, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: path, FS: fs}); err != nil {
		t.Fatal(err)
	}
	var failed firstError
	db, err := pebble.Open(path, PebbleOptions(DBOptions{FS: fs, Failed: failed.set, Scheduler: NewCompactions(1).Compactor(true)}))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(db); err == nil && !maps.Equal(got, want) {
		t.Error("wrong values")
	} else if err != nil && failed.get() == nil {
		t.Errorf("read: %v, and the database goes on", err)
	}
	if err := remote.Hydrate(HydrateOptions{DB: db}); err == nil || errors.Is(err, manifest.ErrCorrupt) {
		t.Errorf("hydrate: %v", err)
	}
}
