package engine_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/internal/fakes3"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore/s3"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// feed is a source that emits the words of a test, and is never exhausted.
type feed struct{ words chan string }

func (f *feed) Splits(context.Context) ([]manifest.Split, error) {
	return []manifest.Split{{ID: "0", Position: []byte("0")}}, nil
}

func (f *feed) Reader(engine.SourceContext) (engine.SourceReader[string], error) {
	return &feedReader{feed: f}, nil
}

type feedReader struct {
	*feed
	splits []manifest.Split
	n      int
}

func (r *feedReader) Restore(_ context.Context, splits []manifest.Split) error {
	r.splits = splits
	return nil
}

func (r *feedReader) Poll(_ context.Context, emit func(string)) error {
	if len(r.splits) == 0 {
		return io.EOF
	}
	for {
		select {
		case w := <-r.words:
			emit(w)
			r.n++
		default:
			return nil
		}
	}
}

func (r *feedReader) Snapshot(manifest.ID) ([]manifest.Split, error) {
	if len(r.splits) == 0 {
		return nil, nil
	}
	return []manifest.Split{{ID: "0", Position: []byte(strconv.Itoa(r.n))}}, nil
}

func (r *feedReader) Committed(manifest.ID) {}
func (r *feedReader) Close() error          { return nil }

// tally counts words.
type tally struct{ count *state.Value[int64] }

func (c *tally) Open(ctx *engine.KeyedContext) (err error) {
	c.count, err = engine.NewValue(ctx, "count", state.Int64)
	return err
}

func (c *tally) Process(_ string, _ string, _ func(int64)) error {
	n, _, err := c.count.Get()
	if err != nil {
		return err
	}
	return c.count.Set(n + 1)
}

// wired is a running job on S3 whose requests are seen twice: as calls of the
// store and on the wire.
type wired struct {
	t         testing.TB
	faulty    *storetest.Faulty
	server    *fakes3.Server
	feed      *feed
	completed chan coordinator.Completed
	ended     chan struct{}
	err       error // of the job, after ended
	stop      func()
}

const tallies = 4 // subtasks that keep state

