package incremental

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// F33 F47 F48 F50: whatever object of whatever parent is missing, of another
// size, or damaged, a composed state gives no wrong value, fails, and names it.
func TestF33_F47_F48_F50_ComposedStateOfDamage(t *testing.T) {
	store := objectstore.NewMem()
	r := rand.New(rand.NewPCG(3, 14))
	states, model := parents(t, store, r, 2)
	part := groups(30, 100)
	packed, want := Rescale(states, part), inGroups(model, part)
	if len(dispensable(packed)) == len(packed.Pieces) {
		t.Error("no table stands in a pack as a whole")
	}
	for name, state := range map[string]manifest.KeyedState{"packed": packed, "old": withoutPacks(packed)} {
		t.Run(name, func(t *testing.T) { composedOfAnyDamage(t, store, state, want, r) })
	}
}

func composedOfAnyDamage(t *testing.T, store objectstore.Store, state manifest.KeyedState, want map[string]string, r *rand.Rand) {
	spare := dispensable(state)
	seen := make(map[string]bool)
	for o := range state.NeededObjects() {
		if seen[o.Key] {
			continue
		}
		seen[o.Key] = true
		good, _, err := objectstore.ReadAll(t.Context(), store, o.Key, 1<<20)
		must(t, err)
		damages := map[string][]byte{"missing": nil, "longer": append(slices.Clone(good), 0), "zeros": make([]byte, len(good))}
		for range 3 {
			bad := slices.Clone(good)
			at := r.IntN(len(bad))
			bad[at] ^= 1
			damages[fmt.Sprintf("byte %d", at)] = bad
		}
		for what, bad := range damages {
			overwrite(t, store, o.Key, bad)
			composedOfDamage(t, store, state, want, o.Key, what, spare[o.Key])
		}
		overwrite(t, store, o.Key, good)
	}
}

// dispensable are the objects that a state can be read without: packs, and the
// tables that stand in one as a whole.
func dispensable(s manifest.KeyedState) map[string]bool {
	out := make(map[string]bool)
	for _, p := range s.Pieces {
		if p.Base == nil {
			continue
		}
		for _, o := range p.Base.Packs {
			out[o.Key] = true
		}
		for _, f := range p.Base.Files {
			if f.Pack.Pack > 0 && tailOf(f.Object.Size) == 0 {
				out[f.Object.Key] = true
			}
		}
	}
	return out
}

// composedOfDamage wants a failure that names the object, unless nothing of it
// that is damaged is needed.
func composedOfDamage(t *testing.T, store objectstore.Store, state manifest.KeyedState, want map[string]string, key, what string, spare bool) {
	t.Helper()
	l, err := openLazy(t.Context(), store, state)
	var read map[string]string
	if err == nil {
		defer l.close(t)
		read, err = readAll(l.DB)
		if err == nil && !maps.Equal(read, want) {
			t.Errorf("%s of %s: wrong values", what, key)
		}
		if err == nil {
			err = l.remote.Hydrate(HydrateOptions{DB: l.DB})
		}
		err = errors.Join(err, l.failed.get())
	}
	var corrupt *manifest.CorruptError
	switch partly := strings.HasPrefix(what, "byte"); {
	case err == nil && (partly || spare):
		got, err := readAll(l.DB)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s of %s: wrong values or %v when hydrated", what, key, err)
		}
	case !errors.As(err, &corrupt) || corrupt.Key != key || errors.Is(err, fs.ErrNotExist):
		t.Errorf("%s of %s: %v", what, key, err)
	}
}

// F75 F76: a composed state on a disk that fails or is full, while it is put
// together, read or hydrated, is an error of the disk's or the whole state. It
// never reads as another, and nothing panics.
func TestF75_F76_ComposeFailsAtEveryOperation(t *testing.T) {
	store := objectstore.NewMem()
	state, want := rescaledState(t, store)
	step := int64(5)
	if heavy() {
		step = 1
	}
	failures := 0
	for k := int64(1); ; k += step {
		disk := &faultyDisk{k: k, err: syscall.ENOSPC}
		var got map[string]string
		var err error
		var failed firstError
		finishes(t, fmt.Sprintf("operation %d", k), func() {
			got, err = composedLife(t.Context(), store, state, disk.wrap(vfs.NewMem()), failed.set)
		})
		switch {
		case err != nil || failed.get() != nil:
			failures++
			if err := errors.Join(err, failed.get()); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("operation %d: %v", k, err)
			}
		case !maps.Equal(got, want):
			t.Errorf("operation %d: other state", k)
		}
		if !disk.hit.Load() {
			t.Logf("fewer than %d operations, %d failures", k, failures)
			break
		}
	}
	if failures == 0 {
		t.Error("nothing failed")
	}
}

// composedLife restores, opens, hydrates and reads a state. Compactions are held,
// as in every lazy restore: Pebble panics when Open fails while one runs.
func composedLife(ctx context.Context, store objectstore.Store, state manifest.KeyedState, disk vfs.FS, failed func(error)) (got map[string]string, err error) {
	r := NewRecordFS(NewRemoteFS(ctx, disk, store))
	if _, err := Restore(ctx, RestoreOptions{Store: store, State: state, Dir: "/a/db", FS: r, Parallel: 1}); err != nil {
		return nil, err
	}
	db, err := pebble.Open("/a/db", PebbleOptions(DBOptions{FS: r, Failed: failed, Scheduler: NewCompactions(2).Compactor(true)}))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := r.remote.Hydrate(HydrateOptions{DB: db}); err != nil {
		return nil, err
	}
	return readAll(db)
}
