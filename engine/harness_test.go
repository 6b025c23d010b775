package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// record is the seq-th record of a split, and counted what became of it.
type record struct {
	Split, Seq int
	Word       string
}

type counted struct {
	record
	Count int64
}

// numbers is a source of splits × records records. At most chunk records of a
// split are read between two completed checkpoints, so that a run of the whole
// input takes several however fast it is.
type numbers struct {
	splits, records, chunk int
	emitted                *atomic.Int64                                 // over all runs
	onSnapshot             func(engine.SourceContext, manifest.ID) error // may fail a snapshot
	onRestore              func(engine.SourceContext) error
	onClose                func(engine.SourceContext) error
}

func (n *numbers) Splits(context.Context) ([]manifest.Split, error) {
	out := make([]manifest.Split, n.splits)
	for i := range out {
		out[i] = manifest.Split{ID: strconv.Itoa(i), Position: []byte("0")}
	}
	return out, nil
}

func (n *numbers) Reader(ctx engine.SourceContext) (engine.SourceReader[record], error) {
	return &numbersReader{numbers: n, ctx: ctx}, nil
}

type numbersReader struct {
	*numbers
	ctx   engine.SourceContext
	ids   []int
	pos   []int
	limit []int
}

func (r *numbersReader) Restore(_ context.Context, splits []manifest.Split) error {
	for _, s := range splits {
		id, err := strconv.Atoi(s.ID)
		if err != nil {
			return err
		}
		pos, err := strconv.Atoi(string(s.Position))
		if err != nil {
			return err
		}
		r.ids, r.pos, r.limit = append(r.ids, id), append(r.pos, pos), append(r.limit, pos+r.chunk)
	}
	if r.onRestore != nil {
		return r.onRestore(r.ctx)
	}
	return nil
}

func (r *numbersReader) Poll(_ context.Context, emit func(record)) error {
	left := false
	for i, id := range r.ids {
		to := min(r.records, r.limit[i], r.pos[i]+20)
		for ; r.pos[i] < to; r.pos[i]++ {
			if r.emitted != nil {
				r.emitted.Add(1)
			}
			emit(record{Split: id, Seq: r.pos[i], Word: "w" + strconv.Itoa((id+r.pos[i]*7)%23)})
		}
		left = left || r.pos[i] < r.records
	}
	if !left {
		return io.EOF
	}
	return nil
}

func (r *numbersReader) Snapshot(id manifest.ID) ([]manifest.Split, error) {
	out := make([]manifest.Split, len(r.ids))
	for i, split := range r.ids {
		out[i] = manifest.Split{ID: strconv.Itoa(split), Position: strconv.AppendInt(nil, int64(r.pos[i]), 10)}
	}
	if r.onSnapshot != nil {
		return out, r.onSnapshot(r.ctx, id)
	}
	return out, nil
}

func (r *numbersReader) Committed(manifest.ID) {
	for i := range r.limit {
		r.limit[i] = r.pos[i] + r.chunk
	}
}

func (r *numbersReader) Close() error {
	if r.onClose != nil {
		return r.onClose(r.ctx)
	}
	return nil
}

// world is where the output of a transactional sink goes. It outlives every
// engine, as a database would.
type world struct {
	mu        sync.Mutex
	prepared  map[string]transaction
	committed map[string]transaction
	aborted   int
}

type transaction struct {
	ID      manifest.ID
	Epoch   manifest.Epoch
	Subtask int
	Records []counted
}

func newWorld() *world {
	return &world{prepared: make(map[string]transaction), committed: make(map[string]transaction)}
}

func (w *world) Writer(ctx engine.SinkContext) (engine.SinkWriter[counted], error) {
	return &worldWriter{world: w, ctx: ctx}, nil
}

type worldWriter struct {
	*world
	ctx engine.SinkContext
	cur []counted
}

func (w *worldWriter) Recover(ctx context.Context, handles [][]byte) error {
	return w.Commit(ctx, handles)
}

func (w *worldWriter) AbortLeftovers(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, tx := range w.prepared {
		if tx.Epoch < w.ctx.Epoch {
			delete(w.prepared, name)
			w.aborted++
		}
	}
	return nil
}

func (w *worldWriter) Write(c counted) error {
	w.cur = append(w.cur, c)
	return nil
}

