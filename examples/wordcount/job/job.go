// Package job is the graph of the wordcount program: lines → words → counts by
// word → output. The program around it has the flags, the demo another source
// and other flags, and the benchmarks none.
package job

import (
	"strconv"
	"strings"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
)

// Uids of the operators at the edges.
const (
	Lines  = "lines"
	Output = "output"
)

// Count says that a word has occurred N times.
type Count struct {
	Word string
	N    int64
}

// AppendLine appends a line of the output, "word<TAB>count".
func AppendLine(dst []byte, c Count) []byte {
	dst = append(append(dst, c.Word...), '\t')
	return append(strconv.AppendInt(dst, c.N, 10), '\n')
}

// New builds the graph over a source of lines and a sink of counts: for every
// occurrence of a word, its new total.
func New(name string, source engine.Source[string], sink engine.Sink[Count], opts ...engine.JobOption) *engine.Job {
	job := engine.NewJob(name, opts...)
	lines := engine.From(job, Lines, source)
	words := engine.FlatMap(lines, "words", func(line string, emit func(string)) error {
		for word := range strings.FieldsSeq(line) {
			emit(word)
		}
		return nil
	})
	byWord := engine.KeyBy(words, state.String, func(word string) string { return word })
	counts := engine.Process(byWord, "count", func() engine.KeyedFunc[string, string, Count] { return new(counter) })
	engine.To(counts, Output, sink)
	return job
}

// counter counts one word's occurrences.
type counter struct{ count *state.Value[int64] }

func (c *counter) Open(ctx *engine.KeyedContext) (err error) {
	c.count, err = engine.NewValue(ctx, "count", state.Int64)
	return err
}

func (c *counter) Process(word, _ string, emit func(Count)) error {
	n, _, err := c.count.Get()
	if err != nil {
		return err
	}
	n++
	if err := c.count.Set(n); err != nil {
		return err
	}
	emit(Count{word, n})
	return nil
}
