package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

var testGroups = manifest.KeyGroupRange{First: 0, Last: 2}

// job plays the coordinator and retention for one task: it triggers, commits
// and deletes by the rules, and keeps beside each checkpoint what the state
// was.
type job struct {
	t       *testing.T
	objects *objectstore.Mem
	opts    Options
	store   *Store
	model   map[string]string
	epoch   manifest.Epoch
	next    manifest.ID
	pending []*checkpoint
	live    []*checkpoint // ascending
	base    *checkpoint   // the newest of this epoch, or the restored one
	onStart func()
	// onCommit, if set, is called for each committed checkpoint.
	onCommit func(*checkpoint)
	seen     struct{ commits, bases, spills, reserved, aborts, restarts int }
}

type checkpoint struct {
	id       manifest.ID
	base     *checkpoint
	epoch    manifest.Epoch
	p        *Pending
	model    map[string]string
	keyed    *manifest.KeyedState
	reserved []manifest.Object
}

// keeps is the set of objects that the checkpoint keeps alive.
func (c *checkpoint) keeps() map[string]bool {
	out := map[string]bool{}
	if c == nil {
		return out
	}
	for o := range c.keyed.NeededObjects() {
		out[o.Key] = true
	}
	for _, o := range c.reserved {
		out[o.Key] = true
	}
	return out
}

const keepCheckpoints = 3

func newJob(t *testing.T, opts Options) *job {
	j := &job{t: t, objects: objectstore.NewMem(), opts: opts, next: 1, model: map[string]string{}}
	if j.opts.Store == nil {
		j.opts.Store = j.objects
	}
	t.Cleanup(j.stop)
	j.start(nil)
	return j
}

func testOptions(t *testing.T) Options {
	return Options{Operator: "count", KeyGroups: testGroups, OverlayBytes: minOverlayBytes, Dir: t.TempDir()}
}

// start begins the next epoch from a checkpoint, or empty.
func (j *job) start(from *checkpoint) {
	j.t.Helper()
	j.epoch++
	o := j.opts
	o.Epoch, o.NextID = j.epoch, j.next
	o.Dir = filepath.Join(j.opts.Dir, j.epoch.String())
	j.model, j.base = map[string]string{}, from
	if from != nil {
		o.Restored, o.Reserved = from.keyed, from.reserved
		j.model = maps.Clone(from.model)
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		j.t.Fatalf("start epoch %d: %v", j.epoch, err)
	}
	j.store = s
	if j.onStart != nil {
		j.onStart()
	}
}

func (j *job) stop() {
	if err := j.store.Close(); err != nil {
		j.t.Errorf("close: %v", err)
	}
	j.pending = nil
}

func (j *job) newest() manifest.ID {
	if len(j.live) == 0 {
		return 0
	}
	return j.live[len(j.live)-1].id
}

func (c *checkpoint) number() manifest.ID {
	if c == nil {
		return 0
	}
	return c.id
}

func (j *job) trigger(kind manifest.Kind) *checkpoint {
	c := &checkpoint{id: j.next, base: j.base, epoch: j.epoch, model: maps.Clone(j.model)}
	j.next++
	j.pending = append(j.pending, c)
	oldest := c.base.number()
	for _, p := range j.pending {
		oldest = min(oldest, p.base.number())
	}
	c.p = j.store.Capture(Trigger{ID: c.id, OldestBase: oldest, Kind: kind})
	return c
}

// commit waits for the oldest pending checkpoint, commits it, and deletes what
// no live checkpoint keeps.
func (j *job) commit() *checkpoint {
	j.t.Helper()
	c := j.pending[0]
	j.pending = j.pending[1:]
	var err error
	if c.keyed, c.reserved, _, err = c.p.Wait(context.Background()); err != nil {
		j.t.Fatalf("checkpoint %d: %v", c.id, err)
	}
	j.checkNames(c)
	j.seen.commits++
	if len(c.reserved) > 0 {
		j.seen.reserved++
	}
	if len(c.keyed.Pieces) > 0 {
		j.seen.bases++
	}
	if _, _, stats, _ := c.p.Wait(context.Background()); stats.NewObjects > 1 {
		j.seen.spills++
	}
	j.live = append(j.live, c)
	j.base = c
	if n := len(j.live) - keepCheckpoints; n > 0 {
		j.live = slices.Delete(j.live, 0, n)
	}
	j.collect()
	if j.onCommit != nil {
		j.onCommit(c)
	}
	return c
}

// abort gives up the oldest pending checkpoint; the signal may be lost.
func (j *job) abort(signal bool) {
	c := j.pending[0]
	j.pending = j.pending[1:]
	j.seen.aborts++
	if signal {
		j.store.Aborted(c.id)
	}
}

