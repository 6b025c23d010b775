package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// catalogue is a numbered list of rows and the words that stand before a
// row's number in the name of a test.
type catalogue struct {
	noun  string
	words []string
	text  string // a row a line: number, tab, title
}

// testName identifies a test or subtest.
type testName struct{ pkg, test string }

// results maps each test to the action that ended it: pass, fail or skip.
type results map[testName]string

// readResults reads the events of `go test -json`. Lines that are no events
// (a build's output) are passed over.
func readResults(r io.Reader) (results, error) {
	out := results{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var e struct{ Action, Package, Test string }
		if json.Unmarshal(sc.Bytes(), &e) != nil || e.Test == "" {
			continue
		}
		switch e.Action {
		case "pass", "fail", "skip":
			out[testName{e.Package, e.Test}] = e.Action
		}
	}
	return out, sc.Err()
}

// outcome is a test's own action, except that a test all of whose subtests
// were skipped showed nothing.
func (r results) outcome(n testName) string {
	if r[n] != "pass" {
		return r[n]
	}
	subtests, passed := 0, 0
	for m, action := range r {
		if m.pkg == n.pkg && strings.HasPrefix(m.test, n.test+"/") {
			subtests++
			if action == "pass" {
				passed++
			}
		}
	}
	if subtests > 0 && passed == 0 {
		return "skip"
	}
	return "pass"
}

var wordBreak = regexp.MustCompile(`[^A-Za-z0-9]+`)

// rowsOf returns the rows that a test's last name part carries.
func (c catalogue) rowsOf(test string) []int {
	name := test[strings.LastIndex(test, "/")+1:]
	var rows []int
	for _, token := range wordBreak.Split(strings.TrimPrefix(name, "Test"), -1) {
		for _, w := range c.words {
			digits, ok := strings.CutPrefix(token, w)
			if n, err := strconv.Atoi(digits); ok && err == nil {
				rows = append(rows, n)
			}
		}
	}
	return rows
}

// report prints where each row stands and, last, the count of those covered.
// A row is covered if a test that carries it passed and none failed. It
// returns how many rows have a failed test.
func (c catalogue) report(w io.Writer, r results) (failed int) {
	by := map[int][]testName{}
	for n := range r {
		for _, row := range c.rowsOf(n.test) {
			by[row] = append(by[row], n)
		}
	}
	covered, total := 0, 0
	for line := range strings.Lines(c.text) {
		number, title, _ := strings.Cut(strings.TrimSpace(line), "\t")
		row, err := strconv.Atoi(number)
		if err != nil {
			continue
		}
		total++
		state, where := r.row(by[row])
		switch state {
		case "pass":
			covered++
		case "fail":
			failed++
		}
		fmt.Fprintf(w, "%3d %-5s %s\n", row, state, title)
		for _, t := range where {
			fmt.Fprintf(w, "          %s\n", t)
		}
	}
	fmt.Fprintf(w, "%s covered: %d of %d\n", c.noun, covered, total)
	return failed
}

// row sums up the tests of one row: pass, fail, skip, or "-" if there is none.
func (r results) row(tests []testName) (state string, where []string) {
	state = "-"
	rank := map[string]int{"-": 0, "skip": 1, "pass": 2, "fail": 3}
	for _, n := range tests {
		o := r.outcome(n)
		if rank[o] > rank[state] {
			state = o
		}
		where = append(where, fmt.Sprintf("%s %s.%s", o, n.pkg, n.test))
	}
	sort.Strings(where)
	return state, where
}
