package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

func newFaultyJob(t *testing.T, rules ...storetest.Rule) (*job, *storetest.Faulty) {
	j := newJob(t, testOptions(t))
	j.stop()
	faulty := storetest.NewFaulty(j.objects, 1, rules...)
	j.opts.Store = faulty
	j.start(nil)
	return j, faulty
}

// A store that refuses uploads fails the checkpoints that need them with its
// reason, and nothing else: the task goes on, and the next checkpoint has what
// the failed ones had.
func TestF42_RefusedUploadFailsTheCheckpointOnly(t *testing.T) {
	j, faulty := newFaultyJob(t, storetest.Rule{Op: storetest.Put, Do: storetest.Fail(objectstore.ErrPermission)})
	rng := rand.New(rand.NewPCG(42, 1))
	for range 3 {
		j.write(rng, 300)
		c := j.trigger(manifest.Periodic)
		if _, _, _, err := c.p.Wait(context.Background()); !errors.Is(err, fs.ErrPermission) {
			t.Fatalf("checkpoint %d: %v", c.id, err)
		}
		j.abort(true)
		j.check(rng)
	}
	faulty.ClearRules()
	j.write(rng, 300)
	// An upload that was refused before may be heard of only now.
	for {
		c := j.trigger(manifest.Periodic)
		if _, _, _, err := c.p.Wait(context.Background()); !errors.Is(err, fs.ErrPermission) {
			break
		}
		j.abort(true)
	}
	c := j.commit()
	if len(c.keyed.Deltas) != 4 {
		t.Errorf("checkpoint names %d deltas, want those of all four intervals", len(c.keyed.Deltas))
	}
	if err := diff(readBack(t, j.objects, testGroups, c.keyed), c.model); err != nil {
		t.Error(err)
	}
}

// A delta that cannot be uploaded fails every capture that needs it, not only
// the one that made it.
func TestFailedUploadFailsLaterCapturesToo(t *testing.T) {
	j, faulty := newFaultyJob(t)
	begun, release := make(chan struct{}), make(chan struct{})
	faulty.Add(storetest.Rule{Op: storetest.Put, Nth: 1, Do: storetest.At(storetest.Before, func(context.Context, storetest.Call) error {
		close(begun)
		<-release
		return objectstore.ErrUnavailable
	})})
	j.put([]byte("\x00\x01\x01ak"), []byte("v"))
	first := j.trigger(manifest.Periodic)
	<-begun // or the second delta's upload could be the one that fails
	j.put([]byte("\x00\x01\x01al"), []byte("w"))
	second := j.trigger(manifest.Periodic)
	close(release)
	for _, c := range []*checkpoint{first, second} {
		if _, _, _, err := c.p.Wait(context.Background()); !errors.Is(err, objectstore.ErrUnavailable) {
			t.Errorf("checkpoint %d: %v", c.id, err)
		}
		j.abort(true)
	}
	j.trigger(manifest.Periodic)
	if c := j.commit(); len(c.keyed.Deltas) != 2 {
		t.Errorf("next checkpoint names %d deltas, want 2", len(c.keyed.Deltas))
	}
}

// The answers of uploads are lost: they are settled by reading back, and every
// checkpoint reads back.
func TestLostAnswersOfUploads(t *testing.T) {
	j, _ := newFaultyJob(t, storetest.Rule{Op: storetest.Put, Chance: 0.4, Do: storetest.LoseAnswer()})
	rng := rand.New(rand.NewPCG(30, 1))
	for range 6 {
		j.write(rng, 200)
		j.trigger(manifest.Periodic)
		c := j.commit()
		if err := diff(readBack(t, j.objects, testGroups, c.keyed), c.model); err != nil {
			t.Fatal(err)
		}
	}
}

// What an aborted checkpoint uploaded is named by the next and not sent again.
func TestF69_DeltaOfAnAbortedCheckpointIsNotSentTwice(t *testing.T) {
	j, faulty := newFaultyJob(t)
	j.put([]byte("\x00\x01\x01ak"), []byte("v"))
	c := j.trigger(manifest.Periodic)
	if _, _, _, err := c.p.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	j.abort(true) // reported, but not committed
	j.put([]byte("\x00\x01\x01al"), []byte("w"))
	j.trigger(manifest.Periodic)
	c = j.commit()
	if len(c.keyed.Deltas) != 2 || c.p.stats.NewObjects != 1 {
		t.Errorf("%d deltas, %d of them new; want 2 and 1", len(c.keyed.Deltas), c.p.stats.NewObjects)
	}
	puts := map[string]int{}
	for _, call := range faulty.Calls() {
		if call.Op == storetest.Put {
			puts[call.Key]++
		}
	}
	if len(puts) != 2 {
		t.Errorf("puts: %v, want one of each of two objects", puts)
	}
}

