package state

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// A churn is what a task does to its state between two checkpoints.
type churn struct {
	name        string
	keys        int // in the state in the beginning
	checkpoints int
	// round makes the changes of one interval. next is the first key that was
	// never written.
	round func(c *churned)
}

// churned is a state under change.
type churned struct {
	b       *testing.B
	s       *Store
	rng     *rand.Rand
	zipf    *rand.Zipf
	keys    int
	next    int
	live    map[int]bool
	changed map[int]bool
}

func (c *churned) put(i int) {
	if err := c.s.Put(churnKey(i), benchValue(c.rng)); err != nil {
		c.b.Fatal(err)
	}
	c.live[i], c.changed[i] = true, true
}

func (c *churned) delete(i int) {
	if err := c.s.Delete(churnKey(i)); err != nil {
		c.b.Fatal(err)
	}
	delete(c.live, i)
	c.changed[i] = true
}

// churnKey spreads the keys over the key groups and in each of them.
func churnKey(i int) []byte {
	h := uint64(i) * 0x9E3779B97F4A7C15
	k := binary.BigEndian.AppendUint16(nil, uint16(h>>57))
	k = append(k, 1, 'n')
	return binary.BigEndian.AppendUint64(k, h<<7|uint64(i)&127)[:14-2]
}

func uniform(share float64) func(*churned) {
	return func(c *churned) {
		n := int(share * float64(c.keys))
		for len(c.changed) < n {
			c.put(c.rng.IntN(c.keys))
		}
	}
}

func churns() []churn {
	keys := benchKeys()
	return []churn{
		{"uniform-1", keys, 100, uniform(0.01)},
		{"uniform-5", keys, 60, uniform(0.05)},
		{"uniform-5-short", keys, 30, uniform(0.05)},
		{"uniform-20", keys, 30, uniform(0.20)},
		{"zipf", keys, 60, func(c *churned) {
			for range c.keys / 10 {
				c.put(int(c.zipf.Uint64()))
			}
		}},
		{"append", keys / 5, 100, func(c *churned) {
			for range c.keys / 5 {
				c.put(c.next)
				c.next++
			}
		}},
		{"delete", keys, 60, func(c *churned) {
			for range c.keys / 100 {
				c.put(c.next)
				c.next++
			}
			for range c.keys / 40 { // some are gone already
				c.delete(c.rng.IntN(c.next))
			}
		}},
		{"tiny", 2000, 100, uniform(0.05)},
	}
}

// putCounter counts what is uploaded, and keeps nothing.
type putCounter struct {
	objectstore.Store // nil
	puts, bytes       atomic.Int64
}

func (p *putCounter) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	p.puts.Add(1)
	p.bytes.Add(body.Size())
	return objectstore.Info{Key: key, Size: body.Size()}, nil
}

// BenchmarkMaterialize counts the bytes and requests that checkpoints and bases
// cost, and what restores of them would read. Between two checkpoints the
// compactions and the base under way come to an end. All figures but the CPU
// time are exact. See docs/materialization.md.
func BenchmarkMaterialize(b *testing.B) {
	for _, w := range churns() {
		b.Run(w.name, func(b *testing.B) {
			for b.Loop() {
				w.run(b, MaterializePolicy{})
			}
		})
	}
}

// BenchmarkMaterializePolicy shows what the thresholds do to changes of 5 %.
func BenchmarkMaterializePolicy(b *testing.B) {
	w := churn{"uniform-5", benchKeys(), 60, uniform(0.05)}
	for _, policy := range []MaterializePolicy{
		{MaxReads: 1.7}, {MaxReads: 1.9}, {MaxReads: 2.5}, {MaxReads: -1}, {MaxUploads: 0.8},
	} {
		b.Run(fmt.Sprintf("reads=%g/uploads=%g", policy.MaxReads, policy.MaxUploads), func(b *testing.B) {
			for b.Loop() {
				w.run(b, policy)
			}
		})
	}
}

// benchKeys is the number of keys of 12 and values of 200 bytes.
func benchKeys() int {
	if n, err := strconv.Atoi(os.Getenv("CKPT_KEYS")); err == nil {
		return n
	}
	return 250_000
}

