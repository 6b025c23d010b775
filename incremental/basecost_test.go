package incremental

import (
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// The estimate agrees with what a base then costs: nothing for deltas the store
// has, all of what a compaction wrote, and the whole file of a table of which an
// excise left a part.
func TestCostOfBaseIsWhatItCosts(t *testing.T) {
	fs := NewRecordFS(vfs.NewMem())
	opts := PebbleOptions(DBOptions{FS: fs})
	opts.DisableAutomaticCompactions = true
	db, err := pebble.Open("/db", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l := NewLedger(LedgerOptions{Operator: "count", Epoch: 1, NextID: 1, KeyGroups: manifest.KeyGroupRange{Last: 7}})
	up := Uploader{Store: objectstore.NewMem()}
	find := func(size int64, d manifest.Digest) bool {
		_, ok := l.Find(size, d)
		return ok
	}
	base := func(what string, wantReused, wantNew bool) BaseCost {
		t.Helper()
		cost, err := CostOfBase(db, fs, "/db", find)
		if err != nil {
			t.Fatal(err)
		}
		files, err := CaptureBase(db, fs)
		if err != nil {
			t.Fatal(err)
		}
		defer files.Release()
		if err := l.StartBase(l.Position()); err != nil {
			t.Fatal(err)
		}
		b, stats, err := UploadBase(t.Context(), files, UploadBaseOptions{Uploader: up, Ledger: l, Position: l.Position(), Whole: true, Parallel: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.FinishBase(b); err != nil {
			t.Fatal(err)
		}
		if cost.NewBytes != stats.Bytes || cost.NewTables != stats.Objects || cost.Bytes != stats.Bytes+stats.ReusedBytes {
			t.Errorf("%s: estimate %+v, base cost %+v", what, cost, stats)
		}
		if (cost.NewBytes > 0) != wantNew || (stats.ReusedBytes > 0) != wantReused {
			t.Errorf("%s: base cost %+v", what, stats)
		}
		return cost
	}
	delta := func(entries map[string]string) {
		t.Helper()
		f, err := WriteDelta(fs, "/d", sorted(entries))
		if err != nil {
			t.Fatal(err)
		}
		p := l.NextPosition()
		o := manifest.Object{Key: l.DeltaName(p).Key(), Size: f.Size, SHA256: f.SHA256}
		if err := l.AddDelta(manifest.Delta{Position: p, Object: o}); err != nil {
			t.Fatal(err)
		}
		if err := db.Ingest(t.Context(), []string{"/d"}); err != nil {
			t.Fatal(err)
		}
	}
	base("nothing", false, false)
	delta(map[string]string{"a": "1", "b": "1", "c": "1"})
	delta(map[string]string{"a": "2", "c": "2"})
	if c := base("two deltas", true, false); c.L0Tables != 1 || c.Tables != 2 { // the first went to the lowest level
		t.Errorf("two deltas: %+v", c)
	}
	if err := db.Compact(t.Context(), []byte{0}, []byte{255}, false); err != nil {
		t.Fatal(err)
	}
	if c := base("compacted", false, true); c.L0Tables != 0 || c.LiveBytes != c.Bytes {
		t.Errorf("compacted: %+v", c)
	}
	delta(map[string]string{"b": "3"})
	if err := db.Excise(t.Context(), pebble.KeyRange{Start: []byte("b"), End: []byte("bb")}); err != nil {
		t.Fatal(err)
	}
	base("excised", true, false)
}
