package engine

import (
	"github.com/ckpt-io/ckpt/engine/keygroup"
)

// Job is the graph of one job under construction. It is built by one
// goroutine; a Job that is built may be run again and again.
type Job struct {
	name           string
	maxParallelism int // 0: derived
	hasher         keygroup.Hasher
	nodes          []*node // in order of construction, which is topological
}

// JobOption is a rare setting of a Job.
type JobOption func(*Job)

// MaxParallelism sets the number of key groups, which can never be changed
// for a job that has state. Without it, it is derived from the parallelism at
// the first start.
func MaxParallelism(n int) JobOption { return func(j *Job) { j.maxParallelism = n } }

// Hasher sets how keys are hashed to key groups; keygroup.Default without it.
// It can never be changed for a job that has state.
func Hasher(h keygroup.Hasher) JobOption { return func(j *Job) { j.hasher = h } }

// NewJob begins a graph. The name also names the job in the store.
func NewJob(name string, opts ...JobOption) *Job {
	j := &Job{name: name}
	for _, o := range opts {
		o(j)
	}
	if j.hasher == nil {
		j.hasher = keygroup.Default
	}
	return j
}

// Name is the job's name.
func (j *Job) Name() string { return j.name }

// OperatorOption is a rare setting of an operator.
type OperatorOption func(*node)

// Parallelism sets the number of an operator's subtasks; without it the
// Config's is used.
func Parallelism(n int) OperatorOption { return func(nd *node) { nd.parallelism = n } }

// NoChain makes an operator begin a task of its own instead of running in
// that of the operator before it.
func NoChain() OperatorOption { return func(nd *node) { nd.noChain = true } }
