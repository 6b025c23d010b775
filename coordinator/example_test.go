package coordinator_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/manifest"
)

// tasks is a job of one task, which reports as soon as it is asked to.
type tasks struct {
	c        *coordinator.Coordinator
	position byte
}

func (t *tasks) Trigger(tr coordinator.Trigger) error {
	t.position += 10
	t.c.Report(coordinator.Report{
		Task: coordinator.TaskID{Operator: "reader", Subtask: 0}, ID: tr.ID, Epoch: tr.Epoch,
		State: manifest.Task{Splits: []manifest.Split{{ID: "file", Position: []byte{t.position}}}},
	})
	return nil
}

func (t *tasks) Completed(id manifest.ID, _ time.Time) { fmt.Println("completed", uint64(id)) }
func (t *tasks) Aborted(id, _ manifest.ID)             { fmt.Println("aborted", uint64(id)) }

// memory commits by printing what it is given.
type memory struct{}

func (memory) Commit(_ context.Context, m *manifest.Manifest) error {
	split := m.Operator("reader").Tasks[0].Splits[0]
	fmt.Printf("commit %d (%s, base %d): %s at %d\n", m.ID, m.Kind, m.Base, split.ID, split.Position)
	return nil
}

func Example() {
	job := coordinator.Job{
		Name: "example", UUID: "f1d0", Epoch: 1, NextID: 1,
		Operators: []manifest.Operator{{UID: "reader", Parallelism: 1}},
	}
	t := &tasks{}
	var err error
	t.c, err = coordinator.New(coordinator.Config{}, job, t, memory{}, coordinator.Listener{})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	go func() {
		if _, err := t.c.Request(ctx, manifest.Periodic); err != nil {
			log.Print(err)
		}
		t.c.SourcesFinished()
	}()
	fmt.Println("run:", t.c.Run(ctx))
	// Output:
	// commit 1 (checkpoint, base 0): file at [10]
	// completed 1
	// commit 2 (final, base 1): file at [20]
	// completed 2
	// run: <nil>
}

// A Machine is driven by events and the time at which they happen.
func ExampleMachine() {
	m, err := coordinator.NewMachine(coordinator.Config{Interval: time.Minute}, coordinator.Job{
		Name: "example", UUID: "f1d0", Epoch: 1, NextID: 1,
		Operators: []manifest.Operator{{UID: "reader", Parallelism: 1}},
	})
	if err != nil {
		log.Fatal(err)
	}
	start := time.Unix(0, 0)
	m.Step(start, coordinator.Start{})

	due, _ := m.Deadline()
	for _, effect := range m.Step(due, coordinator.Tick{}) {
		if t, ok := effect.(coordinator.SendTrigger); ok {
			fmt.Printf("trigger checkpoint %d after %v\n", t.ID, due.Sub(start))
		}
	}
	// Output: trigger checkpoint 1 after 1m0s
}
