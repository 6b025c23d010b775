package file_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/file"
)

// The engine drives a source as this does.
func Example() {
	dir, err := os.MkdirTemp("", "lines")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "hamlet.txt"), []byte("to be\r\nor not\nto be"), 0o600); err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	source, err := file.New(dir, file.Options{Passes: 1})
	if err != nil {
		log.Fatal(err)
	}
	splits, err := source.Splits(ctx)
	if err != nil {
		log.Fatal(err)
	}
	reader, err := source.Reader(engine.SourceContext{Parallelism: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	if err := reader.Restore(ctx, splits); err != nil {
		log.Fatal(err)
	}
	for {
		err := reader.Poll(ctx, func(line string) { fmt.Printf("%q\n", line) })
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// "to be"
	// "or not"
	// "to be"
}
