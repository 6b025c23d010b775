package wordcheck_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/ckpt-io/ckpt/internal/wordcheck"
)

func Example() {
	dir, err := os.MkdirTemp("", "wordcheck")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "part-0-1"), []byte("be\t1\nto\t1\nto\t2\nto\t2\n"), 0o600); err != nil {
		log.Fatal(err)
	}
	report, err := wordcheck.Check(dir, wordcheck.Count("to be to"), wordcheck.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report)
	// Output:
	// 4 lines of 2 words in 1 parts: NOT exactly once, 1 differences
	//   duplicate: "to" 2 at part-0-1:4
}
