//go:build unix

package crashtest

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/file"
	"github.com/ckpt-io/ckpt/engine/connector/filesink"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// miniature is the word count on a short text, in small steps: a checkpoint
// is due after every few lines, and now and then a new base.
type miniature struct {
	Input, Output, State string
	Parallelism          int
	Concurrent           int  // checkpoints that may be pending
	NoCopies             bool // all of the state comes from the store

	// at, if not nil, is told of moments that no operation on the store marks:
	// "triggered", "reported" and "completed", and "before" and "after" each
	// "commit" and "recover" of a sink.
	at func(moment string)
}

const (
	miniatureLines = 240
	// linesPerStep is what each source reads between two checkpoints.
	linesPerStep = 24
)

// run runs the job over store, which holds it under jobName.
func (m miniature) run(ctx context.Context, store objectstore.Store, log io.Writer) error {
	if m.at == nil {
		m.at = func(string) {}
	}
	job, err := m.job()
	if err != nil {
		return err
	}
	return engine.Run(ctx, job, engine.Config{
		Store: store, StateDir: m.State, Parallelism: m.Parallelism,
		Checkpoint:  coordinator.Config{Interval: time.Millisecond, MaxConcurrent: m.Concurrent, Keep: 2},
		Materialize: state.MaterializePolicy{MaxDeltas: 3},
		Restart:     engine.NoRestart(), SkipProbe: true,
		LocalRecovery: engine.LocalRecovery{Disabled: m.NoCopies},
		Logger:        slog.New(slog.NewTextHandler(log, nil)),
		Events: engine.Events{Checkpoints: coordinator.Listener{
			Triggered: func(coordinator.Trigger) { m.at("triggered") },
			Reported:  func(coordinator.Reported) { m.at("reported") },
			Completed: func(c coordinator.Completed) {
				_, _ = io.WriteString(log, "completed "+strconv.FormatUint(uint64(c.ID), 10)+"\n")
				m.at("completed")
			},
		}},
	})
}

type wordCount struct {
	word string
	n    int64
}

func (m miniature) job() (*engine.Job, error) {
	text, err := file.New(m.Input, file.Options{SplitBytes: 1 << 10, BatchLines: 8})
	if err != nil {
		return nil, err
	}
	job := engine.NewJob(jobName)
	words := engine.FlatMap(engine.From(job, "lines", stepped{text}), "words", func(line string, emit func(string)) error {
		for word := range strings.FieldsSeq(line) {
			emit(word)
		}
		return nil
	})
	byWord := engine.KeyBy(words, state.String, func(word string) string { return word })
	counts := engine.Process(byWord, "count", func() engine.KeyedFunc[string, string, wordCount] { return new(counter) })
	engine.To(counts, "output", watched{filesink.New(m.Output, appendLine), m.at})
	return job, nil
}

type counter struct{ count *state.Value[int64] }

func (c *counter) Open(ctx *engine.KeyedContext) (err error) {
	c.count, err = engine.NewValue(ctx, "count", state.Int64)
	return err
}

func (c *counter) Process(word, _ string, emit func(wordCount)) error {
	n, _, err := c.count.Get()
	if err != nil {
		return err
	}
	if err := c.count.Set(n + 1); err != nil {
		return err
	}
	emit(wordCount{word, n + 1})
	return nil
}

func appendLine(dst []byte, w wordCount) []byte {
	dst = append(append(dst, w.word...), '\t')
	return append(strconv.AppendInt(dst, w.n, 10), '\n')
}

// stepped is a source that waits for a checkpoint every few lines, so that a
// job takes several however fast it is.
type stepped struct{ engine.Source[string] }

func (s stepped) Reader(sc engine.SourceContext) (engine.SourceReader[string], error) {
	r, err := s.Source.Reader(sc)
	return &steppedReader{SourceReader: r}, err
}

type steppedReader struct {
	engine.SourceReader[string]
	read int // since the last checkpoint
}

func (r *steppedReader) Poll(ctx context.Context, emit func(string)) error {
	if r.read >= linesPerStep {
		return nil
	}
	return r.SourceReader.Poll(ctx, func(line string) {
		r.read++
		emit(line)
	})
}

func (r *steppedReader) Committed(id manifest.ID) {
	r.read = 0
	r.SourceReader.Committed(id)
}

// watched is a sink that tells when it recovers and commits.
type watched struct {
	engine.Sink[wordCount]
	at func(string)
}

func (s watched) Writer(sc engine.SinkContext) (engine.SinkWriter[wordCount], error) {
	w, err := s.Sink.Writer(sc)
	return watchedWriter{w, s.at}, err
}

type watchedWriter struct {
	engine.SinkWriter[wordCount]
	at func(string)
}

func (w watchedWriter) Recover(ctx context.Context, handles [][]byte) error {
	w.at("before recover")
	defer w.at("after recover")
	return w.SinkWriter.Recover(ctx, handles)
}

func (w watchedWriter) Commit(ctx context.Context, handles [][]byte) error {
	w.at("before commit")
	defer w.at("after commit")
	return w.SinkWriter.Commit(ctx, handles)
}

func (w watchedWriter) AbortLeftovers(ctx context.Context) error {
	return w.SinkWriter.(engine.LeftoverAborter).AbortLeftovers(ctx)
}