// checkNames holds a report against rule R6.
func (j *job) checkNames(c *checkpoint) {
	j.t.Helper()
	base := c.base.keeps()
	unfinished := map[string]bool{}
	for _, o := range c.reserved {
		unfinished[o.Key] = o.Unfinished()
	}
	for key := range c.keeps() {
		n, err := manifest.ParseDataKey(key)
		switch {
		case err != nil:
			j.t.Fatalf("checkpoint %d: %v", c.id, err)
		case n.ID > c.id:
			j.t.Fatalf("checkpoint %d names %s", c.id, key)
		case !base[key] && (n.ID <= c.base.number() || n.Epoch != c.epoch):
			j.t.Fatalf("checkpoint %d on base %d names %s", c.id, c.base.number(), key)
		}
		if _, err := j.objects.Stat(context.Background(), key); err != nil && !unfinished[key] {
			j.t.Fatalf("checkpoint %d names %v", c.id, err)
		}
	}
}

// collect deletes by rule R7.
func (j *job) collect() {
	j.t.Helper()
	live := map[string]bool{}
	for _, c := range j.live {
		maps.Copy(live, c.keeps())
	}
	for o, err := range j.objects.List(context.Background(), manifest.DataPrefix, "") {
		if err != nil {
			j.t.Fatal(err)
		}
		n, err := manifest.ParseDataKey(o.Key)
		if err != nil {
			j.t.Fatal(err)
		}
		if !live[o.Key] && (n.ID <= j.newest() || n.Epoch < j.epoch) {
			if err := j.objects.Delete(context.Background(), o.Key); err != nil {
				j.t.Fatal(err)
			}
		}
	}
}

func (j *job) put(key, value []byte) {
	j.t.Helper()
	if err := j.store.Put(key, value); err != nil {
		j.t.Fatal(err)
	}
	j.model[string(key)] = string(value)
}

func (j *job) delete(key []byte) {
	j.t.Helper()
	if err := j.store.Delete(key); err != nil {
		j.t.Fatal(err)
	}
	delete(j.model, string(key))
}

// check compares the whole state with the model by scans, and some keys by
// reads.
func (j *job) check(rng *rand.Rand) {
	j.t.Helper()
	var got []string
	for g := testGroups.First; g <= testGroups.Last; g++ {
		err := j.store.Scan([]byte{byte(g >> 8), byte(g)}, func(k, v []byte) bool {
			if want, ok := j.model[string(k)]; !ok || want != string(v) {
				j.t.Fatalf("scan gives %x = %x, want %x, there %v", k, v, want, ok)
			}
			got = append(got, string(k))
			return true
		})
		if err != nil {
			j.t.Fatal(err)
		}
	}
	if !slices.Equal(got, slices.Sorted(maps.Keys(j.model))) {
		j.t.Fatalf("scan gives %d keys, want %d", len(got), len(j.model))
	}
	for range 50 {
		key := randomKey(rng)
		v, ok, err := j.store.Get(key)
		if want, there := j.model[string(key)]; err != nil || ok != there || !bytes.Equal(v, []byte(want)) {
			j.t.Fatalf("get %x = %x, %v, %v; want %x, %v", key, v, ok, err, want, there)
		}
	}
}

// write makes n random changes.
func (j *job) write(rng *rand.Rand, n int) {
	j.t.Helper()
	for range n {
		if key := randomKey(rng); rng.IntN(4) == 0 {
			j.delete(key)
		} else {
			v := make([]byte, rng.IntN(40))
			for i := range v {
				v[i] = byte(rng.Uint32())
			}
			j.put(key, v)
		}
	}
}

// readBack restores a checkpoint's state and returns all of it.
func readBack(t *testing.T, store objectstore.Store, groups manifest.KeyGroupRange, keyed *manifest.KeyedState) map[string]string {
	t.Helper()
	s, err := Open(context.Background(), Options{
		Operator: "count", KeyGroups: groups, Epoch: 99, NextID: 1000, Restored: keyed, Store: store,
		Dir: filepath.Join(t.TempDir(), "restored"),
	})
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	out := map[string]string{}
	for g := groups.First; g <= groups.Last; g++ {
		err = errors.Join(err, s.Scan([]byte{byte(g >> 8), byte(g)}, func(k, v []byte) bool {
			out[string(k)] = string(v)
			return true
		}))
	}
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatalf("read restored state: %v", err)
	}
	return out
}

func diff(got, want map[string]string) error {
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			return fmt.Errorf("%x = %x (there: %v), want %x", k, g, ok, v)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d keys, want %d", len(got), len(want))
	}
	return nil
}
