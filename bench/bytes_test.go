package bench

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
	"github.com/ckpt-io/ckpt/bench/internal/load"
	"github.com/ckpt-io/ckpt/bench/internal/wire"
	"github.com/ckpt-io/ckpt/objectstore"
)

const uploadedCheckpoints = 30

// BenchmarkUploadedBytes counts what 30 checkpoints of one task upload, new
// bases included, when 5 % of its entries change at random before each. The
// classic way to do it incrementally is the peer: it flushes, and uploads the
// tables that are new, whether a flush or a compaction wrote them. Both begin
// with all of the state stored. A task has its share of the run's state.
func BenchmarkUploadedBytes(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		sizeMB := max(1, conf.stateMB/conf.tasks)
		ours := uploadedByUs(b, p, sizeMB, materialize{})
		peer, peerReqs := uploadedByClassic(b, p, sizeMB)
		rec.sample(figures.UploadedBytes, 0, "MB", ours.wire/uploadedCheckpoints, peer/uploadedCheckpoints)
		rec.sample("uploaded bytes by those changed, with materialization", 0, "ratio", ours.wire/ours.changed, 0)
		rec.sample("uploaded bytes by those changed, classic incremental", 0, "ratio", peer/ours.changed, 0)
		rec.sample("bytes read by a restore after 30 checkpoints, by those of a fresh base", 0, "ratio", ours.restore/ours.base, 0)
		for kind, n := range ours.requests {
			rec.sample(fmt.Sprintf("requests a checkpoint of one task, with retention, %s", kind), 0, "requests", float64(n)/uploadedCheckpoints, 0)
		}
		rec.sample("requests a checkpoint of one task, classic incremental", 0, "requests", float64(peerReqs)/uploadedCheckpoints, 0)
	})
	rec.report(b, figures.UploadedBytes, "ratio")
}

// uploaded is what a series of checkpoints sent, in MB.
type uploaded struct {
	wire, changed, restore, base float64
	requests                     map[string]int64
}

func uploadedByUs(b *testing.B, p *place, sizeMB int, policy materialize) (u uploaded) {
	b.Helper()
	keys := load.Keys(int64(sizeMB) * mb)
	prefix := p.clone(b, p.fixture(b, sizeMB, 1))
	j := p.open(b, objectstore.Prefix(p.store, prefix), load.Options{Tasks: 1, Keys: keys, Materialize: policy})
	for _, o := range j.Needed() {
		u.base += float64(o.Size) / mb
	}
	before := p.counts()
	for range uploadedCheckpoints {
		must(b, j.Change(keys*conf.changed/100))
		c, err := j.Checkpoint(b.Context())
		must(b, err)
		must(b, j.Collect(b.Context()))
		u.changed += float64(c.Changed) / mb
	}
	counts := quietCounts(b, p)
	for _, o := range j.Needed() {
		u.restore += float64(o.Size) / mb
	}
	must(b, j.Close())
	p.drop(b, prefix)
	u.wire, u.requests = float64(counts.Sub(before).In)/mb, counts.Sub(before).ByKind()
	return u
}

// quietCounts waits until a base that is still under way is there: it counts.
func quietCounts(b *testing.B, p *place) wire.Counts {
	b.Helper()
	for last := p.counts(); ; {
		time.Sleep(700 * time.Millisecond)
		now := p.counts()
		if now == last {
			return now
		}
		last = now
	}
}

func uploadedByClassic(b *testing.B, p *place, sizeMB int) (sentMB float64, requests int64) {
	b.Helper()
	dir, err := os.MkdirTemp(root, "classic")
	must(b, err)
	own := load.Deal(load.Keys(int64(sizeMB)*mb), 1)[0]
	c := newClassic(b, dir, own)
	raw := p.raw(false)
	checkpoint := func(i int) {
		to := filepath.Join(dir, fmt.Sprintf("checkpoint-%d", i))
		must(b, c.Checkpoint(to))
		_, err := c.Upload(b.Context(), raw, to)
		must(b, err)
		must(b, os.RemoveAll(to))
	}
	checkpoint(0) // all of it
	before := p.counts()
	for i := range uploadedCheckpoints {
		must(b, load.Change(c, own, len(own)*conf.changed/100, rand.New(rand.NewPCG(uint64(i), 1)), load.NewValues(uint64(i)+2)))
		checkpoint(i + 1)
	}
	counts := p.counts().Sub(before)
	must(b, c.Close())
	p.drop(b, raw.Prefix)
	return float64(counts.In) / mb, counts.Total()
}
