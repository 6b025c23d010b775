package coordinator

import (
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// pending is a checkpoint between its trigger and its commit or abort.
type pending struct {
	Trigger
	started  time.Time // as Time, but with the monotonic clock
	expires  time.Time
	complete time.Time      // when the last task reported
	commit   time.Time      // when the commit began
	stats    manifest.Stats // set when the commit began
	tickets  []uint64       // requests to be answered
	// overtaken counts the commits since the trigger, savepoints apart: each
	// moves the base nearer to being retired.
	overtaken int

	missing int                // tasks that have not reported
	parts   [][]*manifest.Task // by operator and subtask; nil: not reported
}

func newPending(t Trigger, job *Job, now time.Time, timeout time.Duration) *pending {
	p := &pending{Trigger: t, started: now, expires: now.Add(timeout)}
	p.parts = make([][]*manifest.Task, len(job.Operators))
	for i := range job.Operators {
		p.parts[i] = make([]*manifest.Task, job.Operators[i].Parallelism)
		p.missing += job.Operators[i].Parallelism
	}
	return p
}

func (p *pending) has(op, subtask int) bool { return p.parts[op][subtask] != nil }

// add takes a report in and reports whether it is the task's first.
func (p *pending) add(op int, r Report, now time.Time) bool {
	if p.has(op, r.Task.Subtask) {
		return false
	}
	part := r.State
	part.Index = r.Task.Subtask
	p.parts[op][r.Task.Subtask] = &part
	if p.missing--; p.missing == 0 {
		p.complete = now
	}
	return true
}

// missingTasks lists the tasks that have not reported, by operator and subtask.
func (p *pending) missingTasks(job *Job) []TaskID {
	var out []TaskID
	for op, parts := range p.parts {
		for i, part := range parts {
			if part == nil {
				out = append(out, TaskID{Operator: job.Operators[op].UID, Subtask: i})
			}
		}
	}
	return out
}

// manifest puts the complete checkpoint together.
func (p *pending) manifest(job *Job) *manifest.Manifest {
	m := &manifest.Manifest{
		Job: job.Name, JobUUID: job.UUID,
		ID: p.ID, Epoch: p.Epoch, Kind: p.Kind, Base: p.Base, Time: p.Time,
		Operators: make([]manifest.Operator, len(job.Operators)),
	}
	for i, op := range job.Operators {
		op.Tasks = make([]manifest.Task, len(p.parts[i]))
		for j, part := range p.parts[i] {
			op.Tasks[j] = *part
		}
		m.Operators[i] = op
	}
	m.Stats = p.stats
	return m
}

// figures adds the tasks' figures up.
func (p *pending) figures() manifest.Stats {
	s := manifest.Stats{Duration: p.complete.Sub(p.started)}
	seen := make(map[string]struct{})
	for _, parts := range p.parts {
		for _, part := range parts {
			s.TMax = max(s.TMax, part.Stats.Total)
			s.NewBytes += part.Stats.NewBytes
			for o := range part.Keyed.NeededObjects() {
				if _, ok := seen[o.Key]; ok {
					continue
				}
				seen[o.Key] = struct{}{}
				s.FullBytes += o.Size
				s.Objects++
			}
		}
	}
	return s
}