// start runs a job that keeps all checkpoints. It returns when the sweep at the
// start is over.
func startWired(t testing.TB, change func(*engine.Config)) *wired {
	t.Helper()
	server, err := fakes3.New()
	if err != nil {
		t.Fatal(err)
	}
	store, err := s3.Open(t.Context(), s3.Options{
		Bucket: fakes3.Bucket, Endpoint: "http://s3.invalid", Region: "us-east-1", PathStyle: true, Transport: server,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &wired{
		t: t, faulty: storetest.NewFaulty(store, 1), server: server,
		feed: &feed{make(chan string, 10_000)}, completed: make(chan coordinator.Completed, 10_000), ended: make(chan struct{}),
	}
	swept := make(chan struct{})
	var once sync.Once
	w.faulty.Hook = func(_ context.Context, c storetest.Call) error {
		if c.Op == storetest.List && c.Phase == storetest.After && strings.Contains(c.Key, manifest.ProbePrefix) {
			once.Do(func() { close(swept) })
		}
		return nil
	}
	job := engine.NewJob("count")
	words := engine.From(job, "words", w.feed)
	counts := engine.Process(engine.KeyBy(words, state.String, func(w string) string { return w }), "count",
		func() engine.KeyedFunc[string, string, int64] { return &tally{} })
	engine.To(counts, "out", discard[int64]{})
	stop := make(chan struct{})
	cfg := engine.Config{
		Store: w.faulty, StateDir: t.TempDir(), Parallelism: tallies, SkipProbe: true, Stop: stop,
		Checkpoint:  coordinator.Config{Interval: 5 * time.Millisecond, Keep: 10_000},
		Restart:     engine.NoRestart(),
		Materialize: state.MaterializePolicy{MaxDeltas: -1, MaxReads: -1},
		Events:      engine.Events{Checkpoints: coordinator.Listener{Completed: func(c coordinator.Completed) { w.completed <- c }}},
	}
	if change != nil {
		change(&cfg)
	}
	go func() {
		defer close(w.ended)
		w.err = engine.Run(context.WithoutCancel(t.Context()), job, cfg)
	}()
	w.stop = sync.OnceFunc(func() {
		close(stop)
		if <-w.ended; w.err != nil {
			t.Errorf("job: %v", w.err)
		}
	})
	t.Cleanup(w.stop)
	select {
	case <-swept:
	case <-w.ended:
		t.Fatal("job ended by itself")
	}
	w.await(2)
	return w
}

// await waits until n more checkpoints are complete that were triggered from
// now on, but for the first, and returns their ids.
func (w *wired) await(n int) (ids []manifest.ID) {
	for len(w.completed) > 0 {
		<-w.completed
	}
	for range n {
		select {
		case c := <-w.completed:
			ids = append(ids, c.ID)
		case <-w.ended:
			w.t.Fatal("job ended by itself")
		}
	}
	return ids
}

// write changes the state of every subtask.
func (w *wired) write() {
	for i := range 40 * tallies {
		w.feed.words <- strconv.Itoa(i)
	}
}

// A checkpoint asks the store for nothing and writes what has changed: of each
// task at most two objects, the manifest, and HEAD. What has not changed costs
// nothing.
func TestRequestsOfACheckpoint(t *testing.T) {
	w := startWired(t, nil)
	w.faulty.Forget()
	before := w.server.Requests()
	for range 5 {
		w.write()
		w.await(2)
	}
	last := w.await(2)[0] // nothing was written after its trigger
	idle := w.await(5)
	calls, after := w.faulty.Calls(), w.server.Requests()

	deltas := map[string]int{} // of a task in a checkpoint
	tasks := map[int]bool{}
	for _, c := range calls {
		if c.Op != storetest.Put {
			t.Errorf("a checkpoint called: %s", c)
			continue
		}
		name, err := manifest.ParseDataKey(strings.TrimPrefix(c.Key, "count/"))
		if err != nil {
			continue // a manifest or HEAD
		}
		deltas[fmt.Sprint(name.ID, " of task ", name.Subtask)]++
		tasks[name.Subtask] = true
		if name.ID > last {
			t.Errorf("checkpoint %d wrote %s, though nothing has changed since %d", name.ID, c.Key, last)
		}
	}
	for of, n := range deltas {
		if n > 2 {
			t.Errorf("checkpoint %s: %d objects", of, n)
		}
	}
	if len(tasks) != tallies || len(deltas) < 5*tallies {
		t.Errorf("%d tasks wrote %d deltas, want %d tasks in at least 5 checkpoints", len(tasks), len(deltas), tallies)
	}
	if manifests := count(calls, "manifests/"); manifests < len(idle)+5 || manifests > count(calls, "HEAD")+1 || count(calls, "HEAD") > manifests+1 {
		t.Errorf("%d manifests and %d swaps of HEAD", manifests, count(calls, "HEAD"))
	}
	for kind, n := range after {
		if n -= before[kind]; n > 0 && kind != fakes3.Put {
			t.Errorf("%d requests of kind %q on the wire", n, kind)
		}
	}
	if puts := after[fakes3.Put] - before[fakes3.Put]; puts > len(calls)+1 || puts+1 < len(calls) {
		t.Errorf("%d PUTs on the wire for %d calls", puts, len(calls))
	}
}

// count is how many objects of one kind were written.
func count(calls []storetest.Call, part string) (n int) {
	for _, c := range calls {
		if c.Op == storetest.Put && strings.Contains(c.Key, part) {
			n++
		}
	}
	return n
}

// What commits retire is deleted together, and in the end all of it.
func TestDeletionsAreBatched(t *testing.T) {
	w := startWired(t, func(cfg *engine.Config) { cfg.Checkpoint.Keep = 1 })
	for range 20 {
		w.write()
		w.await(2)
	}
	w.stop()
	calls := w.faulty.Calls()
	deletes, lists := 0, 0
	for _, c := range calls {
		switch c.Op {
		case storetest.Delete:
			deletes++
		case storetest.List:
			lists++
		}
	}
	commits := count(calls, "manifests/") // those that nobody looked at too
	if most := 2 * (commits/16 + 3); deletes > most || lists > 8+most/2 {
		t.Errorf("%d deletions and %d listings after %d commits, want at most %d and %d", deletes, lists, commits, most, 8+most/2)
	}
	h := head(t, w.faulty)
	kept := map[string]bool{}
	for info, err := range w.faulty.List(t.Context(), "count/"+manifest.ManifestsPrefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		kept[info.Key] = true
	}
	if len(h.Checkpoints) != 1 || len(kept) != 1 {
		t.Errorf("%d checkpoints are listed and %d manifests left: %v", len(h.Checkpoints), len(kept), kept)
	}
}

// BenchmarkRequests reports what a checkpoint of 4 stateful tasks costs in
// requests, by kind and on the wire: when all of them changed, with the
// deletion of what it retires, and when none did.
func BenchmarkRequests(b *testing.B) {
	for _, changed := range []bool{true, false} {
		b.Run(fmt.Sprintf("changed=%t", changed), func(b *testing.B) {
			w := startWired(b, func(cfg *engine.Config) { cfg.Checkpoint.Keep = 3 })
			before := w.server.Requests()
			for b.Loop() {
				if changed {
					w.write()
				}
				w.await(1)
			}
			w.stop()
			after := w.server.Requests()
			manifests := float64(count(w.faulty.Calls(), "manifests/")) // also those that nobody awaited
			for kind := range maps.Keys(after) {
				b.ReportMetric(float64(after[kind]-before[kind])/manifests, string(kind)+"/checkpoint")
			}
		})
	}
}
