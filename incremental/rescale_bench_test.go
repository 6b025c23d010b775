package incremental

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// BenchmarkRescale takes 54 MB of state from 2 tasks to 4 to 3, one task after
// the other, with 10 ms a request: until the first read, and until all is local.
func BenchmarkRescale(b *testing.B) {
	mem := objectstore.NewMem()
	states := chunkedParents(b, mem, 2)
	slow := storetest.NewFaulty(mem, 1, storetest.Rule{Op: storetest.Get, Do: storetest.Delay(10 * time.Millisecond)})
	for _, lazy := range []bool{false, true} {
		b.Run(fmt.Sprintf("lazy=%t", lazy), func(b *testing.B) {
			store := &countingStore{Store: slow}
			var local time.Duration
			for b.Loop() {
				from := states
				for _, n := range []int{4, 3} {
					to := make([]manifest.KeyedState, n)
					for i := range to {
						to[i] = Rescale(from, keyGroups(128, n, i))
						local += rescaleOne(b, store, to[i], lazy)
					}
					from = to
				}
			}
			gets, bytes := store.take()
			b.ReportMetric(float64(local.Milliseconds())/float64(b.N), "local-ms")
			b.ReportMetric(float64(gets)/float64(b.N), "gets")
			b.ReportMetric(float64(bytes)/float64(b.N)/1e6, "MB")
		})
	}
}

// rescaleOne restores a state and reads a key, and with the clock stopped makes
// all of it local. It returns how long that was in all.
func rescaleOne(b *testing.B, store objectstore.Store, state manifest.KeyedState, lazy bool) time.Duration {
	began := time.Now()
	disk := NewRecordFS(vfs.NewMem())
	if lazy {
		disk = NewRecordFS(NewRemoteFS(b.Context(), vfs.NewMem(), store))
	}
	_, err := Restore(b.Context(), RestoreOptions{Store: store, State: state, Dir: "/db", FS: disk})
	must(b, err)
	db, err := pebble.Open("/db", PebbleOptions(DBOptions{FS: disk, Scheduler: NewCompactions(1).Compactor(true)}))
	must(b, err)
	_, closer, err := db.Get(fmt.Appendf(groupKey(state.KeyGroups.First), "key-%08d", 0))
	if !errors.Is(err, pebble.ErrNotFound) {
		must(b, errors.Join(err, closer.Close()))
	}
	b.StopTimer()
	if lazy {
		must(b, disk.remote.Hydrate(HydrateOptions{DB: db}))
	}
	took := time.Since(began)
	must(b, db.Close())
	b.StartTimer()
	return took
}
