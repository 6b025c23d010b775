package engine_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// total adds up what it has seen of each word.
type total struct{ seen *state.Value[int64] }

func (f *total) Open(ctx *engine.KeyedContext) (err error) {
	f.seen, err = engine.NewValue(ctx, "seen", state.Int64)
	return err
}

func (f *total) Process(word, _ string, emit func(string)) error {
	n, _, err := f.seen.Get()
	if err != nil {
		return err
	}
	emit(fmt.Sprintf("%s %d", word, n+1))
	return f.seen.Set(n + 1)
}

// printer is a sink that shows its output when it is committed.
type printer struct {
	discard[string]
	lines []string
}

func (p *printer) Writer(engine.SinkContext) (engine.SinkWriter[string], error) { return p, nil }

func (p *printer) Write(line string) error {
	p.lines = append(p.lines, line)
	return nil
}

func (p *printer) Prepare(context.Context, manifest.ID) ([][]byte, error) {
	handle := strings.Join(p.lines, "\n")
	p.lines = nil
	return [][]byte{[]byte(handle)}, nil
}

func (p *printer) Commit(_ context.Context, handles [][]byte) error {
	for _, h := range handles {
		fmt.Println(string(h))
	}
	return nil
}

// Counting words: the output appears with the checkpoint that covers it.
func Example() {
	job := engine.NewJob("example")
	words := engine.From(job, "words", &words{n: 5, vocabulary: []string{"to", "be", "or"}})
	byWord := engine.KeyBy(words, state.String, func(w string) string { return w })
	totals := engine.Process(byWord, "total", func() engine.KeyedFunc[string, string, string] { return &total{} })
	engine.To(totals, "print", &printer{})

	if err := engine.Run(context.Background(), job, engine.Config{Store: objectstore.NewMem()}); err != nil {
		log.Fatal(err)
	}
	// Output:
	// to 1
	// be 1
	// or 1
	// to 2
	// be 2
}
