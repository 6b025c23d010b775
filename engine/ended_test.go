package engine_test

import (
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// wantKept fails unless every listed checkpoint has its manifest and objects.
func wantKept(t *testing.T, store objectstore.Store, atLeast int) {
	t.Helper()
	h := head(t, store)
	if len(h.Checkpoints) < atLeast {
		t.Errorf("%d checkpoints are listed, want %d or more", len(h.Checkpoints), atLeast)
	}
	part := objectstore.Prefix(store, "count")
	cat := catalog.New(part, "count")
	for _, e := range h.Checkpoints {
		m, err := cat.Manifest(t.Context(), e)
		if err != nil {
			t.Errorf("checkpoint %d: %v", e.ID, err)
			continue
		}
		for o := range m.Objects() {
			if _, err := part.Stat(t.Context(), o.Key); err != nil && !o.Unfinished() {
				t.Errorf("checkpoint %d: %v", e.ID, err)
			}
		}
	}
}

// A job that ended keeps the checkpoints that its policy keeps, whole; so does one
// that was merely suspended. Afterwards it commits nothing.
func TestB33_ShutdownKeepsCheckpoints(t *testing.T) {
	src := &numbers{splits: 2, records: 400, chunk: 10}
	t.Run("suspended", func(t *testing.T) {
		store := objectstore.NewMem()
		cfg := config(t, store, 2)
		cfg.Checkpoint.Keep = 2
		interrupt(t, counting(src, newWorld(), nil), cfg, 4)
		wantKept(t, store, 2)
	})
	t.Run("ended", func(t *testing.T) {
		store := objectstore.NewMem()
		cfg := config(t, store, 2)
		cfg.Checkpoint.Keep = 2
		run(t, counting(src, newWorld(), nil), cfg)
		wantKept(t, store, 2)
		if n := len(head(t, store).Checkpoints); n != 2 {
			t.Errorf("%d checkpoints are listed, want 2", n)
		}
		if e, _ := head(t, store).Newest(); e.Kind != manifest.Final {
			t.Errorf("the newest is of kind %q, want final", e.Kind)
		}
	})
	t.Run("taken over", func(t *testing.T) {
		// Nothing of a run that ended, hard or well, commits any more.
		store, out := objectstore.NewMem(), newWorld()
		interrupt(t, counting(src, out, nil), config(t, store, 1), 1)
		before := head(t, store)
		run(t, counting(src, out, nil), config(t, store, 1))
		for _, e := range head(t, store).Checkpoints {
			if e.Epoch == before.Epoch && e.ID >= before.NextID {
				t.Errorf("checkpoint %d was committed by epoch %d after its end", e.ID, e.Epoch)
			}
		}
	})
}
