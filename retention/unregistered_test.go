package retention_test

import (
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/retention"
)

// TestB35_UnregisteredAndRegistered: what an attempt uploaded that was never
// committed goes whole; of a committed checkpoint that is retired only what no
// other one keeps goes.
func TestB35_UnregisteredAndRegistered(t *testing.T) {
	w := newWorld(t)
	shared, private := w.upload(1), w.upload(1)
	w.commit(1, objects(shared, private))
	// Checkpoint 2 is aborted after its manifest was written.
	attempt := w.upload(2)
	orphan := w.put(manifest.ManifestKey(2, w.owner.Epoch()))
	own := w.upload(3)
	e3, _ := w.commit(3, objects(shared, own), 1)

	plan, err := retention.NewPlan(t.Context(), w.cat, w.store)
	if err != nil {
		t.Fatal(err)
	}
	reasons := make(map[string]retention.Reason)
	for _, it := range plan.Deletes {
		reasons[it.Key] = it.Reason
	}
	for key, want := range map[string]retention.Reason{
		attempt.Key: retention.Unused, orphan.Key: retention.Unlisted, private.Key: retention.Unused,
	} {
		if reasons[key] != want {
			t.Errorf("%s goes for reason %q, want %q", key, reasons[key], want)
		}
	}
	if _, err := retention.Apply(t.Context(), w.cat, w.store, plan, retention.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	w.wantStored(e3, shared, own)
}
