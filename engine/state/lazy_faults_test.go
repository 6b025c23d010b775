package state

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// spoiler changes objects of a store for good, and changes them back.
type spoiler struct {
	t     *testing.T
	store *objectstore.Mem
	rng   *rand.Rand
	all   []manifest.Object
	good  map[string][]byte
}

func newSpoiler(t *testing.T, store *objectstore.Mem, keyed *manifest.KeyedState, rng *rand.Rand) *spoiler {
	s := &spoiler{t: t, store: store, rng: rng, good: make(map[string][]byte)}
	for o := range keyed.NeededObjects() {
		content, _, err := objectstore.ReadAll(t.Context(), store, o.Key, 1<<24)
		if err != nil {
			t.Fatal(err)
		}
		s.all, s.good[o.Key] = append(s.all, o), content
	}
	return s
}

func (s *spoiler) put(key string, content []byte) {
	s.t.Helper()
	if _, err := s.store.Put(s.t.Context(), key, objectstore.Bytes(content), objectstore.PutOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *spoiler) restore() {
	for key, content := range s.good {
		s.put(key, content)
	}
}

// spoil changes one object: bytes of it, all of it for as many of another, or
// takes it away.
func (s *spoiler) spoil() manifest.Object {
	o := s.all[s.rng.IntN(len(s.all))]
	bad := slices.Clone(s.good[o.Key])
	switch s.rng.IntN(4) {
	case 0:
		bad[s.rng.IntN(len(bad))] ^= 1 << s.rng.IntN(8)
	case 1: // another object, at its end where the footers are
		other := s.good[s.all[s.rng.IntN(len(s.all))].Key]
		n := min(len(bad), len(other))
		copy(bad[len(bad)-n:], other[len(other)-n:])
	case 2:
		other := s.good[s.all[s.rng.IntN(len(s.all))].Key]
		copy(bad, other)
	case 3:
		if err := s.store.Delete(s.t.Context(), o.Key); err != nil {
			s.t.Fatal(err)
		}
		return o
	}
	s.put(o.Key, bad)
	return o
}

// F33 F34 F47 F48 F50: of a state of which some objects are wrong, missing or
// those of others, a lazy store gives right values or an error that names one of
// them, whatever is read and while it is hydrated. Without damage all is read.
func TestF33_F34_F47_F48_F50_LazyStoreNeverReadsWrong(t *testing.T) {
	failed, fine := 0, 0
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 47))
		opts := testOptions(t)
		opts.Materialize = MaterializePolicy{MaxDeltas: 6}
		j := newJob(t, opts)
		var from *checkpoint
		for from == nil || len(from.keyed.Pieces) == 0 || len(from.keyed.Deltas) < 2 {
			j.write(rng, 3000)
			j.trigger(manifest.Periodic)
			from = j.commit()
		}
		j.stop()
		s := newSpoiler(t, j.objects, from.keyed, rng)
		for range 25 {
			var spoiled []string
			for range rng.IntN(3) {
				if o := s.spoil(); !slices.Contains(spoiled, o.Key) {
					spoiled = append(spoiled, o.Key)
				}
			}
			if readLazily(t, j, from, rng, spoiled) {
				fine++
			} else {
				failed++
			}
			s.restore()
		}
	}
	if failed < 5 || fine < 5 {
		t.Errorf("%d lives failed and %d did not: the test shows little", failed, fine)
	}
}

// readLazily reads keys of a checkpoint that is opened lazily, and reports
// whether nothing was in the way.
func readLazily(t *testing.T, j *job, from *checkpoint, rng *rand.Rand, spoiled []string) bool {
	t.Helper()
	named := func(err error) bool {
		var corrupt *manifest.CorruptError
		return errors.As(err, &corrupt) && slices.Contains(spoiled, corrupt.Key)
	}
	var failure atomic.Pointer[error]
	store := storetest.NewFaulty(j.objects, rng.Uint64(), storetest.Rule{
		Op: storetest.Get, Nth: 1 + rng.IntN(9), Do: storetest.FlipByte(int64(rng.IntN(1000))),
	})
	s, err := Open(t.Context(), Options{
		Operator: "count", KeyGroups: testGroups, Epoch: 99, NextID: 1000, Restored: from.keyed, Store: store,
		Dir: filepath.Join(t.TempDir(), "s"), OnFailure: func(err error) { failure.Store(&err) },
	})
	if err != nil {
		if !named(err) {
			t.Errorf("open: %v, spoiled are %q", err, spoiled)
		}
		return false
	}
	defer s.Close()
	keys := slices.Collect(maps.Keys(from.model))
	rng.Shuffle(len(keys), func(i, k int) { keys[i], keys[k] = keys[k], keys[i] })
	for _, key := range keys {
		v, ok, err := s.Get([]byte(key))
		if err == nil && (!ok || string(v) != from.model[key]) {
			t.Fatalf("get %x = %x, %t; want %x; spoiled are %q", key, v, ok, from.model[key], spoiled)
		}
		if err != nil {
			if cause := failure.Load(); cause == nil || !named(*cause) {
				t.Errorf("get: %v, failure %v, spoiled are %q", err, cause, spoiled)
			}
			return false
		}
	}
	return true
}

// Lives that are killed before they are hydrated, one after the other,
// lose nothing. Their checkpoints name what is still in the object store, while
// retention deletes what no checkpoint keeps, and the next life begins from them.
func TestKilledWhileHydrated(t *testing.T) {
	opts := testOptions(t)
	opts.Materialize = MaterializePolicy{MaxDeltas: 4}
	j := newJob(t, opts)
	rng := rand.New(rand.NewPCG(1, 48))
	var from *checkpoint
	for from == nil || len(from.keyed.Pieces) == 0 {
		j.write(rng, 2000)
		j.trigger(manifest.Periodic)
		from = j.commit()
	}
	blocked := 0
	for range 12 {
		j.stop()
		faulty := storetest.NewFaulty(j.objects, 1)
		if len(from.keyed.Pieces) > 0 {
			for _, o := range append(tablesOf(from), from.keyed.Pieces[0].Base.Packs...) {
				faulty.Add(storetest.Rule{Op: storetest.Get, Key: o.Key, Do: storetest.At(storetest.Before, func(ctx context.Context, _ storetest.Call) error {
					<-ctx.Done() // nobody reads: only hydration waits
					return ctx.Err()
				})})
			}
		}
		j.opts.Store = faulty
		j.start(from)
		for range 1 + rng.IntN(6) {
			j.write(rng, 500)
			j.trigger(manifest.Periodic)
			from = j.commit()
		}
		select {
		case <-j.store.Hydrated():
		default:
			blocked++
		}
		j.live = j.live[len(j.live)-1:] // what older checkpoints kept goes, too
		j.collect()
	}
	j.stop()
	j.opts.Store = j.objects
	j.start(from)
	j.check(rng)
	if blocked < 6 || j.seen.bases < 6 {
		t.Errorf("%d lives were not hydrated, %d checkpoints had a base: the test shows little", blocked, j.seen.bases)
	}
}

// tablesOf are the objects of the tables of the checkpoint's base.
func tablesOf(c *checkpoint) (out []manifest.Object) {
	for _, f := range c.keyed.Pieces[0].Base.Files {
		if f.Object.Key != "" {
			out = append(out, f.Object)
		}
	}
	return out
}
