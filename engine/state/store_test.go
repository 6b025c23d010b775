package state

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// Random writes, spills, checkpoints (up to two pending at a time), aborts,
// retention, materializations and restarts from any live checkpoint: reads,
// scans and restored states always agree with a map.
func TestB44_StoreIsAMapAndCheckpointsAreSnapshots(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 44))
		opts := testOptions(t)
		opts.Materialize = MaterializePolicy{MaxDeltas: 1 + rng.IntN(6)}
		j := newJob(t, opts)
		j.randomLife(rng)
		if n := j.seen; min(n.commits, n.bases, n.spills, n.reserved, n.aborts, n.restarts) == 0 {
			t.Errorf("seed %d left something out: %+v", seed, n)
		}
	}
}

// randomLife does 60 random things, and checks reads and restored states.
func (j *job) randomLife(rng *rand.Rand) {
	j.t.Helper()
	for range 60 {
		j.write(rng, rng.IntN(1500))
		switch n := rng.IntN(12); {
		case n < 2:
			j.check(rng)
		case n < 6 && len(j.pending) < 2:
			j.trigger(manifest.Periodic)
		case n < 9 && len(j.pending) > 0:
			j.commit()
		case n < 10 && len(j.live) > 0:
			c := j.live[rng.IntN(len(j.live))]
			if err := diff(readBack(j.t, j.objects, testGroups, c.keyed), c.model); err != nil {
				j.t.Fatalf("checkpoint %d: %v", c.id, err)
			}
		case n < 11 && len(j.pending) > 0:
			j.abort(rng.IntN(2) == 0)
		case n == 11 && len(j.live) > 0:
			j.stop() // with captures and a base under way
			j.seen.restarts++
			j.start(j.live[rng.IntN(len(j.live))])
			j.check(rng)
		}
	}
}

// A capture holds what was written before it and nothing of what was written
// after it, while the background is busy with spills and bases.
func TestCaptureIsExact(t *testing.T) {
	opts := testOptions(t)
	opts.Materialize = MaterializePolicy{MaxDeltas: 3}
	j := newJob(t, opts)
	const keys = 2000
	key := func(i int) []byte { return binary.BigEndian.AppendUint16([]byte{0, byte(i % 3), 1, 'n'}, uint16(i)) }
	round := uint64(0)
	for range 8 {
		for range 3 {
			round++
			for i := range keys {
				j.put(key(i), binary.BigEndian.AppendUint64(nil, round))
			}
		}
		j.trigger(manifest.Periodic)
		for i := range keys / 2 { // the next interval begins at once
			j.put(key(i), []byte("later"))
		}
		c := j.commit()
		got := readBack(t, j.objects, testGroups, c.keyed)
		for i := range keys {
			if v := binary.BigEndian.Uint64([]byte(got[string(key(i))])); v != round {
				t.Fatalf("checkpoint %d: key %d is of round %d, want %d", c.id, i, v, round)
			}
		}
	}
}

func TestB46_F96_EmptyState(t *testing.T) {
	j := newJob(t, testOptions(t))
	j.trigger(manifest.Periodic)
	c := j.commit()
	if len(c.keyed.Deltas) != 0 || len(c.keyed.Pieces) != 0 || c.keyed.KeyGroups != testGroups {
		t.Errorf("empty state is reported as %+v", c.keyed)
	}
	if got := readBack(t, j.objects, testGroups, c.keyed); len(got) != 0 {
		t.Errorf("restored empty state has %d keys", len(got))
	}
	j.put([]byte("\x00\x01\x01ak"), []byte{})
	j.trigger(manifest.Periodic)
	c = j.commit()
	if v, ok := readBack(t, j.objects, testGroups, c.keyed)["\x00\x01\x01ak"]; !ok || v != "" {
		t.Errorf("an empty value comes back as %q, %v", v, ok)
	}
}

