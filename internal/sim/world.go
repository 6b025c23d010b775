package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

const jobName = "sim"

// Options choose a run.
type Options struct {
	Seed uint64
	// MaxPending is how many checkpoints may be pending, Keep how many are
	// kept.
	MaxPending, Keep int
	// Break takes one rule out: a control that must fail on some seed.
	Break Broken
}

// Broken names a rule that a control takes out.
type Broken string

// The controls. Ledgers reserve everything they may still name, so that keeping
// fewer checkpoints than may be pending does no harm by itself: KeepFewer also
// has reports reserve no more than R7 asks for.
const (
	KeepFewer      Broken = "fewer checkpoints are kept than may be pending"
	FutureBase     Broken = "a base ahead of its checkpoint is named"
	NoReservations Broken = "reports reserve nothing"
	ForgetPacks    Broken = "retention counts a pack for the checkpoint that wrote it only"
	ForgetUploads  Broken = "reports do not reserve what is being uploaded"
)

// parts are small enough that most manifests of some seeds refer to packs, of
// one or several tasks, and that parts are moved.
func (o Options) parts() manifest.PartsOptions {
	switch o.Seed % 3 {
	case 0:
		return manifest.PartsOptions{Inline: 100, Pack: 200, MaxPacks: 2}
	case 1:
		return manifest.PartsOptions{Inline: 1 << 10, Pack: 4 << 10, MaxPacks: 4}
	default:
		return manifest.PartsOptions{}
	}
}

// state is what a simulated task holds: values by key, in which the key group
// comes first.
type state map[string]string

// cutKey names the state of one task at one checkpoint.
type cutKey struct {
	epoch manifest.Epoch
	id    manifest.ID
	task  int
}

// world is what outlives processes: the store, and what the simulation knows to
// be true.
type world struct {
	opts  Options
	store *objectstore.Mem

	mu     sync.Mutex
	actors uint64
	cuts   map[cutKey]state
	wrong  []string
	stats  Stats
}

// Stats say what a run saw, so that a test can tell it from an idle one.
type Stats struct {
	Committed, Aborted, Takeovers, Bases, PinnedReads, LatePlans, Deleted int
	// Packs count those that committed manifests refer to, Shared those of
	// them that an earlier one wrote.
	Packs, Shared int
}

func newWorld(opts Options) *world {
	return &world{opts: opts, store: objectstore.NewMem(), cuts: make(map[cutKey]state)}
}

// rng gives each actor a sequence of its own, so that what one draws does not
// depend on when another one does.
func (w *world) rng() *rand.Rand {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.actors++
	return rand.New(rand.NewPCG(w.opts.Seed, w.actors))
}

func (w *world) count(f func(*Stats)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.stats)
}

// violation records that a rule did not hold.
func (w *world) violation(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// cut records what a task's state is at a checkpoint.
func (w *world) cut(k cutKey, s state) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cuts[k] = maps.Clone(s)
}

// check restores every listed checkpoint straight from the store. A
// checkpoint that was unlinked meanwhile does not count.
func (w *world) check(ctx context.Context) {
	store := objectstore.Prefix(w.store, jobName)
	cat := catalog.New(store, jobName)
	head, err := cat.Head(ctx)
	if errors.Is(err, catalog.ErrNotFound) {
		return
	}
	if err != nil {
		w.violation("read HEAD: %v", err)
		return
	}
	for _, e := range head.Checkpoints {
		err := w.restores(ctx, cat, store, e)
		if err == nil {
			continue
		}
		if now, headErr := cat.Head(ctx); headErr == nil {
			if _, listed := now.Find(e.ID); !listed {
				continue
			}
		}
		w.violation("listed checkpoint %d of epoch %d: %v", e.ID, e.Epoch, err)
	}
}

