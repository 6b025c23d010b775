package engine

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// Checkpoints that are held back because deletions lag go on when the store
// deletes again. Nothing is committed meanwhile that would say so.
func TestHeldCheckpointsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var allowed atomic.Bool
		store := storetest.NewFaulty(objectstore.NewMem(), 1, storetest.Rule{Op: storetest.Delete, Do: storetest.At(storetest.Before,
			func(context.Context, storetest.Call) error {
				if allowed.Load() {
					return nil
				}
				return objectstore.ErrPermission
			})})
		cat := catalog.New(store, "count")
		owner, err := cat.TakeOver(t.Context(), catalog.TakeOverOptions{})
		if err != nil {
			t.Fatal(err)
		}
		holds := make(chan bool, 10)
		c := newCommitter(&runner{store: store, catalog: cat, keep: 1, cfg: Config{Logger: slog.New(slog.DiscardHandler)}}, &ownership{owner: owner})
		c.limit, c.hold = 0, func(on bool) { holds <- on }
		for id := range manifest.ID(2) {
			err := c.Commit(t.Context(), &manifest.Manifest{
				Job: "count", ID: id + 1, Epoch: owner.Epoch(), Kind: manifest.Periodic, Time: time.Now(),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		go c.collect(ctx)
		if !<-holds {
			t.Error("checkpoints are not held back while a deletion waits")
		}
		allowed.Store(true)
		select {
		case on := <-holds:
			if on {
				t.Error("still held back after the deletion")
			}
		case <-time.After(time.Hour):
			t.Error("held back for ever")
		}
		cancel(errors.New("end of the test"))
	})
}