func (w *worldWriter) Prepare(_ context.Context, id manifest.ID) ([][]byte, error) {
	if len(w.cur) == 0 {
		return nil, nil
	}
	tx := transaction{ID: id, Epoch: w.ctx.Epoch, Subtask: w.ctx.Subtask, Records: w.cur}
	w.cur = nil
	name := fmt.Sprintf("%d-%d-%d", tx.ID, tx.Epoch, tx.Subtask)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.prepared[name] = tx
	handle, err := json.Marshal(name)
	return [][]byte{handle}, err
}

func (w *worldWriter) Commit(_ context.Context, handles [][]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range handles {
		var name string
		if err := json.Unmarshal(h, &name); err != nil {
			return err
		}
		if _, done := w.committed[name]; done {
			continue
		}
		tx, ok := w.prepared[name]
		if !ok {
			return fmt.Errorf("transaction %s was aborted before it was committed", name)
		}
		delete(w.prepared, name)
		w.committed[name] = tx
	}
	return nil
}

func (w *worldWriter) Close() error { return nil }

// output is everything committed, transaction by transaction in the order of
// their checkpoints.
func (w *world) output() []counted {
	w.mu.Lock()
	defer w.mu.Unlock()
	var txs []transaction
	for _, tx := range w.committed {
		txs = append(txs, tx)
	}
	slices.SortFunc(txs, func(a, b transaction) int { return int(a.ID) - int(b.ID) })
	var out []counted
	for _, tx := range txs {
		out = append(out, tx.Records...)
	}
	return out
}

// check fails the test unless the output is what the first n records of each
// split make: each record once, each word counted 1 to its number in order, and
// the records of one split and word in order.
func (w *world) check(t *testing.T, splits, n int) {
	t.Helper()
	type key struct {
		split int
		word  string
	}
	seen := make(map[record]int)
	counts := make(map[string]int64)
	last := make(map[key]int)
	for _, c := range w.output() {
		seen[c.record]++
		if counts[c.Word]++; c.Count != counts[c.Word] {
			t.Fatalf("word %s was counted %d after %d", c.Word, c.Count, counts[c.Word]-1)
		}
		k := key{c.Split, c.Word}
		if before, ok := last[k]; ok && before >= c.Seq {
			t.Fatalf("record %+v came after number %d of its split", c.record, before)
		}
		last[k] = c.Seq
	}
	for split := range splits {
		for seq := range n {
			r := record{Split: split, Seq: seq, Word: "w" + strconv.Itoa((split+seq*7)%23)}
			if seen[r] != 1 {
				t.Fatalf("record %+v came %d times, want once", r, seen[r])
			}
		}
	}
	if len(seen) != splits*n {
		t.Fatalf("%d records came out, want %d", len(seen), splits*n)
	}
}

// counter counts the records of each word.
type counter struct{ count *state.Value[int64] }

func newCounter() engine.KeyedFunc[string, record, counted] { return &counter{} }

func (c *counter) Open(ctx *engine.KeyedContext) (err error) {
	c.count, err = engine.NewValue(ctx, "count", state.Int64)
	return err
}

func (c *counter) Process(_ string, in record, emit func(counted)) error {
	n, _, err := c.count.Get()
	if err != nil {
		return err
	}
	if err := c.count.Set(n + 1); err != nil {
		return err
	}
	emit(counted{record: in, Count: n + 1})
	return nil
}

func word(r record) string { return r.Word }

// counting is the graph most tests run: source → map → count by word → sink.
func counting(src engine.Source[record], sink engine.Sink[counted], f func(record) (record, error), opts ...engine.JobOption) *engine.Job {
	if f == nil {
		f = func(r record) (record, error) { return r, nil }
	}
	job := engine.NewJob("count", opts...)
	records := engine.Map(engine.From(job, "numbers", src), "map", f)
	counts := engine.Process(engine.KeyBy(records, state.String, word), "count", newCounter)
	engine.To(counts, "out", sink)
	return job
}

// config is fast: a checkpoint every few milliseconds, restarts at once.
func config(t *testing.T, store objectstore.Store, parallelism int) engine.Config {
	return engine.Config{
		Store: store, StateDir: t.TempDir(), Parallelism: parallelism,
		Checkpoint: coordinator.Config{Interval: 2 * time.Millisecond, Timeout: 10 * time.Second},
		Restart:    engine.FixedDelay(100, time.Millisecond),
		SkipProbe:  true,
	}
}

func head(t *testing.T, store objectstore.Store) catalog.Head {
	t.Helper()
	h, err := catalog.New(objectstore.Prefix(store, "count"), "count").Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// run runs a job that must end well within a minute.
func run(t *testing.T, job *engine.Job, cfg engine.Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := engine.Run(ctx, job, cfg); err != nil {
		t.Fatal(err)
	}
}
