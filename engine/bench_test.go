package engine_test

import (
	"context"
	"io"
	"strconv"
	"testing"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// words is a source of n words out of a small vocabulary, without end to its
// speed.
type words struct {
	n          int
	vocabulary []string
}

func (w *words) Splits(context.Context) ([]manifest.Split, error) {
	return []manifest.Split{{ID: "0", Position: []byte{}}}, nil
}

func (w *words) Reader(engine.SourceContext) (engine.SourceReader[string], error) {
	return &wordsReader{words: w}, nil
}

type wordsReader struct {
	*words
	split []manifest.Split
	pos   int
}

func (r *wordsReader) Restore(_ context.Context, splits []manifest.Split) error {
	r.split = splits
	return nil
}

func (r *wordsReader) Poll(_ context.Context, emit func(string)) error {
	if len(r.split) == 0 || r.pos == r.n {
		return io.EOF
	}
	for to := min(r.n, r.pos+1000); r.pos < to; r.pos++ {
		emit(r.vocabulary[r.pos%len(r.vocabulary)])
	}
	return nil
}

func (r *wordsReader) Snapshot(manifest.ID) ([]manifest.Split, error) { return r.split, nil }
func (r *wordsReader) Committed(manifest.ID)                          {}
func (r *wordsReader) Close() error                                   { return nil }

type discard[T any] struct{}

func (discard[T]) Writer(engine.SinkContext) (engine.SinkWriter[T], error) { return discard[T]{}, nil }
func (discard[T]) Recover(context.Context, [][]byte) error                 { return nil }
func (discard[T]) Write(T) error                                           { return nil }
func (discard[T]) Prepare(context.Context, manifest.ID) ([][]byte, error)  { return nil, nil }
func (discard[T]) Commit(context.Context, [][]byte) error                  { return nil }
func (discard[T]) Close() error                                            { return nil }

type wordCounter struct{ count *state.Value[int64] }

func (c *wordCounter) Open(ctx *engine.KeyedContext) (err error) {
	c.count, err = engine.NewValue(ctx, "count", state.Int64)
	return err
}

func (c *wordCounter) Process(_ string, _ string, emit func(int64)) error {
	n, _, err := c.count.Get()
	if err != nil {
		return err
	}
	emit(n + 1)
	return c.count.Set(n + 1)
}

// forward passes records on without looking at state.
type forward struct{}

func (forward) Open(*engine.KeyedContext) error { return nil }
func (forward) Process(_ string, _ string, emit func(int64)) error {
	emit(1)
	return nil
}

// BenchmarkRecord is the cost of one record from a source through a keyed
// exchange to a sink, with and without a read-modify-write of state.
func BenchmarkRecord(b *testing.B) {
	vocabulary := make([]string, 10_000)
	for i := range vocabulary {
		vocabulary[i] = "word-" + strconv.Itoa(i)
	}
	for name, f := range map[string]func() engine.KeyedFunc[string, string, int64]{
		"exchange": func() engine.KeyedFunc[string, string, int64] { return forward{} },
		"count":    func() engine.KeyedFunc[string, string, int64] { return &wordCounter{} },
	} {
		for _, p := range []int{1, 2} {
			b.Run(name+"/p="+strconv.Itoa(p), func(b *testing.B) {
				job := engine.NewJob("bench")
				in := engine.From(job, "words", &words{n: b.N, vocabulary: vocabulary})
				keyed := engine.KeyBy(in, state.String, func(w string) string { return w })
				engine.To(engine.Process(keyed, "count", f), "out", discard[int64]{})
				cfg := engine.Config{
					Store: objectstore.NewMem(), StateDir: b.TempDir(), Parallelism: p, SkipProbe: true,
					Checkpoint: coordinator.Config{Interval: coordinator.NoInterval},
				}
				b.ReportAllocs()
				b.ResetTimer()
				if err := engine.Run(b.Context(), job, cfg); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}
