package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/file"
	"github.com/ckpt-io/ckpt/engine/connector/filesink"
	"github.com/ckpt-io/ckpt/examples/wordcount/job"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
)

// demoWorkerName is the hidden command that the demo starts and kills.
const demoWorkerName = "demo-worker"

// Events that the worker tells the demo.
const (
	eventStarted   = "started"
	eventTriggered = "triggered"
	eventReported  = "reported"
	eventAborted   = "aborted"
	eventCompleted = "completed"
)

// demoEvent is a line of the worker's output.
type demoEvent struct {
	Event    string        `json:"event"`
	PID      int           `json:"pid,omitempty"`
	ID       manifest.ID   `json:"id"` // of the checkpoint; started: the restored one, or 0
	Kind     manifest.Kind `json:"kind,omitempty"`
	Task     string        `json:"task,omitempty"`
	Took     time.Duration `json:"took_ns,omitempty"`
	NewBytes int64         `json:"new_bytes,omitempty"`
}

func (a *app) demoWorkerCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:    demoWorkerName,
		Short:  "The process that the demo kills",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.demoWorker(cmd.Context(), demoPlace{f.dir}, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "", "the demo's directory")
	flags.IntVar(&f.parallelism, "parallelism", 2, "subtasks of each operator")
	flags.DurationVar(&f.interval, "interval", 400*time.Millisecond, "time between checkpoints")
	flags.Float64Var(&f.rate, "rate", 1000, "lines a second")
	return cmd
}

// demoWorker runs the job from its newest checkpoint to its end.
func (a *app) demoWorker(ctx context.Context, place demoPlace, f demoFlags) error {
	store, _, err := storeurl.Open(ctx, place.storeURL(), true)
	if err != nil {
		return err
	}
	defer closeStore(store)
	batch := min(max(int(f.rate/50), 1), 1024)
	lines, err := file.New(place.input(), file.Options{BatchLines: batch})
	if err != nil {
		return err
	}
	meter := job.Meter{Limiter: rate.NewLimiter(rate.Limit(f.rate), batch)}
	graph := job.New(demoJob, meter.Over(lines), filesink.New(place.output(), job.AppendLine))
	return engine.Run(ctx, graph, engine.Config{
		Store:       store,
		StateDir:    place.state(),
		Parallelism: f.parallelism,
		Checkpoint:  coordinator.Config{Interval: f.interval},
		Restart:     engine.NoRestart(),
		Events:      demoEvents(a.stdout),
	})
}

// demoEvents writes each event as a line of JSON. A demo that went away does
// not hear them.
func demoEvents(w io.Writer) engine.Events {
	var mu sync.Mutex
	enc := json.NewEncoder(w)
	tell := func(ev demoEvent) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(ev)
	}
	return engine.Events{
		Started: func(s engine.Started) {
			tell(demoEvent{Event: eventStarted, PID: os.Getpid(), ID: s.Restored, Took: s.Restore})
		},
		Checkpoints: coordinator.Listener{
			Triggered: func(t coordinator.Trigger) {
				tell(demoEvent{Event: eventTriggered, ID: t.ID, Kind: t.Kind})
			},
			Reported: func(r coordinator.Reported) {
				tell(demoEvent{Event: eventReported, ID: r.ID, Task: fmt.Sprint(r.Task), Took: r.Stats.Total})
			},
			Completed: func(c coordinator.Completed) {
				tell(demoEvent{
					Event: eventCompleted, ID: c.ID, Kind: c.Kind,
					Took: time.Since(c.Triggered), NewBytes: c.Stats.NewBytes,
				})
			},
			Aborted: func(x coordinator.Aborted) {
				tell(demoEvent{Event: eventAborted, ID: x.ID, Kind: x.Kind})
			},
		},
	}
}
