// Command report makes what stands in bench/results of the raw samples that a
// run of the benchmarks stored there: latest.json, a table, the curves to draw,
// and the tables of docs/tuning.md. It measures nothing and draws nothing.
//
//	go run ./bench/report bench/results [docs/tuning.md]
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 && len(args) != 2 {
		fmt.Fprintln(stderr, "usage: report RESULTS-DIR [TUNING.md]")
		return 2
	}
	if err := report(args[0], args[1:], stdout); err != nil {
		fmt.Fprintln(stderr, "report:", err)
		return 1
	}
	return 0
}

func report(dir string, pages []string, stdout io.Writer) error {
	d, err := figures.Read(filepath.Join(dir, "samples.json"))
	if err != nil {
		return err
	}
	computed, plots := figures.Compute(d), figures.Plots(d)
	notes, err := readNotes(filepath.Join(dir, "notes.md"))
	if err != nil {
		return err
	}
	if err := figures.WriteJSON(filepath.Join(dir, "latest.json"), computed); err != nil {
		return err
	}
	if err := figures.WriteJSON(filepath.Join(dir, "plots.json"), plots); err != nil {
		return err
	}
	table := markdown(d, computed, plots, notes)
	if err := os.WriteFile(filepath.Join(dir, "README.md"), table, 0o666); err != nil {
		return err
	}
	for _, page := range pages {
		if err := fillTables(page, plots); err != nil {
			return err
		}
	}
	held, bars := 0, 0
	for _, f := range computed {
		if f.Holds == nil {
			continue
		}
		bars++
		if *f.Holds {
			held++
		} else {
			fmt.Fprintf(stdout, "does not hold: %s: %g %s, bar %s\n", f.Figure, f.Value, f.Unit, *f.Bar)
		}
	}
	_, err = fmt.Fprintf(stdout, "%d of %d bars hold\n", held, bars)
	return err
}
