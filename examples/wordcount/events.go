package main

import (
	"log/slog"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/examples/wordcount/job"
)

// events logs what happens to the job: a line for each start, and for the
// begin and end of each checkpoint. The engine logs failures.
func events(logger *slog.Logger) engine.Events {
	return engine.Events{
		Started: func(s engine.Started) {
			logger.Info("started", "job", s.Job, "epoch", uint64(s.Epoch), "restored", uint64(s.Restored),
				"parallelism", s.Parallelism, "takeover", s.TakeOver, "restore", s.Restore,
				"local_objects", s.State.LocalObjects, "fetched_objects", s.State.Objects)
		},
		Checkpoints: coordinator.Listener{
			Triggered: func(t coordinator.Trigger) {
				logger.Info("checkpoint triggered", "id", uint64(t.ID), "kind", t.Kind, "base", uint64(t.Base))
			},
			Completed: func(c coordinator.Completed) {
				logger.Info("checkpoint completed", "id", uint64(c.ID), "kind", c.Kind, "t_max", c.Stats.TMax,
					"commit", c.Commit, "new_bytes", c.Stats.NewBytes, "full_bytes", c.Stats.FullBytes)
			},
			Aborted: func(a coordinator.Aborted) {
				logger.Warn("checkpoint aborted", "id", uint64(a.ID), "kind", a.Kind, "age", a.Age, "err", a.Err)
			},
		},
	}
}

// progressInterval is the time between two lines on progress.
const progressInterval = 5 * time.Second

// report logs how far the job has read until done is closed, and then once
// more.
func report(m *job.Meter, done <-chan struct{}, logger *slog.Logger) {
	begin := time.Now()
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	var last int64
	for {
		select {
		case <-ticker.C:
			lines := m.Lines.Load()
			logger.Info("progress", "lines", lines, "lines_per_second", (lines-last)/int64(progressInterval/time.Second))
			last = lines
		case <-done:
			logger.Info("ended", "lines", m.Lines.Load(), "after", time.Since(begin).Round(time.Millisecond))
			return
		}
	}
}
