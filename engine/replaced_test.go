package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// An object that is gone when a restore wants it is damage, unless the job has
// a new owner by then: that one retires checkpoints, and this one was fenced.
func TestObjectGoneDuringRestore(t *testing.T) {
	for _, c := range []struct {
		name     string
		replaced bool
		want     error
	}{
		{"lost", false, manifest.ErrCorrupt},
		{"retired by a successor", true, engine.ErrFenced},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := objectstore.NewMem()
			src := &numbers{splits: 1, records: 400, chunk: 20}
			interrupt(t, counting(src, newWorld(), nil), config(t, mem, 1), 2)

			store := storetest.NewFaulty(mem, 1, storetest.Rule{Op: storetest.Get, Key: "/data/", Nth: 1, Do: storetest.At(storetest.Before,
				func(ctx context.Context, call storetest.Call) error {
					if c.replaced {
						if _, err := catalog.New(objectstore.Prefix(mem, "count"), "count").TakeOver(ctx, catalog.TakeOverOptions{}); err != nil {
							t.Error(err)
						}
					}
					return mem.Delete(ctx, call.Key)
				})})
			cfg := config(t, store, 1)
			cfg.Restart = engine.FixedDelay(1, 0)
			err := engine.Run(t.Context(), counting(src, newWorld(), nil), cfg)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if !c.replaced && errors.Is(err, engine.ErrFenced) {
				t.Errorf("got %v: nobody took the job over", err)
			}
		})
	}
}