// An abort that comes while the upload is under way ends the capture, and the
// next checkpoint waits for that same upload.
func TestAbortDuringUpload(t *testing.T) {
	j, faulty := newFaultyJob(t)
	begun, release := make(chan struct{}), make(chan struct{})
	faulty.Add(storetest.Rule{Op: storetest.Put, Nth: 1, Do: storetest.At(storetest.Before, func(context.Context, storetest.Call) error {
		close(begun)
		<-release
		return nil
	})})
	j.put([]byte("\x00\x01\x01ak"), []byte("v"))
	c := j.trigger(manifest.Periodic)
	<-begun
	j.abort(true)
	if _, _, _, err := c.p.Wait(context.Background()); !errors.Is(err, ErrAborted) {
		t.Errorf("aborted capture ends with %v", err)
	}
	j.trigger(manifest.Periodic)
	close(release)
	c = j.commit()
	if len(c.keyed.Deltas) != 1 || c.p.stats.NewObjects != 1 {
		t.Errorf("%d deltas, %d objects new, want 1 and 1", len(c.keyed.Deltas), c.p.stats.NewObjects)
	}
}

// Large keys and values, and empty ones, come back equal. Above the limit they
// are refused at once.
func TestF81_LargeAndEmptyEntries(t *testing.T) {
	j := newJob(t, testOptions(t))
	large := make([]byte, MaxValueBytes)
	copy(large[MaxValueBytes/2:], "middle")
	longKey := append([]byte("\x00\x01\x01a"), bytes.Repeat([]byte("k"), 64<<10)...)
	maxKey := append([]byte("\x00\x02\x01a"), bytes.Repeat([]byte("m"), MaxKeyBytes-4)...)
	j.put([]byte("\x00\x01\x01a"), nil) // an empty key of the user's, an empty value
	j.put(longKey, []byte("long"))
	j.put(maxKey, []byte("longest"))
	j.put([]byte("\x00\x01\x01alarge"), large)
	var tooLarge *TooLargeError
	if err := j.store.Put([]byte("\x00\x01\x01a"), append(large, 0)); !errors.As(err, &tooLarge) {
		t.Errorf("value above the limit: %v", err)
	}
	if err := j.store.Put(append(maxKey, 'm'), nil); !errors.As(err, &tooLarge) {
		t.Errorf("key above the limit: %v", err)
	}
	j.trigger(manifest.Periodic)
	c := j.commit()
	if err := diff(readBack(t, j.objects, testGroups, c.keyed), c.model); err != nil {
		t.Error(err.Error()[:100])
	}
}

// The local directory is removed under a running task: it fails, once and for
// all, and goes on elsewhere from the last checkpoint.
func TestF79_DirectoryRemovedUnderTheTask(t *testing.T) {
	var failures atomic.Int64
	opts := testOptions(t)
	opts.OnFailure = func(error) { failures.Add(1) }
	j := newJob(t, opts)
	j.put([]byte("\x00\x01\x01ak"), []byte("v"))
	j.trigger(manifest.Periodic)
	j.commit()
	j.trigger(manifest.Periodic)
	last := j.commit() // without changes: it ends when all before is ingested
	if err := os.RemoveAll(j.store.opts.Dir); err != nil {
		t.Fatal(err)
	}
	j.put([]byte("\x00\x01\x01al"), []byte("lost"))
	c := j.trigger(manifest.Periodic)
	_, _, _, err := c.p.Wait(context.Background())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("checkpoint without a directory: %v", err)
	}
	if putErr := j.store.Put([]byte("\x00\x01\x01am"), nil); putErr == nil || putErr.Error() != err.Error() {
		t.Errorf("put afterwards: %v, want %v", putErr, err)
	}
	if err := j.store.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if n := failures.Load(); n != 1 {
		t.Errorf("OnFailure was called %d times", n)
	}
	j.next++
	j.start(last)
	j.check(rand.New(rand.NewPCG(1, 1)))
}

