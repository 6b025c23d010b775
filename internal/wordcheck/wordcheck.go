// Package wordcheck says whether the output of the word count job is exactly
// once: for every word that occurs n times in the input, the lines
// "word<TAB>count" hold 1..n, each once and in order. How the output came to be
// is left to examples/wordcount; the tests and the demo judge it here.
package wordcheck

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Count counts the words of text as the job does: split on white space.
func Count(text string) map[string]int64 {
	counts := make(map[string]int64)
	for w := range strings.FieldsSeq(text) {
		counts[w]++
	}
	return counts
}

// Times returns counts as they are after reading the same text n times.
func Times(counts map[string]int64, n int64) map[string]int64 {
	out := maps.Clone(counts)
	for w := range out {
		out[w] *= n
	}
	return out
}

// Options change what Check demands.
type Options struct {
	// Partial accepts output that ends early: for every word 1..k with k at
	// most the expected count. It is what the output of a running or killed
	// job must look like at any moment.
	Partial bool
	// MaxDifferences bounds Report.Differences; zero means 10.
	MaxDifferences int
}

// Report is what Check found.
type Report struct {
	Parts   int   // files read
	Lines   int64 // lines in them
	Words   int   // different words in them
	Pending int   // files not committed, which were not read
	// Wrong is the number of all differences, Differences the first of them.
	Wrong       int64
	Differences []Difference
}

// OK reports whether the output is as it must be.
func (r *Report) OK() bool { return r.Wrong == 0 }

// String is a text of one line, and one more for each difference.
func (r *Report) String() string {
	var b strings.Builder
	verdict := "exactly once"
	if !r.OK() {
		verdict = fmt.Sprintf("NOT exactly once, %d differences", r.Wrong)
	}
	fmt.Fprintf(&b, "%d lines of %d words in %d parts: %s", r.Lines, r.Words, r.Parts, verdict)
	for _, d := range r.Differences {
		b.WriteString("\n  " + d.String())
	}
	return b.String()
}

// Kind is a way of not being exactly once.
type Kind string

// The kinds of differences.
const (
	Missing    Kind = "missing"      // a count that no line holds
	Duplicate  Kind = "duplicate"    // a count that an earlier line held
	OutOfOrder Kind = "out of order" // a count that came after a higher one
	Surplus    Kind = "surplus"      // a count above the number of occurrences
	Malformed  Kind = "malformed"    // not a line of the job
)

// Difference is one way in which the output differs from what it must be.
type Difference struct {
	Kind  Kind
	Word  string // or the whole line, if it is malformed
	Count int64
	Where string // part:line; empty for what is missing
}

func (d Difference) String() string {
	s := fmt.Sprintf("%s: %q", d.Kind, d.Word)
	if d.Kind != Malformed {
		s += fmt.Sprintf(" %d", d.Count)
	}
	if d.Where != "" {
		s += " at " + d.Where
	}
	return s
}

// Check reads the parts in the output directory dir, in the order of their
// checkpoints, and compares them with want. A directory that does not exist is
// output without parts. The error is only about reading; what the output says
// is in the Report.
func Check(dir string, want map[string]int64, opts Options) (*Report, error) {
	parts, err := Parts(dir)
	if err != nil {
		return nil, err
	}
	c := newChecker(want, opts)
	for _, p := range parts {
		content, err := os.ReadFile(filepath.Join(dir, p.Name))
		if err != nil {
			return nil, fmt.Errorf("read part: %w", err)
		}
		c.part(p.Name, string(content))
	}
	c.finish()
	pending, err := os.ReadDir(filepath.Join(dir, ".pending"))
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read uncommitted output: %w", err)
	}
	c.report.Pending = len(pending)
	return &c.report, nil
}

// Part is a file of committed output.
type Part struct {
	Name       string
	Subtask    int
	Checkpoint uint64
}

var partName = regexp.MustCompile(`^part-(0|[1-9][0-9]*)-([1-9][0-9]*)$`)

// Parts lists the files of committed output in dir, ordered by checkpoint and
// then by subtask. A word belongs to one subtask at a time, so that in this
// order its lines stand as they were written, at any change of parallelism.
func Parts(dir string) ([]Part, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list output: %w", err)
	}
	var parts []Part
	for _, e := range entries {
		m := partName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		subtask, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, fmt.Errorf("list output: %s: %w", e.Name(), err)
		}
		checkpoint, err := strconv.ParseUint(m[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("list output: %s: %w", e.Name(), err)
		}
		parts = append(parts, Part{e.Name(), subtask, checkpoint})
	}
	slices.SortFunc(parts, func(a, b Part) int {
		return cmp.Or(cmp.Compare(a.Checkpoint, b.Checkpoint), cmp.Compare(a.Subtask, b.Subtask))
	})
	return parts, nil
}
