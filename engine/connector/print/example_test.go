package print_test

import (
	"fmt"
	"log"
	"os"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/print"
)

func Example() {
	sink := print.New(os.Stdout, func(dst []byte, word string) []byte {
		return fmt.Appendf(dst, "saw %q\n", word)
	})
	w, err := sink.Writer(engine.SinkContext{Parallelism: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	if err := w.Write("hello"); err != nil {
		log.Fatal(err)
	}
	// Output:
	// saw "hello"
}