func TestUnchangedStateUploadsNothing(t *testing.T) {
	j := newJob(t, testOptions(t))
	j.put([]byte("\x00\x01\x01ak"), []byte("v"))
	j.trigger(manifest.Periodic)
	first := j.commit()
	j.trigger(manifest.Periodic)
	c := j.pending[0]
	second := j.commit()
	_, _, stats, _ := c.p.Wait(context.Background())
	if stats.NewObjects != 0 || stats.NewBytes != 0 || stats.ChangedBytes != 0 || stats.FullBytes == 0 {
		t.Errorf("figures of an unchanged state: %+v", stats)
	}
	if len(second.keyed.Deltas) != 1 || second.keyed.Deltas[0] != first.keyed.Deltas[0] {
		t.Errorf("unchanged state is reported as %+v", second.keyed)
	}
}

func TestCaptureFigures(t *testing.T) {
	j := newJob(t, testOptions(t))
	value := make([]byte, 100)
	for i := range 2000 { // more than the overlay's half: several spills
		j.put(binary.BigEndian.AppendUint32([]byte{0, 1, 1, 'n'}, uint32(i)), value)
	}
	c := j.trigger(manifest.Periodic)
	j.commit()
	_, _, stats, _ := c.p.Wait(context.Background())
	if want := int64(2000 * 108); stats.ChangedBytes != want {
		t.Errorf("changed bytes = %d, want %d", stats.ChangedBytes, want)
	}
	var stored int64
	for _, d := range c.keyed.Deltas {
		stored += d.Object.Size
	}
	if len(c.keyed.Deltas) < 2 || stats.NewObjects != int64(len(c.keyed.Deltas)) || stats.NewBytes != stored {
		t.Errorf("new: %d objects, %d bytes; the state has %d deltas of %d bytes",
			stats.NewObjects, stats.NewBytes, len(c.keyed.Deltas), stored)
	}
	if stats.FullBytes != stored || stats.Capture <= 0 || stats.Encode <= 0 || stats.Upload <= 0 {
		t.Errorf("figures: %+v", stats)
	}
}

// The last checkpoint reserves nothing and begins no base any more.
func TestLastCheckpointReservesNothing(t *testing.T) {
	opts := testOptions(t)
	opts.Materialize = MaterializePolicy{MaxDeltas: 1}
	j := newJob(t, opts)
	rng := rand.New(rand.NewPCG(1, 1))
	capture := func(kind manifest.Kind) *Pending {
		j.write(rng, 100)
		p := j.store.Capture(Trigger{ID: j.next, Kind: kind}) // the oldest base stays 0
		j.next++
		if _, _, _, err := p.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		return p
	}
	// As soon as a base takes the place of deltas, these are reserved.
	for len(capture(manifest.Periodic).reserved) == 0 {
	}
	p := capture(manifest.Stop)
	if len(p.reserved) != 0 {
		t.Errorf("last checkpoint reserves %d objects", len(p.reserved))
	}
	if err := diff(readBack(t, j.objects, testGroups, p.keyed), j.model); err != nil {
		t.Error(err)
	}
	j.store.mu.Lock()
	run := j.store.base.run
	j.store.mu.Unlock()
	capture(manifest.Periodic)
	capture(manifest.Periodic) // when it ends, the delta before is ingested
	j.store.mu.Lock()
	defer j.store.mu.Unlock()
	if j.store.base.run != run {
		t.Error("a base was begun after the last checkpoint")
	}
}

// While the background stands still, reads and scans see through several
// frozen overlays, the newest first.
func TestReadsThroughFrozenOverlays(t *testing.T) {
	opts := testOptions(t)
	release := make(chan struct{})
	opts.fs = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(filepath.ToSlash(op.Path), "/deltas/1.sst") {
			<-release
		}
		return nil
	}))
	j := newJob(t, opts)
	t.Cleanup(func() { close(release) }) // before the store is closed
	rng := rand.New(rand.NewPCG(7, 1))
	for range 4 {
		j.write(rng, 60)
		j.trigger(manifest.Periodic)
		j.write(rng, 20)
		j.check(rng)
		for key, want := range j.model {
			if got, ok, err := j.store.Get([]byte(key)); string(got) != want || !ok || err != nil {
				t.Fatalf("get %x = %x, %v, %v; want %x", key, got, ok, err, want)
			}
		}
	}
	if n := len(*j.store.frozen.Load()); n != 4 {
		t.Errorf("%d overlays are frozen, want 4", n)
	}
}

