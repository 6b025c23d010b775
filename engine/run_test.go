package engine_test

import (
	"testing"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

func TestRunToTheEnd(t *testing.T) {
	store, out := objectstore.NewMem(), newWorld()
	src := &numbers{splits: 3, records: 500, chunk: 100}
	run(t, counting(src, out, nil), config(t, store, 2))
	out.check(t, 3, 500)

	h := head(t, store)
	newest, ok := h.Newest()
	if !ok || newest.Kind != manifest.Final {
		t.Fatalf("newest checkpoint is %+v, want a final one", newest)
	}
	if newest.ID < 5 {
		t.Errorf("newest id is %d, want a checkpoint for each chunk", newest.ID)
	}
	if len(h.Checkpoints) != 3 {
		t.Errorf("%d checkpoints are listed, want 3", len(h.Checkpoints))
	}
	if len(out.prepared) != 0 {
		t.Errorf("%d transactions are prepared and not committed", len(out.prepared))
	}

	// Started again after the end it commits what is pending, and no more.
	for name, tx := range out.committed {
		if tx.ID == newest.ID {
			out.prepared[name] = tx
			delete(out.committed, name)
		}
	}
	out.prepared["leftover"] = transaction{}
	run(t, counting(src, out, nil), config(t, store, 3))
	out.check(t, 3, 500)
	if again, _ := head(t, store).Newest(); again.ID != newest.ID {
		t.Errorf("another checkpoint was taken after the final one: %d", again.ID)
	}
	if out.aborted != 1 || len(out.prepared) != 0 {
		t.Errorf("%d leftovers were aborted, %d are there, want 1 and none", out.aborted, len(out.prepared))
	}
}

var _ engine.LeftoverAborter = (*worldWriter)(nil)
