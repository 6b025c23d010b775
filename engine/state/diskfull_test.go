package state

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
)

// smallDisk is a file system on which no table can be written while it is full.
func smallDisk(full *atomic.Bool) vfs.FS {
	return errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpFileWrite && strings.Contains(filepath.Base(op.Path), ".sst") {
			return syscall.ENOSPC
		}
		return nil
	}))
}

// F74: a full disk fails the checkpoints that are taken meanwhile, and nothing
// else: the job goes on, and when there is room again the next checkpoint has
// all that the failed ones had.
func TestF74_FullDiskFailsTheCheckpointOnly(t *testing.T) {
	var full atomic.Bool
	opts := testOptions(t)
	opts.fs = smallDisk(&full)
	opts.OnFailure = func(err error) { t.Errorf("the store failed: %v", err) }
	j := newJob(t, opts)
	rng := rand.New(rand.NewPCG(74, 1))
	j.write(rng, 300)
	j.trigger(manifest.Periodic)
	j.commit()
	full.Store(true)
	for range 3 {
		j.write(rng, 100)
		c := j.trigger(manifest.Periodic)
		if _, _, _, err := c.p.Wait(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("checkpoint %d on a full disk: %v", c.id, err)
		}
		j.abort(true)
		j.check(rng)
	}
	full.Store(false)
	j.write(rng, 100)
	c := j.trigger(manifest.Periodic)
	j.commit()
	if n := len(c.keyed.Deltas); n != 5 {
		t.Errorf("the checkpoint names %d deltas, want those of all five intervals", n)
	}
	if err := diff(readBack(t, j.objects, testGroups, c.keyed), c.model); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(j.store.deltaDir(), "*")); err != nil || len(left) != 0 {
		t.Errorf("delta files %q are left (%v)", left, err)
	}
}

// F74: a writer that is held back by a full disk goes on when there is room,
// though no checkpoint comes: its barrier waits behind the writer.
func TestF74_WriterWaitsForRoom(t *testing.T) {
	full := new(atomic.Bool)
	refused := make(chan struct{}, 1)
	opts := testOptions(t)
	disk := smallDisk(full)
	opts.fs = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpFileWrite {
			select {
			case refused <- struct{}{}:
			default:
			}
		}
		return nil
	}))
	opts.KeyGroups.Last = 127
	j := newJob(t, opts)
	full.Store(true)
	done := make(chan error)
	go func() {
		defer close(done)
		for i := range 5000 { // ten times the memory for it
			if err := j.store.Put(counterKey(i), make([]byte, 100)); err != nil {
				done <- err
				return
			}
		}
	}()
	<-refused
	select {
	case err := <-done:
		t.Errorf("the writer ended on a full disk: %v", err)
	default:
	}
	full.Store(false)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Copies that nobody depends on give way to what has to be written.
func TestF74_LocalCopiesGiveWay(t *testing.T) {
	var full atomic.Bool
	opts := testOptions(t)
	var local *incremental.LocalObjects
	opts.fs = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpFileWrite || !full.Load() {
			return nil
		}
		if n, _ := local.Size(); n > 0 && full.CompareAndSwap(true, false) {
			return syscall.ENOSPC
		}
		return nil
	}))
	local = incremental.NewLocalObjects(filepath.Join(t.TempDir(), "objects"), incremental.LocalOptions{})
	if err := local.Retain(slices.Values[[]manifest.Object](nil)); err != nil {
		t.Fatal(err)
	}
	opts.Local = local
	j := newJob(t, opts)
	rng := rand.New(rand.NewPCG(74, 2))
	for i := range 4 {
		full.Store(i == 2)
		j.write(rng, 300)
		j.trigger(manifest.Periodic)
		c := j.commit()
		j.store.Completed(c.id)
		if n, _ := local.Size(); n == 0 {
			t.Errorf("no copies after checkpoint %d", c.id)
		}
		if n, _ := local.Size(); i == 2 && n != 1 {
			t.Errorf("%d copies after a full disk, want that of the newest delta", n)
		}
	}
	j.check(rng)
}
