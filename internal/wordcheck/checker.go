package wordcheck

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// checker goes through the lines of all parts in order.
type checker struct {
	opts   Options
	want   map[string]int64
	next   map[string]int64              // one above the highest count seen
	gaps   map[string]map[int64]struct{} // counts below next not seen yet
	report Report
}

func newChecker(want map[string]int64, opts Options) *checker {
	if opts.MaxDifferences == 0 {
		opts.MaxDifferences = 10
	}
	return &checker{
		opts: opts,
		want: want,
		next: make(map[string]int64),
		gaps: make(map[string]map[int64]struct{}),
	}
}

func (c *checker) part(name, content string) {
	c.report.Parts++
	for i := 1; content != ""; i++ {
		line, rest, whole := strings.Cut(content, "\n")
		content = rest
		c.report.Lines++
		where := fmt.Sprintf("%s:%d", name, i)
		word, digits, ok := strings.Cut(line, "\t")
		n, err := strconv.ParseInt(digits, 10, 64)
		if !ok || !whole || err != nil || n < 1 || word == "" {
			c.add(Difference{Kind: Malformed, Word: line, Where: where})
			continue
		}
		c.line(word, n, where)
	}
}

func (c *checker) line(word string, n int64, where string) {
	next := max(c.next[word], 1)
	switch _, gap := c.gaps[word][n]; {
	case n > c.want[word]:
		c.add(Difference{Surplus, word, n, where})
		return // above next it would open a gap that is none
	case n >= next:
		for m := next; m < n; m++ {
			if c.gaps[word] == nil {
				c.gaps[word] = make(map[int64]struct{})
			}
			c.gaps[word][m] = struct{}{}
		}
		c.next[word] = n + 1
	case gap:
		delete(c.gaps[word], n)
		c.add(Difference{OutOfOrder, word, n, where})
	default:
		c.add(Difference{Duplicate, word, n, where})
	}
}

// finish adds what no line held.
func (c *checker) finish() {
	c.report.Words = len(c.next)
	for _, word := range slices.Sorted(maps.Keys(c.want)) {
		for _, n := range slices.Sorted(maps.Keys(c.gaps[word])) {
			c.add(Difference{Kind: Missing, Word: word, Count: n})
		}
		if c.opts.Partial {
			continue
		}
		for n := max(c.next[word], 1); n <= c.want[word]; n++ {
			c.add(Difference{Kind: Missing, Word: word, Count: n})
		}
	}
}

func (c *checker) add(d Difference) {
	c.report.Wrong++
	if len(c.report.Differences) < c.opts.MaxDifferences {
		c.report.Differences = append(c.report.Differences, d)
	}
}