// A delta whose local file is gone before it is durable can never be: the task
// fails, instead of every checkpoint from then on.
func TestF79_DeltaRemovedBeforeItsUpload(t *testing.T) {
	j, faulty := newFaultyJob(t, storetest.Rule{Op: storetest.Put, Do: storetest.Fail(objectstore.ErrPermission)})
	j.put([]byte("\x00\x01\x01ak"), []byte("v"))
	c := j.trigger(manifest.Periodic)
	if _, _, _, err := c.p.Wait(t.Context()); !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("refused upload: %v", err)
	}
	j.abort(true)
	if err := os.RemoveAll(j.store.deltaDir()); err != nil {
		t.Fatal(err)
	}
	faulty.ClearRules()
	c = j.trigger(manifest.Periodic)
	if _, _, _, err := c.p.Wait(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("checkpoint without its delta: %v", err)
	}
	if err := j.store.Put([]byte("\x00\x01\x01al"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("put afterwards: %v, want the failure", err)
	}
}

// An I/O error of the local disk at any operation never ends the process and
// never spoils a checkpoint: the store fails or goes on, and every checkpoint
// that it reports reads back.
func TestF76_LocalIOErrors(t *testing.T) {
	var ops atomic.Int64
	runWithDiskFault(t, -1, &ops)
	total := ops.Load()
	failed := 0
	for i := range int64(40) {
		if !runWithDiskFault(t, i*total/40+i%7, new(atomic.Int64)) {
			failed++
		}
	}
	if failed == 0 {
		t.Errorf("no fault at any of %d operations was noticed", total)
	}
}

// runWithDiskFault reports whether every call succeeded.
func runWithDiskFault(t *testing.T, at int64, ops *atomic.Int64) bool {
	t.Helper()
	objects := objectstore.NewMem()
	opts := Options{
		Operator: "count", KeyGroups: testGroups, Epoch: 1, NextID: 1, OverlayBytes: minOverlayBytes, Store: objects,
		Dir: filepath.Join(t.TempDir(), "s"), Materialize: MaterializePolicy{MaxDeltas: 2},
		fs: errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(errorfs.Op) error {
			if ops.Add(1)-1 == at {
				return errorfs.ErrInjected
			}
			return nil
		})),
	}
	s, err := Open(context.Background(), opts)
	if err != nil {
		if _, statErr := os.Stat(opts.Dir); !errors.Is(statErr, fs.ErrNotExist) {
			t.Errorf("fault at %d: failed open left its directory: %v", at, statErr)
		}
		return false
	}
	want := map[string]string{}
	rng := rand.New(rand.NewPCG(76, 1))
	for id := manifest.ID(1); id <= 4 && err == nil; id++ {
		for range 600 {
			key, value := randomKey(rng), fmt.Sprint(id, rng.Uint64())
			if err = s.Put(key, []byte(value)); err != nil {
				break
			}
			want[string(key)] = value
		}
		captured := maps.Clone(want)
		keyed, _, _, waitErr := s.Capture(Trigger{ID: id, OldestBase: id - 1}).Wait(context.Background())
		if err = errors.Join(err, waitErr); err == nil {
			if d := diff(readBack(t, objects, testGroups, keyed), captured); d != nil {
				t.Errorf("fault at %d: checkpoint %d: %v", at, id, d)
			}
		}
		if _, _, getErr := s.Get([]byte("\x00\x00\x05count")); err == nil {
			err = getErr
		}
	}
	closeErr := s.Close()
	if at < 0 && errors.Join(err, closeErr) != nil {
		t.Errorf("without a fault: %v, close: %v", err, closeErr)
	}
	return errors.Join(err, closeErr) == nil
}

// The writer is held back when the background falls behind: memory is not.
func TestWriterIsHeldBack(t *testing.T) {
	opts := testOptions(t)
	opts.OverlayBytes = 1 << 20
	j := newJob(t, opts)
	s := j.store
	value := make([]byte, 64)
	var most int64
	for i := range 100_000 {
		key := binary.BigEndian.AppendUint32([]byte{0, byte(i % 3), 1, 'n'}, uint32(i))
		if err := s.Put(key, value); err != nil {
			t.Fatal(err)
		}
		most = max(most, s.active.bytes()+s.frozenBytes.Load()+s.cleanBytes.Load())
	}
	// A chunk or table that has just grown, and the room to sort in.
	if limit := opts.OverlayBytes * 3 / 2; most > limit {
		t.Errorf("written data took %d bytes of memory, want no more than %d", most, limit)
	}
}

func TestCloseLetsTheWriterGo(t *testing.T) {
	j := newJob(t, testOptions(t))
	s := j.store
	s.frozenBytes.Add(s.opts.OverlayBytes) // as if the background never came to an end
	ended := make(chan error)
	go func() { ended <- s.Put([]byte("\x00\x01\x01ak"), []byte("v")) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("put that was held back: %v", err)
	}
}
