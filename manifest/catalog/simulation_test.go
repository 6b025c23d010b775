package catalog

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

var seeds = flag.Int("seeds", 25, "how many seeds the simulation runs")

// TestF16_F17_F20_F21_Simulation runs owners that take over from each other
// and a command line that unlinks, on a store that loses requests and answers
// and lets writes land late. Whatever they are told must agree with the HEADs
// that were in place.
func TestF16_F17_F20_F21_Simulation(t *testing.T) {
	t.Parallel()
	for seed := range *seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, uint64(seed)) })
		})
	}
}

// told is what a process was told of its commits.
type told struct {
	mu                sync.Mutex
	done, failed, may []Entry
}

func simulate(t *testing.T, seed uint64) {
	w := newWorld()
	w.Faulty = storetest.NewFaulty(w.past, seed,
		storetest.Rule{Chance: 0.1, Do: storetest.Fail(objectstore.ErrUnavailable)},
		storetest.Rule{Op: storetest.Put, Chance: 0.1, Do: storetest.LoseAnswer()},
		storetest.Rule{Op: storetest.Put, Chance: 0.1, Do: storetest.LoseRequest()},
		storetest.Rule{Op: storetest.Put, Chance: 0.1, Do: storetest.LandLater()},
		storetest.Rule{Chance: 0.3, Do: storetest.Delay(50 * time.Millisecond)},
	)
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	var news told
	var wg sync.WaitGroup
	for i := range 3 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() { own(ctx, t, w, rng, &news) })
	}
	wg.Go(func() { // late writes land at any time
		for pause(ctx, 137*time.Millisecond) {
			w.Land(t.Context())
		}
	})
	wg.Go(func() {
		for pause(ctx, 400*time.Millisecond) {
			if h, err := w.catalog().Head(ctx); err == nil && len(h.Checkpoints) > 1 {
				w.catalog().Unlink(ctx, h.Checkpoints[0].ID)
			}
		}
	})
	wg.Wait()
	stop()
	w.Land(t.Context())
	news.judge(t, w)
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// own takes the job over again and again, and commits while it can.
func own(ctx context.Context, t *testing.T, w *world, rng *rand.Rand, news *told) {
	for pause(ctx, time.Duration(rng.IntN(5000))*time.Millisecond) {
		o, err := w.catalog().TakeOver(ctx, TakeOverOptions{})
		if err != nil {
			continue
		}
		id := o.Head().NextID
		for pause(ctx, 200*time.Millisecond) {
			m := checkpoint(o, id, 0)
			if newest, ok := o.Head().Newest(); ok {
				m.Base = newest.ID
			}
			each, cancel := context.WithTimeout(ctx, time.Duration(1+rng.IntN(5_000))*time.Millisecond)
			e, err := o.Commit(each, m, func(h Head) []manifest.ID { return ids(h)[:max(0, len(h.Checkpoints)-3)] })
			cancel()
			news.add(t, m, e, err)
			if errors.Is(err, ErrFenced) {
				break
			}
			id += manifest.ID(1 + rng.IntN(2))
		}
	}
}

func (n *told) add(t *testing.T, m *manifest.Manifest, e Entry, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		n.done = append(n.done, e)
		return
	}
	data, encodeErr := manifest.Encode(m)
	if encodeErr != nil {
		t.Error(encodeErr)
		return
	}
	e = newEntry(m, data)
	if errors.Is(err, ErrFenced) || errors.Is(err, ErrUnresolved) {
		n.may = append(n.may, e)
	} else {
		n.failed = append(n.failed, e)
	}
}

func (n *told) judge(t *testing.T, w *world) {
	for _, e := range n.done {
		if !w.past.listed(e) {
			t.Errorf("checkpoint %d of epoch %d is said to be committed and was never listed", e.ID, e.Epoch)
		}
	}
	for _, e := range n.failed {
		if w.past.listed(e) {
			t.Errorf("checkpoint %d of epoch %d is said to have failed and was listed", e.ID, e.Epoch)
		}
	}
	judgeHeads(t, w.past.all())
	if len(n.done) == 0 {
		t.Error("nothing was committed: the seed shows nothing")
	}
}

// judgeHeads checks each HEAD against the one it replaced.
func judgeHeads(t *testing.T, heads []Head) {
	owners := make(map[manifest.Epoch]string)
	swaps := make(map[string]bool)
	var before Head
	for _, h := range heads {
		if owner, ok := owners[h.Epoch]; ok && owner != h.Owner {
			t.Errorf("epoch %d had two owners", h.Epoch)
		}
		owners[h.Epoch] = h.Owner
		if swaps[h.Swap] {
			t.Errorf("swap %s came back", h.Swap)
		}
		swaps[h.Swap] = true
		if h.Epoch < before.Epoch || h.NextID < before.NextID {
			t.Errorf("epoch %d, next id %d after %d, %d", h.Epoch, h.NextID, before.Epoch, before.NextID)
		}
		for _, e := range h.Checkpoints {
			if was, _ := before.Find(e.ID); !reflect.DeepEqual(was, e) && (e.Epoch != before.Epoch || e.ID < before.NextID) {
				t.Errorf("checkpoint %d of epoch %d was added over epoch %d, next id %d", e.ID, e.Epoch, before.Epoch, before.NextID)
			}
		}
		if newest, ok := before.Newest(); ok && h.NextID == before.NextID {
			if _, ok := h.Find(newest.ID); !ok {
				t.Errorf("the newest checkpoint %d was lost", newest.ID)
			}
		}
		before = h
	}
}
