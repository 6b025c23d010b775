package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest"
)

// director runs the worker to the end of its job, killing it on the way.
type director struct {
	app   *app
	flags demoFlags
	place demoPlace

	kills, killsInside, completed int
	open                          map[uint64][]taskTimes // checkpoints triggered and not ended, with the reports so far
}

// taskTimes is what a subtask reported.
type taskTimes struct {
	task  string
	total time.Duration
}

// run starts workers until one reaches the end of the job.
func (d *director) run(ctx context.Context) error {
	for {
		done, err := d.life(ctx)
		if done || err != nil {
			return err
		}
	}
}

// life is one worker's. done says that the job has ended.
func (d *director) life(ctx context.Context) (done bool, err error) {
	exe, err := os.Executable()
	if err != nil {
		return false, exit.Local(fmt.Errorf("find own program: %w", err))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, demoWorkerName, "--dir", d.place.dir,
		"--parallelism", fmt.Sprint(d.flags.parallelism), "--interval", d.flags.interval.String(), "--rate", fmt.Sprint(d.flags.rate))
	var talk bytes.Buffer
	cmd.Stderr = &talk
	events, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return false, exit.Local(fmt.Errorf("start worker: %w", err))
	}
	clear(d.open)
	plan := d.nextKill()
	killed := d.watch(events, plan, func() error { return cmd.Process.Kill() })
	err = cmd.Wait()
	switch {
	case killed && err != nil:
		d.killed(cmd.Process.Pid)
		return false, nil
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	}
	for line := range strings.Lines(talk.String()) {
		d.app.note("worker %d: %s", cmd.Process.Pid, strings.TrimSpace(line))
	}
	return false, workerError{fmt.Errorf("run worker: %w", err), max(cmd.ProcessState.ExitCode(), exit.Failure)}
}

// killPlan says when a worker dies: so many checkpoints after its start, right
// after the next trigger or some time after the last commit.
type killPlan struct {
	after  int // checkpoints; 0: never
	inside bool
	delay  time.Duration
}

func (d *director) nextKill() killPlan {
	if d.kills >= d.flags.kills {
		return killPlan{}
	}
	p := killPlan{after: 1 + rand.IntN(3), inside: rand.IntN(3) > 0}
	if p.inside {
		p.delay = rand.N(8 * time.Millisecond)
	} else {
		p.delay = rand.N(d.flags.interval)
	}
	return p
}

// watch shows a worker's events until its output ends, and kills it as
// planned. It reports whether it did.
func (d *director) watch(events io.Reader, plan killPlan, kill func() error) (killed bool) {
	var timer *time.Timer
	seen := 0
	dec := json.NewDecoder(events)
	for {
		var ev demoEvent
		if dec.Decode(&ev) != nil {
			break // the worker ended, or died in the middle of a line
		}
		d.show(ev)
		if ev.Event == eventCompleted {
			seen++
		}
		due := plan.after > 0 && seen >= plan.after && timer == nil
		if due && (plan.inside && ev.Event == eventTriggered || !plan.inside && ev.Event == eventCompleted) {
			timer = time.AfterFunc(plan.delay, func() { _ = kill() }) // it may have ended by itself
		}
	}
	return timer != nil && !timer.Stop()
}

// killed counts a kill and says when it struck.
func (d *director) killed(pid int) {
	d.kills++
	when := "between two checkpoints"
	for id := range d.open {
		when = fmt.Sprintf("between the trigger of checkpoint %d and its commit", id)
		d.killsInside++
		break
	}
	d.app.note("✗ killed worker %d (%d of %d) %s", pid, d.kills, d.flags.kills, when)
}

// show tells the user of an event as it happens.
func (d *director) show(ev demoEvent) {
	id := uint64(ev.ID)
	switch ev.Event {
	case eventStarted:
		from := "with nothing to go on from"
		if ev.ID != 0 {
			from = fmt.Sprintf("from checkpoint %d, restored in %s", id, durationText(ev.Took))
		}
		d.app.note("▶ worker %d runs %s", ev.PID, from)
	case eventTriggered:
		d.open[id] = nil
	case eventReported:
		if _, ok := d.open[id]; ok {
			d.open[id] = append(d.open[id], taskTimes{ev.Task, ev.Took})
		}
	case eventAborted:
		delete(d.open, id)
	case eventCompleted:
		d.completed++
		d.app.note("✓ checkpoint %d%s committed %s after its trigger, %s new; %s",
			id, kindText(ev.Kind), durationText(ev.Took), bytesText(ev.NewBytes), taskText(d.open[id]))
		delete(d.open, id)
	}
}

func kindText(k manifest.Kind) string {
	if k == manifest.Periodic {
		return ""
	}
	return fmt.Sprintf(" (%s)", k)
}

// taskText shows the times of the subtasks that took part in a checkpoint, by
// operator, in milliseconds.
func taskText(tasks []taskTimes) string {
	slices.SortFunc(tasks, func(a, b taskTimes) int { return strings.Compare(a.task, b.task) })
	var b strings.Builder
	last := ""
	for _, t := range tasks {
		operator, _, _ := strings.Cut(t.task, "/")
		sep := " "
		if operator != last {
			sep = ", " + operator + " "
		}
		last = operator
		fmt.Fprintf(&b, "%s%.1f", sep, float64(t.total)/float64(time.Millisecond))
	}
	return "ms by subtask: " + strings.TrimPrefix(b.String(), ", ")
}
