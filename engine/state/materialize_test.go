package state

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// hookedStore asks hook before each Put, whose error is the outcome.
type hookedStore struct {
	objectstore.Store
	hook func(ctx context.Context, key string) error
}

func (h *hookedStore) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	if err := h.hook(ctx, key); err != nil {
		return objectstore.Info{}, err
	}
	return h.Store.Put(ctx, key, body, opts)
}

// gate holds Puts back while it is closed.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
	held atomic.Int64
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if open {
		close(g.open)
	} else {
		g.open = make(chan struct{})
	}
}

func (g *gate) pass(ctx context.Context, _ string) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	g.held.Add(1)
	defer g.held.Add(-1)
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// While a checkpoint waits for the store no base is begun; it is begun when the
// store has caught up, without any further change. What it says of itself
// agrees with the figures of the checkpoints.
func TestBaseWaitsForCheckpoints(t *testing.T) {
	objects := objectstore.NewMem()
	g := newGate()
	bases := make(chan Materialization, 10)
	opts := testOptions(t)
	opts.Store = &hookedStore{objects, g.pass}
	opts.Materialize = MaterializePolicy{MaxDeltas: 2}
	opts.OnBase = func(m Materialization) { bases <- m }
	j := newJob(t, opts)
	j.objects = objects
	rng := rand.New(rand.NewPCG(5, 1))

	g.set(false)
	for range 3 { // ingesting the third comes after the first two were weighed
		for i := range 100 {
			j.put(binary.BigEndian.AppendUint32([]byte{0, 1, 1, 'n'}, uint32(i)), binary.BigEndian.AppendUint64(nil, rng.Uint64()))
		}
		j.trigger(manifest.Periodic)
	}
	j.store.mu.Lock()
	for len(*j.store.frozen.Load()) > 0 {
		j.store.room.Wait()
	}
	if j.store.base.run != 0 {
		t.Error("a base was begun while deltas were not durable")
	}
	j.store.mu.Unlock()
	g.set(true)
	for range 3 {
		j.commit()
	}
	m := <-bases
	if m.Err != nil || m.Reason != ReasonDeltas || m.Deltas != 3 || m.DeltaBytes == 0 {
		t.Errorf("base: %+v", m)
	}
	c := j.trigger(manifest.Periodic)
	j.commit()
	if _, _, stats, _ := c.p.Wait(t.Context()); stats.BaseBytes != m.Bytes || len(c.keyed.Pieces) != 1 || len(c.keyed.Deltas) != 0 {
		t.Errorf("checkpoint after the base: %+v, base bytes %d, want %d", c.keyed, stats.BaseBytes, m.Bytes)
	}
}

// The upload of a base that meets a checkpoint which is not durable sends its
// tables after that.
func TestBaseUnderWayGivesWay(t *testing.T) {
	objects := objectstore.NewMem()
	g := newGate()
	bases := make(chan Materialization, 1)
	opts := testOptions(t)
	opts.Materialize = MaterializePolicy{MaxDeltas: -1, MaxReads: -1} // none by itself
	opts.OnBase = func(m Materialization) { bases <- m }
	opts.Store = &hookedStore{objects, g.pass}
	j := newJob(t, opts)
	j.objects = objects
	s, rng := j.store, rand.New(rand.NewPCG(5, 3))
	for range 2 {
		j.write(rng, 200)
		j.trigger(manifest.Periodic)
		j.commit()
	}
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	g.set(false)
	j.write(rng, 200)
	j.trigger(manifest.Periodic)
	s.mu.Lock()
	for len(*s.frozen.Load()) > 0 {
		s.room.Wait()
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.base.cancel = cancel
	s.base.run++
	if err := s.ledger.StartBase(s.ingested); err != nil {
		t.Error(err)
	}
	s.mu.Unlock()
	s.sendBase(ctx, 1)
	for waiting := false; !waiting; runtime.Gosched() {
		s.mu.Lock()
		waiting = s.base.waiting
		s.mu.Unlock()
	}
	if n := g.held.Load(); n > 1 {
		t.Errorf("%d uploads are under way, want no more than that of the delta", n)
	}
	g.set(true)
	j.commit()
	if m := <-bases; m.Err != nil || m.Bytes == 0 || m.Waited <= 0 {
		t.Errorf("base: %+v", m)
	}
}

// A base under way sends nothing while deltas are not durable or overlays wait,
// unless it is overdue.
func TestBaseGivesWay(t *testing.T) {
	for _, why := range []string{"unsent", "queue"} {
		synctest.Test(t, func(t *testing.T) {
			s := &Store{}
			s.room = sync.NewCond(&s.mu)
			set := func(busy bool) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.unsent, s.queue = nil, nil
				switch {
				case busy && why == "unsent":
					s.unsent = []*delta{{}}
				case busy:
					s.queue = []*frozen{{}}
				}
				s.room.Broadcast()
			}
			var err error
			passed := false
			ctx, cancel := context.WithCancel(t.Context())
			ask := func() {
				passed = false
				go func() {
					err = s.giveWay(ctx, 1)
					passed = true
				}()
				synctest.Wait()
			}
			if ask(); !passed || err != nil {
				t.Errorf("with nothing to wait for: %v, %v", passed, err)
			}
			set(true)
			if ask(); passed {
				t.Errorf("%s: it did not give way", why)
			}
			set(false)
			if synctest.Wait(); !passed || err != nil {
				t.Errorf("%s: it did not go on: %v, %v", why, passed, err)
			}
			set(true)
			s.base.urgent = true
			if ask(); !passed || err != nil {
				t.Errorf("overdue: %v, %v", passed, err)
			}
			s.base.urgent = false
			ask()
			cancel()
			if synctest.Wait(); !passed || !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v, %v", passed, err)
			}
		})
	}
}

