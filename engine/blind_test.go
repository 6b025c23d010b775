package engine_test

import (
	"context"
	"iter"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
)

// blind is a store whose listings show nothing of what was written.
type blind struct{ objectstore.Store }

func (blind) List(context.Context, string, string) iter.Seq2[objectstore.Info, error] {
	return func(func(objectstore.Info, error) bool) {}
}

// A job is restored, goes on and retires checkpoints by what manifests name: it
// needs nothing that a listing should show.
func TestF37_ListingsShowNothing(t *testing.T) {
	mem, out := objectstore.NewMem(), newWorld()
	src := &numbers{splits: 2, records: 400, chunk: 20}
	stop := make(chan struct{})
	close(stop)
	for range 3 { // lives that end after a checkpoint or a few
		cfg := config(t, blind{mem}, 2)
		cfg.Stop = stop
		run(t, counting(src, out, nil), cfg)
	}
	cfg := config(t, blind{mem}, 2)
	run(t, counting(src, out, nil), cfg)
	out.check(t, 2, 400)
	wantKept(t, mem, 3)
}
