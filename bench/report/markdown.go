package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
)

// readNotes reads what was written by hand about single figures: a section for
// each, headed by its name. No file is no notes.
func readNotes(path string) (map[string]string, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	notes := make(map[string]string)
	for _, section := range strings.Split("\n"+string(raw), "\n## ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		notes[strings.TrimSpace(name)] = strings.TrimSpace(text)
	}
	return notes, nil
}

// markdown is the report as a page.
func markdown(d *figures.Data, computed []figures.Figure, plots []figures.Plot, notes map[string]string) []byte {
	var w bytes.Buffer
	fmt.Fprintf(&w, "# Results\n\n")
	fmt.Fprintf(&w, "Written by `make bench-report` from the raw samples in `samples.json`; do not edit.\n")
	fmt.Fprintf(&w, "What is not met is explained in `notes.md`, with profiles in `profiles/`.\n\n")
	fmt.Fprintf(&w, "* machine: %s\n* commit: %s\n* begun: %s, took %s\n", d.Machine, d.Commit, d.Began.Format("2006-01-02 15:04 MST"), d.Took)
	for _, key := range slices.Sorted(maps.Keys(d.Config)) {
		fmt.Fprintf(&w, "* %s: %s\n", key, d.Config[key])
	}
	for _, s := range d.Skipped {
		fmt.Fprintf(&w, "* skipped: %s: %s\n", s.What, s.Why)
	}
	fmt.Fprintf(&w, "\nValues are medians over the runs; a ratio is ours by the peer's, run by run.\n")
	fmt.Fprintf(&w, "\n## What must hold\n\n| figure | value | bar | holds | runs |\n|---|---|---|---|---|\n")
	for _, f := range computed {
		if f.Bar != nil {
			fmt.Fprintf(&w, "| %s | %s | %s | %s | %d |\n", f.Figure, amount(f), *f.Bar, yes(*f.Holds), f.Runs)
		}
	}
	writeNotes(&w, computed, notes)
	fmt.Fprintf(&w, "\n## Reported\n\n| figure | value | runs |\n|---|---|---|\n")
	for _, f := range computed {
		if f.Bar == nil {
			fmt.Fprintf(&w, "| %s | %s | %d |\n", f.Figure, amount(f), f.Runs)
		}
	}
	fmt.Fprintf(&w, "\n## Curves\n")
	for _, p := range plots {
		fmt.Fprintf(&w, "\n![%s](%s.svg)\n", p.Title, p.Name)
	}
	return w.Bytes()
}

// writeNotes gives each bar that is not met its reason, and says where there
// is none yet.
func writeNotes(w *bytes.Buffer, computed []figures.Figure, notes map[string]string) {
	for _, f := range computed {
		note := notes[f.Figure]
		missed := f.Holds != nil && !*f.Holds
		if note == "" && !missed {
			continue
		}
		fmt.Fprintf(w, "\n### %s\n\n", f.Figure)
		if missed {
			fmt.Fprintf(w, "Not met: %s, the bar is %s.\n", amount(f), *f.Bar)
		}
		if note == "" {
			note = "No reason is known yet."
		}
		fmt.Fprintf(w, "%s\n", note)
	}
}

func amount(f figures.Figure) string {
	s := strconv.FormatFloat(f.Value, 'g', 4, 64)
	if f.Unit == figures.Ratio {
		return s
	}
	return s + " " + f.Unit
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "**no**"
}

// Markers around a generated table in a page that is written by hand.
const (
	tableBegin = "<!-- curve "
	tableEnd   = "<!-- end -->"
)

// fillTables replaces what stands between the markers of a page by the tables
// of the curves they name.
func fillTables(path string, plots []figures.Plot) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	filled, err := fill(string(raw), plots)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(filled), 0o666)
}

func fill(page string, plots []figures.Plot) (string, error) {
	var w strings.Builder
	for {
		before, rest, ok := strings.Cut(page, tableBegin)
		w.WriteString(before)
		if !ok {
			return w.String(), nil
		}
		name, rest, ok := strings.Cut(rest, " -->")
		if !ok {
			return "", errors.New("a marker does not end")
		}
		old, after, ok := strings.Cut(rest, tableEnd)
		if !ok {
			return "", fmt.Errorf("the table of curve %q does not end", name)
		}
		w.WriteString(tableBegin + name + " -->")
		if at := slices.IndexFunc(plots, func(p figures.Plot) bool { return p.Name == name }); at >= 0 {
			w.WriteString("\n" + table(plots[at]))
		} else {
			w.WriteString(old) // it was not measured this time
		}
		w.WriteString(tableEnd)
		page = after
	}
}

// table is a diagram in numbers: a row for each X, a column for each curve.
func table(p figures.Plot) string {
	rows := make(map[float64][]string)
	head, rule := "| "+p.X+" |", "|---|"
	for i, s := range p.Series {
		head, rule = head+" "+s.Name+" |", rule+"---|"
		for _, point := range s.Points {
			if rows[point[0]] == nil {
				rows[point[0]] = make([]string, len(p.Series))
			}
			rows[point[0]][i] = strconv.FormatFloat(point[1], 'g', 3, 64)
		}
	}
	var w strings.Builder
	fmt.Fprintf(&w, "\n![%s](../bench/results/%s.svg)\n\n%s: %s.\n\n%s\n%s\n", p.Title, p.Name, p.Title, p.Y, head, rule)
	for _, x := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintf(&w, "| %g | %s |\n", x, strings.Join(rows[x], " | "))
	}
	w.WriteString("\n")
	return w.String()
}