// The last checkpoint of a job cancels a base that hangs in the store, and does
// not wait for it.
func TestLastCheckpointCancelsBase(t *testing.T) {
	for _, kind := range []manifest.Kind{manifest.Final, manifest.Stop} {
		objects := objectstore.NewMem()
		begun := make(chan struct{})
		cancelled := make(chan struct{})
		var once, ended sync.Once
		var s *Store
		opts := testOptions(t)
		opts.Materialize = MaterializePolicy{MaxDeltas: 2}
		opts.OnBase = func(m Materialization) {
			if m.Objects > 0 {
				t.Errorf("base has ended: %+v", m)
			}
		}
		opts.Store = &hookedStore{objects, func(ctx context.Context, key string) error {
			if s == nil || !s.isDelta(key) {
				once.Do(func() { close(begun) })
				<-ctx.Done() // a base has no other way out
				ended.Do(func() { close(cancelled) })
			}
			return ctx.Err()
		}}
		opts.Epoch, opts.NextID, opts.Dir = 1, 1, filepath.Join(t.TempDir(), "s")
		s, err := Open(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		capture := func(id manifest.ID, kind manifest.Kind) *manifest.KeyedState {
			for i := range 300 {
				key := binary.BigEndian.AppendUint16([]byte{0, 1, 1, 'n'}, uint16(i))
				if err := s.Put(key, []byte{byte(id)}); err != nil {
					t.Fatal(err)
				}
				want[string(key)] = string([]byte{byte(id)})
			}
			keyed, _, _, err := s.Capture(Trigger{ID: id, OldestBase: id - 1, Kind: kind}).Wait(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return keyed
		}
		id := manifest.ID(1)
		for ; ; id++ { // until compactions have made something to be sent
			capture(id, manifest.Periodic)
			select {
			case <-begun:
			default:
				continue
			}
			break
		}
		last := capture(id+1, kind)
		if err := diff(readBack(t, objects, testGroups, last), want); err != nil {
			t.Error(err)
		}
		<-cancelled // before Close
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// isDelta reports whether an object is a delta under way.
func (s *Store) isDelta(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.unsent {
		if d.Object.Key == key {
			return true
		}
	}
	return false
}

// While the object store is out of reach (F46) the deltas on the local disk are
// bounded: the writer is held back, and goes on by itself when the store is
// back. Nothing is lost.
func TestUnsentDeltasAreBounded(t *testing.T) {
	const attempts = 200
	objects := objectstore.NewMem()
	opts := testOptions(t)
	opts.MaxUnsentBytes, opts.retryUnsent = 100<<10, 1
	opts.Compression = NoCompression
	var s *Store
	var n, most atomic.Int64
	opts.Store = &hookedStore{objects, func(context.Context, string) error {
		s.mu.Lock()
		var sum int64
		for _, d := range s.unsent {
			sum += d.Object.Size
		}
		s.mu.Unlock()
		most.Store(max(most.Load(), sum))
		if n.Add(1) <= attempts {
			return errors.New("store is out of reach")
		}
		return nil
	}}
	j := &job{t: t, objects: objects, opts: opts, next: 1, model: map[string]string{}}
	t.Cleanup(j.stop)
	j.onStart = func() { s = j.store }
	j.start(nil)
	value := make([]byte, 100)
	for i := range 10_000 { // ten times as much
		j.put(binary.BigEndian.AppendUint32([]byte{0, byte(i % 3), 1, 'n'}, uint32(i)), value)
	}
	if n.Load() <= attempts {
		t.Errorf("the writer was never held back: %d attempts", n.Load())
	}
	if limit := opts.MaxUnsentBytes + 2*opts.OverlayBytes; most.Load() > limit || most.Load() < opts.MaxUnsentBytes {
		t.Errorf("deltas on disk took up to %d bytes, want %d to %d", most.Load(), opts.MaxUnsentBytes, limit)
	}
	j.trigger(manifest.Periodic)
	c := j.commit()
	if err := diff(readBack(t, objects, testGroups, c.keyed), c.model); err != nil {
		t.Error(err)
	}
}

// When the same keys were written again and again, the tables are compacted
// before a base, which then holds each key once.
func TestBaseIsCompactedFirst(t *testing.T) {
	bases := make(chan Materialization, 10)
	opts := testOptions(t)
	opts.OverlayBytes = 1 << 20
	opts.Materialize = MaterializePolicy{MinBytes: 1}
	opts.OnBase = func(m Materialization) { bases <- m }
	j := newJob(t, opts)
	rng := rand.New(rand.NewPCG(5, 2))
	var size int64 // of one delta
	for range 2 {  // Pebble compacts four by itself
		for i := range 1000 {
			value := binary.BigEndian.AppendUint64(nil, rng.Uint64())
			j.put(binary.BigEndian.AppendUint32([]byte{0, byte(i % 3), 1, 'n'}, uint32(i)), value)
		}
		c := j.trigger(manifest.Periodic)
		j.commit()
		_, _, stats, _ := c.p.Wait(t.Context())
		size = stats.NewBytes
	}
	m := <-bases
	if m.Err != nil || m.Reason != ReasonReads || m.Deltas < 2 || m.ReusedBytes != 0 || m.Bytes > size*3/2 {
		t.Errorf("base over deltas of %d bytes: %+v", size, m)
	}
	j.trigger(manifest.Periodic)
	c := j.commit()
	if err := diff(readBack(t, j.objects, testGroups, c.keyed), c.model); err != nil {
		t.Error(err)
	}
}
