package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/connector/file"
	"github.com/ckpt-io/ckpt/engine/connector/filesink"
	"github.com/ckpt-io/ckpt/examples/text"
	"github.com/ckpt-io/ckpt/examples/wordcount/job"
	objectfile "github.com/ckpt-io/ckpt/objectstore/file"
)

// passes is how often the text is read: some seconds of work, so that several
// checkpoints of a second fall into it.
const passes = 600

// BenchmarkWordcount measures what checkpoints every second cost the wordcount
// in throughput. Each iteration runs the whole job twice, with and without, in
// turn, so that both meet the same machine; "kept" is the ratio of the two
// throughputs, to be 0.9 or more.
func BenchmarkWordcount(b *testing.B) {
	input := filepath.Join(b.TempDir(), "input.txt")
	if err := os.WriteFile(input, []byte(text.Opticks), 0o666); err != nil {
		b.Fatal(err)
	}
	var without, with time.Duration
	checkpoints, run := 0, 0
	for b.Loop() {
		pair := []func(){
			func() { without += runWordcount(b, input, coordinator.NoInterval, nil) },
			func() { with += runWordcount(b, input, time.Second, &checkpoints) },
		}
		if run%2 == 1 {
			pair[0], pair[1] = pair[1], pair[0]
		}
		run++
		pair[0]()
		pair[1]()
	}
	words := float64(b.N) * passes * float64(wordsInText())
	b.ReportMetric(words/without.Seconds(), "words/s-without")
	b.ReportMetric(words/with.Seconds(), "words/s-with")
	b.ReportMetric(without.Seconds()/with.Seconds(), "kept")
	b.ReportMetric(float64(checkpoints)/float64(b.N), "checkpoints/run")
	b.ReportMetric(0, "ns/op")
}

func wordsInText() int {
	n, in := 0, false
	for _, c := range []byte(text.Opticks) {
		space := c == ' ' || c == '\n' || c == '\r' || c == '\t'
		if !space && !in {
			n++
		}
		in = !space
	}
	return n
}

// runWordcount runs the job from nothing to its end and returns how long its
// records took.
func runWordcount(b *testing.B, input string, interval time.Duration, completed *int) time.Duration {
	b.Helper()
	dir := b.TempDir()
	store, err := objectfile.Open(filepath.Join(dir, "store"), objectfile.Options{Create: true})
	if err != nil {
		b.Fatal(err)
	}
	lines, err := file.New(input, file.Options{Passes: passes})
	if err != nil {
		b.Fatal(err)
	}
	var began time.Time
	graph := job.New("bench", lines, filesink.New(filepath.Join(dir, "out"), job.AppendLine))
	err = engine.Run(b.Context(), graph, engine.Config{
		Store: store, StateDir: filepath.Join(dir, "state"), Parallelism: 2,
		Checkpoint: coordinator.Config{Interval: interval},
		Restart:    engine.NoRestart(),
		Events: engine.Events{
			Started: func(engine.Started) { began = time.Now() },
			Checkpoints: coordinator.Listener{Completed: func(coordinator.Completed) {
				if completed != nil {
					*completed++
				}
			}},
		},
	})
	if err != nil {
		b.Fatal(fmt.Errorf("run wordcount: %w", err))
	}
	took := time.Since(began)
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
	return took
}
