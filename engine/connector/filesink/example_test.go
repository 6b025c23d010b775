package filesink_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/filesink"
)

// The engine drives a sink as this does.
func Example() {
	dir, err := os.MkdirTemp("", "out")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	ctx := context.Background()
	sink := filesink.New(dir, func(dst []byte, n int) []byte { return fmt.Appendln(dst, n) })
	w, err := sink.Writer(engine.SinkContext{Epoch: 1, Subtask: 0, Parallelism: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	if err := w.Recover(ctx, nil); err != nil {
		log.Fatal(err)
	}
	for n := range 3 {
		if err := w.Write(n); err != nil {
			log.Fatal(err)
		}
	}
	handles, err := w.Prepare(ctx, 12) // at the barrier
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Commit(ctx, handles); err != nil { // when checkpoint 12 is committed
		log.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "part-0-12"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(content))
	// Output:
	// 0
	// 1
	// 2
}