// restores reads a checkpoint through a store and compares each task's state
// with that of its cut. Reserved objects must be there as well.
func (w *world) restores(ctx context.Context, cat *catalog.Catalog, store objectstore.Store, e catalog.Entry) error {
	m, err := cat.Manifest(ctx, e)
	if err != nil {
		return err
	}
	for _, t := range m.Operators[0].Tasks {
		got, err := restoreState(ctx, store, t.Keyed)
		if err != nil {
			return fmt.Errorf("task %d: %w", t.Index, err)
		}
		w.mu.Lock()
		want, known := w.cuts[cutKey{m.Epoch, m.ID, t.Index}]
		w.mu.Unlock()
		if !known {
			return fmt.Errorf("task %d reported a checkpoint it never captured", t.Index)
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("task %d restores %d keys that differ from the %d of its cut", t.Index, len(got), len(want))
		}
	}
	for o := range m.Objects() {
		if _, err := store.Stat(ctx, o.Key); err != nil && !o.Unfinished() {
			return fmt.Errorf("object kept by the manifest: %w", err)
		}
	}
	return nil
}

// orphans lists what is stored without being HEAD or kept by a listed
// checkpoint.
func (w *world) orphans(ctx context.Context) ([]string, error) {
	store := objectstore.Prefix(w.store, jobName)
	cat := catalog.New(store, jobName)
	head, err := cat.Head(ctx)
	if err != nil {
		return nil, err
	}
	kept := map[string]bool{manifest.HeadKey: true}
	for _, e := range head.Checkpoints {
		m, err := cat.Manifest(ctx, e)
		if err != nil {
			return nil, err
		}
		kept[e.ManifestKey()] = true
		for o := range m.Objects() {
			kept[o.Key] = true
		}
	}
	var out []string
	for info, err := range store.List(ctx, "", "") {
		if err != nil {
			return nil, err
		}
		if !kept[info.Key] {
			out = append(out, info.Key)
		}
	}
	return out, nil
}

// table is a stored object's content: values, and nil for deleted keys.
type table map[string]*string

func encode(t table) []byte {
	data, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings always have a JSON form
	}
	return data
}

// apply lays a table over a state.
func (s state) apply(t table) {
	for k, v := range t {
		if v == nil {
			delete(s, k)
		} else {
			s[k] = *v
		}
	}
}

func keyOf(group uint16, n int) string { return fmt.Sprintf("%05d/%d", group, n) }

func groupOf(key string) (kg uint16) {
	for _, c := range key[:5] {
		kg = kg*10 + uint16(c-'0')
	}
	return kg
}

// restoreState reads the state that a manifest describes.
func restoreState(ctx context.Context, store objectstore.Store, k *manifest.KeyedState) (state, error) {
	out := state{}
	lay := func(s state, o manifest.Object) error {
		data, _, err := objectstore.ReadAll(ctx, store, o.Key, 1<<20)
		if err != nil {
			return err
		}
		if int64(len(data)) != o.Size {
			return fmt.Errorf("object %s has %d bytes, want %d", o.Key, len(data), o.Size)
		}
		var t table
		if err := json.Unmarshal(data, &t); err != nil {
			return err
		}
		s.apply(t)
		return nil
	}
	for _, p := range k.Pieces {
		piece := state{}
		if p.Base != nil {
			for _, f := range p.Base.Files {
				if err := lay(piece, f.Object); err != nil {
					return nil, err
				}
			}
		}
		for _, d := range p.Deltas {
			if err := lay(piece, d.Object); err != nil {
				return nil, err
			}
		}
		for key, v := range piece {
			if p.KeyGroups.Contains(groupOf(key)) {
				out[key] = v
			}
		}
	}
	for _, d := range k.Deltas {
		if err := lay(out, d.Object); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// pause waits a random time up to limit, or until ctx ends.
func pause(ctx context.Context, r *rand.Rand, limit time.Duration) error {
	t := time.NewTimer(time.Duration(r.Int64N(int64(limit)) + 1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func sortedKeys(s state) []string { return slices.Sorted(maps.Keys(s)) }
