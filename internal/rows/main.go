// Command rows says which numbered rows of a catalogue (the faults to survive,
// the behaviours to meet) have a test that passed. It reads the events of
// `go test -json` from standard input and leaves running the tests to make.
//
//	go test -json ./... | go run ./internal/rows faults
package main

import (
	_ "embed"
	"fmt"
	"io"
	"os"
)

//go:embed faults.txt
var faults string

//go:embed behaviours.txt
var behaviours string

// catalogues are the row lists by the word that names them.
var catalogues = map[string]catalogue{
	"faults":     {noun: "faults", words: []string{"F", "Fault"}, text: faults},
	"behaviours": {noun: "behaviours", words: []string{"B", "Behaviour"}, text: behaviours},
}

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c catalogue
	if len(args) == 1 {
		c = catalogues[args[0]]
	}
	if c.noun == "" {
		fmt.Fprintln(stderr, "usage: go test -json ./... | rows faults|behaviours")
		return 2
	}
	results, err := readResults(stdin)
	if err != nil {
		fmt.Fprintf(stderr, "rows: %v\n", err)
		return 1
	}
	failed := c.report(stdout, results)
	if failed > 0 {
		return 1
	}
	return 0
}
