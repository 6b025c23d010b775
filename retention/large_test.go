package retention_test

import (
	"context"
	"iter"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/retention"
)

// crowded is a store with n more data objects, which are made up as they are
// listed and take no memory.
type crowded struct {
	objectstore.Store
	n    int
	each func() // called for each of them as it is listed
}

func (s crowded) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	if prefix != manifest.DataPrefix {
		return s.Store.List(ctx, prefix, after)
	}
	return func(yield func(objectstore.Info, error) bool) {
		for i := range s.n {
			s.each()
			name := manifest.DataName{ID: 1, Epoch: 1, Operator: "count", Subtask: i % 100, N: uint64(i), Ext: manifest.ExtSST}
			if !yield(objectstore.Info{Key: name.Key(), Size: 1}, nil) {
				return
			}
		}
	}
}

func (s crowded) Delete(ctx context.Context, keys ...string) error {
	if len(keys) > 0 && strings.HasPrefix(keys[0], manifest.DataPrefix) {
		return nil
	}
	return s.Store.Delete(ctx, keys...)
}

// TestF38_ManyObjects plans and applies the deletion of a million objects, all
// of them garbage (a tenth of that unless CKPT_HEAVY=1), at less than 300 bytes
// each at any time: a million stays below 300 MB.
func TestF38_ManyObjects(t *testing.T) {
	n := 100_000
	if os.Getenv("CKPT_HEAVY") == "1" {
		n = 1_000_000
	}
	w := newWorld(t)
	w.commit(1, nil)
	before, peak, seen := heap(), int64(0), 0
	watch := func() {
		if seen++; seen%(n/10) == 0 {
			peak = max(peak, heap()-before)
		}
	}
	store := crowded{w.mem, n, watch}
	p, err := retention.NewPlan(t.Context(), w.cat, store)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Deletes) != n {
		t.Fatalf("%d deletions, want %d", len(p.Deletes), n)
	}
	res, err := retention.Apply(t.Context(), w.cat, store, p, retention.ApplyOptions{
		Progress: func(retention.Progress) { seen += 999; watch() },
	})
	if err != nil || res.Deleted != n {
		t.Errorf("result %+v, %v", res, err)
	}
	if each := peak / int64(n); each > 300 || each < 50 {
		t.Errorf("at its most it takes %d bytes an object, want 50 to 300", each)
	}
	t.Logf("%d objects, heap grows by %d MB at most", n, peak>>20)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkPlan plans over 100,000 stored objects.
func BenchmarkPlan(b *testing.B) {
	mem := objectstore.NewMem()
	cat := catalog.New(mem, "job")
	if _, err := cat.TakeOver(b.Context(), catalog.TakeOverOptions{}); err != nil {
		b.Fatal(err)
	}
	store := crowded{mem, 100_000, func() {}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := retention.NewPlan(b.Context(), cat, store); err != nil {
			b.Fatal(err)
		}
	}
}
