package incremental

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// faultyDisk fails its k-th operation, and if forever is set all after it.
type faultyDisk struct {
	k       int64
	forever bool
	err     error
	count   atomic.Int64
	hit     atomic.Bool
}

func (f *faultyDisk) wrap(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		n := f.count.Add(1)
		if n == f.k || f.forever && n > f.k {
			f.hit.Store(true)
			return f.err
		}
		return nil
	}))
}

// finishes fails the test when do hangs.
func finishes(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s: hangs", what)
	}
}

// life is all that a state database goes through. It returns the base that was
// made at its end, and what that should hold.
func life(ctx context.Context, store objectstore.Store, fs *RecordFS, failed *firstError) (b manifest.Base, model map[string]string, err error) {
	db, err := pebble.Open("/db", PebbleOptions(DBOptions{FS: fs, Failed: failed.set}))
	if err != nil {
		return b, nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r := rand.New(rand.NewPCG(1, 1))
	model = make(map[string]string)
	for i := range 8 {
		changes := make(map[string]string)
		for range 50 {
			changes[fmt.Sprintf("\x00%c-%03d", r.IntN(99), r.IntN(200))] = fmt.Sprint(r.Uint64())
		}
		maps.Copy(model, changes)
		path := fmt.Sprintf("/delta-%d", i)
		if _, err := WriteDelta(fs, path, sorted(changes)); err != nil {
			return b, nil, err
		}
		if err := db.Ingest(ctx, []string{path}); err != nil {
			return b, nil, err
		}
	}
	c, err := CaptureBase(db, fs)
	if err != nil {
		return b, nil, err
	}
	l := NewLedger(LedgerOptions{Operator: "op", Epoch: 1, NextID: 1, KeyGroups: allGroups})
	if err := l.StartBase(0); err != nil {
		return b, nil, err
	}
	b, _, err = UploadBase(ctx, c, UploadBaseOptions{Uploader: Uploader{store}, Ledger: l, Parallel: 1})
	return b, model, errors.Join(err, c.Release())
}

// F76: whichever operation of the disk fails, the process goes on, nothing
// hangs, and either the failure is known or nothing was lost.
func TestF76_DatabaseFailsAtEveryOperation(t *testing.T) {
	for _, forever := range []bool{false, true} {
		fatal, whole := 0, 0
		for k := int64(1); ; k++ {
			disk := &faultyDisk{k: k, forever: forever, err: syscall.EIO}
			store := objectstore.NewMem()
			var failed firstError
			var base manifest.Base
			var model map[string]string
			var err error
			finishes(t, fmt.Sprintf("operation %d", k), func() {
				base, model, err = life(t.Context(), store, NewRecordFS(disk.wrap(vfs.NewMem())), &failed)
			})
			switch {
			case failed.get() != nil:
				fatal++
				if !errors.Is(failed.get(), syscall.EIO) {
					t.Errorf("operation %d: Failed got %v, which is not the disk's error", k, failed.get())
				}
			case err == nil:
				whole++
				state := manifest.KeyedState{KeyGroups: allGroups, Pieces: []manifest.Piece{{KeyGroups: allGroups, Base: &base}}}
				sameState(t, restored(t, store, state), model, fmt.Sprintf("operation %d", k))
			}
			if !disk.hit.Load() {
				t.Logf("forever %t: of %d operations %d failed the database, %d did no harm", forever, k, fatal, whole)
				break
			}
		}
		if fatal == 0 {
			t.Error("no failure reached Failed")
		}
	}
}

// F75 F76: a restore on a disk that fails or is full gives an error and no
// directory, or all of the state.
func TestF75_F76_RestoreFailsAtEveryOperation(t *testing.T) {
	store := objectstore.NewMem()
	state, want := rescaledState(t, store)
	for _, forever := range []bool{false, true} {
		step := int64(1)
		if forever {
			step = 7
		}
		for k := int64(1); ; k += step {
			disk := &faultyDisk{k: k, forever: forever, err: syscall.ENOSPC}
			fs := vfs.NewMem()
			var err error
			finishes(t, fmt.Sprintf("operation %d", k), func() {
				_, err = Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: "/a/db", FS: disk.wrap(fs), Parallel: 1})
			})
			if !disk.hit.Load() {
				t.Logf("forever %t: fewer than %d operations", forever, k)
				break
			}
			what := fmt.Sprintf("operation %d, %v", k, err)
			names, _ := fs.List("/a/db")
			if err == nil || len(names) > 0 && forever {
				sameState(t, plain(t, fs, "/a/db"), want, what)
				continue
			}
			if len(names) > 0 {
				t.Errorf("%s: there is a directory in spite of the error", what)
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%s: the error is not the disk's", what)
			}
			// What was left behind is in nobody's way.
			if _, err := Restore(t.Context(), RestoreOptions{Store: store, State: state, Dir: "/a/db", FS: fs}); err != nil {
				t.Fatalf("%s: the next restore: %v", what, err)
			}
			if names, _ = fs.List("/a"); len(names) != 1 {
				t.Errorf("%s: the next restore left %q", what, names)
			}
			if k%10 == 0 {
				sameState(t, plain(t, fs, "/a/db"), want, what)
			}
		}
	}
}

// rescaledState is one of three pieces with bases and deltas.
func rescaledState(t *testing.T, store objectstore.Store) (manifest.KeyedState, map[string]string) {
	t.Helper()
	s := &stage{t: t, r: rand.New(rand.NewPCG(7, 7)), store: store, max: 128}
	s.at(3)
	s.at(3)
	state := Rescale(s.states, groups(10, 120))
	if len(state.Pieces) < 3 {
		t.Fatalf("only %d pieces", len(state.Pieces))
	}
	return state, inGroups(s.model, state.KeyGroups)
}
