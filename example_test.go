package ckpt_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/file"
	"github.com/ckpt-io/ckpt/engine/connector/filesink"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
)

// counter counts the occurrences of one word at a time.
type counter struct{ count *state.Value[int64] }

func (c *counter) Open(ctx *engine.KeyedContext) (err error) {
	c.count, err = engine.NewValue(ctx, "count", state.Int64)
	return err
}

func (c *counter) Process(word, _ string, emit func(string)) error {
	n, _, err := c.count.Get()
	if err != nil {
		return err
	}
	emit(fmt.Sprintf("%s\t%d", word, n+1))
	return c.count.Set(n + 1)
}

func run(ctx context.Context) error {
	store, _, err := storeurl.Open(ctx, "s3://bucket/checkpoints?region=eu-central-1", true)
	if err != nil {
		return err
	}
	source, err := file.New("/data/text", file.Options{})
	if err != nil {
		return err
	}
	job := engine.NewJob("wordcount")
	lines := engine.From(job, "lines", source)
	words := engine.FlatMap(lines, "words", func(line string, emit func(string)) error {
		for word := range strings.FieldsSeq(line) {
			emit(word)
		}
		return nil
	})
	byWord := engine.KeyBy(words, state.String, func(word string) string { return word })
	counts := engine.Process(byWord, "count", func() engine.KeyedFunc[string, string, string] { return new(counter) })
	engine.To(counts, "output", filesink.New("/data/out", func(dst []byte, line string) []byte {
		return append(append(dst, line...), '\n')
	}))
	return engine.Run(ctx, job, engine.Config{
		Store:       store,
		StateDir:    "/var/lib/wordcount", // disposable
		Parallelism: 4,
		Checkpoint:  coordinator.Config{Interval: 10 * time.Second},
		Stop:        ctx.Done(), // a last checkpoint, then nil
	})
}

// Example names the code that the README shows, so that it compiles.
func Example() {
	_ = run
}

// TestReadmeShowsThisCode: the README's Go code stands above, word for word.
func TestReadmeShowsThisCode(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, found := strings.Cut(string(readme), "```go\n")
	code, _, closed := strings.Cut(code, "```")
	if !found || !closed {
		t.Fatal("README.md has no Go code")
	}
	if !strings.Contains(string(ours), code) {
		t.Error("example_test.go does not hold the Go code of README.md")
	}
}
