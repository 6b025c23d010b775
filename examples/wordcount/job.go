package main

import (
	"golang.org/x/time/rate"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/file"
	"github.com/ckpt-io/ckpt/engine/connector/filesink"
	"github.com/ckpt-io/ckpt/engine/connector/socket"
	"github.com/ckpt-io/ckpt/examples/wordcount/job"
	"github.com/ckpt-io/ckpt/internal/exit"
)

// newJob puts the job together. The meter counts the lines as they are read.
func newJob(c config, m *job.Meter) (*engine.Job, error) {
	source, err := newSource(c, m)
	if err != nil {
		return nil, exit.UsageError{Err: err}
	}
	sink := filesink.New(c.output, job.AppendLine)
	return job.New(c.job, source, sink, engine.MaxParallelism(c.maxParallelism)), nil
}

// maxBatchLines is how many lines a source emits between two chances for a
// checkpoint to begin; fewer when the rate is low.
const maxBatchLines = 1024

func newSource(c config, m *job.Meter) (engine.Source[string], error) {
	batch := maxBatchLines
	if c.rate > 0 {
		batch = int(min(max(c.rate/20, 1), maxBatchLines))
		m.Limiter = rate.NewLimiter(rate.Limit(c.rate), batch)
	}
	var source engine.Source[string]
	var err error
	if c.address != "" {
		source, err = socket.New(c.address, socket.Options{BatchLines: batch})
	} else {
		source, err = file.New(c.input, file.Options{Passes: c.loop, BatchLines: batch})
	}
	if err != nil {
		return nil, err
	}
	return m.Over(source), nil
}
