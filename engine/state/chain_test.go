package state

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
)

// chainJob never makes a base.
func chainJob(t *testing.T) (*job, *rand.Rand) {
	opts := testOptions(t)
	opts.Materialize = MaterializePolicy{MaxDeltas: -1, MaxReads: -1}
	return newJob(t, opts), rand.New(rand.NewPCG(41, 42))
}

// B41: that a savepoint completed, which the store had no part in, does not make
// the next checkpoint a full one.
func TestB41_SavepointsBetweenCheckpoints(t *testing.T) {
	j, rng := chainJob(t)
	j.write(rng, 500)
	j.trigger(manifest.Periodic)
	first := j.commit()
	j.store.Completed(first.id)
	j.store.Completed(j.next) // the savepoint's id
	j.next++
	j.put([]byte("\x00\x01\x01ak"), []byte("v"))
	j.trigger(manifest.Periodic)
	third := j.commit()
	_, _, stats, err := third.p.Wait(context.Background())
	if err != nil || stats.FullBytes <= stats.NewBytes || stats.NewObjects != 1 {
		t.Errorf("checkpoint %d uploaded %d of %d bytes in %d objects (%v)", third.id, stats.NewBytes, stats.FullBytes, stats.NewObjects, err)
	}
	if err := diff(readBack(t, j.objects, testGroups, third.keyed), third.model); err != nil {
		t.Error(err)
	}
}

// B42: a checkpoint builds on its base and not on what was pending meanwhile: of
// that it names only what the task itself uploaded since the base, which no
// deletion takes away.
func TestB42_PendingCheckpointIsNoBase(t *testing.T) {
	j, rng := chainJob(t)
	j.write(rng, 300)
	j.trigger(manifest.Periodic)
	j.write(rng, 300)
	second := j.trigger(manifest.Periodic)
	if _, _, _, err := second.p.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	first := j.commit()
	j.abort(true)
	j.write(rng, 300)
	j.trigger(manifest.Periodic)
	third := j.commit() // holds its names against rule R6, and deletes what nothing keeps
	if third.base != first {
		t.Fatalf("checkpoint %d is built on %d", third.id, third.base.number())
	}
	if n := len(third.keyed.Deltas); n != 3 {
		t.Errorf("checkpoint %d names %d deltas, want that of each interval", third.id, n)
	}
	if err := diff(readBack(t, j.objects, testGroups, third.keyed), third.model); err != nil {
		t.Error(err)
	}
}