// A panic of the caller in the middle of a scan leaves nothing open: the store
// closes as ever.
func TestScanPanics(t *testing.T) {
	j := newJob(t, testOptions(t))
	for i := range 10 {
		j.put([]byte{0, 0, 1, 'n', byte(i)}, []byte("value"))
	}
	j.trigger(manifest.Periodic)
	j.commit()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		err := j.store.Scan([]byte{0, 0, 1, 'n'}, func(_, _ []byte) bool { panic("user code") })
		t.Errorf("scan: %v", err)
	}()
	if err := j.store.Close(); err != nil {
		t.Error(err)
	}
}

func TestRefusedEntries(t *testing.T) {
	j := newJob(t, testOptions(t))
	s := j.store
	var tooLarge *TooLargeError
	if err := s.Put([]byte("\x00\x01\x01a"), make([]byte, MaxValueBytes+1)); !errors.As(err, &tooLarge) || tooLarge.What != "value" {
		t.Errorf("value over the limit: %v", err)
	}
	long := append([]byte("\x00\x01\x01a"), make([]byte, MaxKeyBytes)...)
	if err := s.Put(long, nil); !errors.As(err, &tooLarge) || tooLarge.What != "key" {
		t.Errorf("key over the limit: %v", err)
	}
	if _, _, err := s.Get([]byte("\x00\x03\x01a")); !errors.Is(err, ErrKeyGroup) {
		t.Errorf("get of another task's key group: %v", err)
	}
	if err := s.Put([]byte("\x00\x03\x01a"), nil); !errors.Is(err, ErrKeyGroup) {
		t.Errorf("put of another task's key group: %v", err)
	}
	if err := s.SetKey(3, nil); !errors.Is(err, ErrKeyGroup) {
		t.Errorf("current key of another task's key group: %v", err)
	}
	if err := s.Scan([]byte("\x00\x03"), nil); !errors.Is(err, ErrKeyGroup) {
		t.Errorf("scan of another task's key group: %v", err)
	}
	if err := s.Put([]byte("\x00"), nil); err == nil {
		t.Error("a key without its key group was taken")
	}
	j.check(rand.New(rand.NewPCG(1, 1))) // nothing was written
}

func TestCaptureOutOfOrder(t *testing.T) {
	j := newJob(t, testOptions(t))
	j.put([]byte("\x00\x01\x01ak"), []byte("v"))
	j.next = 5
	j.trigger(manifest.Periodic)
	old := j.store.Capture(Trigger{ID: 5})
	if _, _, _, err := old.Wait(context.Background()); err == nil {
		t.Error("a second capture of checkpoint 5 succeeded")
	}
	j.commit()
}

func TestClose(t *testing.T) {
	opts := testOptions(t)
	j := newJob(t, opts)
	s := j.store
	j.put([]byte("\x00\x01\x01ak"), []byte("v"))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put([]byte("\x00\x01\x01ak"), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("put after close: %v", err)
	}
	if _, _, err := s.Get([]byte("\x00\x01\x01ak")); !errors.Is(err, ErrClosed) {
		t.Errorf("get after close: %v", err)
	}
	if _, _, _, err := s.Capture(Trigger{ID: 1}).Wait(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("capture after close: %v", err)
	}
	if _, err := os.Stat(s.opts.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("local directory after close: %v", err)
	}
}

func TestOpenRefusesBadOptionsWithAllReasons(t *testing.T) {
	_, err := Open(context.Background(), Options{
		Operator: "a b", Subtask: -1, KeyGroups: manifest.KeyGroupRange{First: 2, Last: 1}, OverlayBytes: 1,
	})
	if err == nil {
		t.Fatal("bad options were taken")
	}
	for _, want := range []string{"operator", "subtask", "key groups", "next id", "object store", "directory", "overlay"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not speak of the %s: %v", want, err)
		}
	}
}

func TestOpenRefusesForeignDirectory(t *testing.T) {
	opts := testOptions(t)
	opts.NextID, opts.Store = 1, objectstore.NewMem()
	if err := os.WriteFile(opts.Dir+"/precious", nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), opts); !errors.Is(err, incremental.ErrDirNotEmpty) {
		t.Errorf("open in a directory with files: %v", err)
	}
	if _, err := os.Stat(opts.Dir + "/precious"); err != nil {
		t.Error(err)
	}
}