func (w churn) run(b *testing.B, policy MaterializePolicy) {
	objects := &putCounter{}
	s, err := Open(context.Background(), Options{
		Operator: "count", KeyGroups: manifest.KeyGroupRange{Last: 127}, Epoch: 1, NextID: 1,
		Store: objects, Dir: filepath.Join(b.TempDir(), "s"), OverlayBytes: 256 << 20,
		Materialize: policy,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	c := &churned{b: b, s: s, rng: rng, keys: w.keys, next: w.keys, live: map[int]bool{}, changed: map[int]bool{}}
	c.zipf = rand.NewZipf(rng, 1.1, 1, uint64(w.keys-1))
	for i := range w.keys {
		c.put(i)
	}
	stored := c.checkpoint(1).stats // how small an entry gets
	firstBase(b, s)
	puts, uploaded, bases := objects.puts.Load(), objects.bytes.Load(), s.base.run
	compacted := s.db.Metrics().Total().TableBytesCompacted
	var changed, deltas int64
	var worstReads, sumReads float64
	var worstDeltas int
	for i := range w.checkpoints {
		w.round(c)
		p := c.checkpoint(manifest.ID(2 + i))
		changed += p.stats.ChangedBytes
		deltas += p.stats.NewBytes
		live := float64(stored.NewBytes) / float64(w.keys) * float64(len(c.live))
		reads := float64(p.stats.FullBytes) / live
		worstReads, sumReads = max(worstReads, reads), sumReads+reads
		worstDeltas = max(worstDeltas, len(p.keyed.Deltas))
	}
	per := func(n int64) float64 { return float64(n) / float64(changed) }
	b.ReportMetric(per(objects.bytes.Load()-uploaded), "uploaded/changed")
	b.ReportMetric(per(deltas), "deltas/changed")
	b.ReportMetric(per(int64(s.db.Metrics().Total().TableBytesCompacted-compacted)), "compacted/changed")
	b.ReportMetric(worstReads, "reads/live")
	b.ReportMetric(sumReads/float64(w.checkpoints), "mean-reads/live")
	b.ReportMetric(float64(worstDeltas), "deltas")
	b.ReportMetric(float64(objects.puts.Load()-puts)/float64(w.checkpoints), "PUTs/ckpt")
	b.ReportMetric(float64(s.base.run-bases), "bases")
}

// checkpoint takes one and waits for everything in the background.
func (c *churned) checkpoint(id manifest.ID) *Pending {
	p := c.s.Capture(Trigger{ID: id, OldestBase: id - 1})
	if _, _, _, err := p.Wait(context.Background()); err != nil {
		c.b.Fatal(err)
	}
	clear(c.changed)
	quiet(c.b, c.s)
	return p
}

// firstBase compacts the state and makes a base of it: what was loaded is not
// part of what is measured.
func firstBase(b *testing.B, s *Store) {
	if err := s.db.Compact(context.Background(), []byte{0}, []byte{255}, false); err != nil {
		b.Fatal(err)
	}
	s.mu.Lock()
	policy := s.opts.Materialize
	s.opts.Materialize = MaterializePolicy{MaxDeltas: 1, MaxUploads: -1}
	s.mu.Unlock()
	s.wakeWorker()
	for ended := false; !ended; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		ended = s.ledger.Chain().Deltas == 0
		s.mu.Unlock()
	}
	s.mu.Lock()
	s.opts.Materialize = policy
	s.mu.Unlock()
}

// quiet waits until nothing goes on in the background.
func quiet(b *testing.B, s *Store) {
	for calm := 0; calm < 3; {
		m := s.db.Metrics()
		s.mu.Lock()
		busy := s.base.cancel != nil || s.base.compacting || s.behind() || len(*s.frozen.Load()) > 0
		s.mu.Unlock()
		if calm++; busy || m.Compact.NumInProgress > 0 {
			calm = 0
		}
		time.Sleep(2 * time.Millisecond)
	}
}
