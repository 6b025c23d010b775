package catalog

import (
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// stale answers the next reads of HEAD with an older one.
type stale struct {
	objectstore.Store
	body  []byte
	info  objectstore.Info
	reads int
}

func (s *stale) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, objectstore.Info, error) {
	if key == manifest.HeadKey && s.reads > 0 {
		s.reads--
		return io.NopCloser(bytes.NewReader(s.body)), s.info, nil
	}
	return s.Store.Get(ctx, key, off, n)
}

// TestF35_StaleHead: who reads an older HEAD cannot put anything in place of the
// newer one: the condition of the swap fails, and it reads again.
func TestF35_StaleHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		first := takeOver(t, w.catalog())
		commit(t, first, 1, 0)
		body, info, err := objectstore.ReadAll(t.Context(), w, manifest.HeadKey, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		commit(t, first, 2, 1)
		for reads := 1; reads <= 3; reads++ {
			old := &stale{Store: w, body: body, info: info, reads: reads}
			var seen []Head
			second, err := New(old, job).TakeOver(t.Context(), TakeOverOptions{
				Check: func(_ context.Context, h Head) error { seen = append(seen, h); return nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(seen[0].Checkpoints) != 1 || old.reads != 0 {
				t.Errorf("HEAD was not stale: %+v, %d reads left", seen[0], old.reads)
			}
			wantIDs(t, second.Head(), 1, 2)
			wantIDs(t, readHead(t, w.catalog()), 1, 2)
			if got := second.Head().NextID; got < 3 {
				t.Errorf("next id is %d after checkpoint 2", got)
			}
		}
	})
}
