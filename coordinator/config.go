package coordinator

import (
	"errors"
	"fmt"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// Values of Config fields that the zero value cannot say.
const (
	// NoInterval is a Config.Interval: checkpoints are taken only on request.
	NoInterval time.Duration = -1
	// TolerateNone is a Config.Tolerable: the first counted failure ends the run.
	TolerateNone = -1
)

// Config says how often checkpoints are taken and what is borne when they fail.
// The zero value of a field means its default.
type Config struct {
	// Interval is the time from one periodic trigger to the next; default 10 s,
	// any negative value means NoInterval. A longer MinPause takes its place.
	Interval time.Duration
	// Timeout aborts a checkpoint that is not handed to the Committer this long
	// after its trigger; default 10 min.
	Timeout time.Duration
	// MinPause is the least time between the completion of a checkpoint and the
	// next periodic trigger; default 0. Requests do not wait for it.
	MinPause time.Duration
	// MaxConcurrent bounds the pending checkpoints; default 1. Savepoints and
	// the last checkpoint of a run may exceed it, up to Keep.
	MaxConcurrent int
	// Tolerable is the number of consecutive counted failures that are borne;
	// one more ends the run with a *FailureError. Default 3; any negative value
	// means TolerateNone.
	Tolerable int
	// Keep is how many checkpoints retention keeps; default 3, or MaxConcurrent
	// if that is larger. Fewer than MaxConcurrent are refused: the base of a
	// pending checkpoint could be deleted.
	Keep int
}

// WithDefaults returns c with every zero field set, or all the reasons why c is
// refused.
func (c Config) WithDefaults() (Config, error) {
	setDefault(&c.Interval, 10*time.Second)
	setDefault(&c.Timeout, 10*time.Minute)
	setDefault(&c.MaxConcurrent, 1)
	setDefault(&c.Tolerable, 3)
	setDefault(&c.Keep, max(3, c.MaxConcurrent))

	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(c.Timeout < 0, "timeout %v: want more than 0", c.Timeout)
	refuse(c.MinPause < 0, "min pause %v: want 0 or more", c.MinPause)
	refuse(c.MaxConcurrent < 0, "max concurrent %d: want 1 or more", c.MaxConcurrent)
	refuse(c.Keep < 0, "keep %d: want 1 or more", c.Keep)
	refuse(c.Keep >= 0 && c.Keep < c.MaxConcurrent,
		"keep %d: want at least max concurrent, %d, or the base of a pending checkpoint could be deleted",
		c.Keep, c.MaxConcurrent)
	if len(errs) > 0 {
		return Config{}, fmt.Errorf("check checkpoint config: %w", errors.Join(errs...))
	}

	c.Tolerable = max(c.Tolerable, 0)
	if c.Interval > 0 {
		c.Interval = max(c.Interval, c.MinPause)
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Job is what a coordinator must know of the job it serves.
type Job struct {
	Name  string
	UUID  string
	Epoch manifest.Epoch
	// NextID is the id of the first checkpoint this owner triggers, from HEAD.
	NextID manifest.ID
	// Restored is the checkpoint the tasks were restored from, 0 if none. It is
	// the base of checkpoints until one is committed.
	Restored manifest.ID
	// Operators are copied into each manifest: UID, Parallelism, MaxParallelism
	// and Hasher. Every subtask of each reports.
	Operators []manifest.Operator
}

// check returns all the reasons why j is refused, or nil.
func (j Job) check() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(!manifest.ValidJob(j.Name), "name %q is not a job's name", j.Name)
	refuse(j.NextID == 0 || j.NextID > manifest.MaxID, "next id %d: want 1 to %d", j.NextID, manifest.MaxID)
	refuse(j.Restored >= max(j.NextID, 1), "restored checkpoint %d: want less than the next id, %d", j.Restored, j.NextID)
	refuse(len(j.Operators) == 0, "no operators: nothing would report")
	seen := make(map[string]bool)
	for _, op := range j.Operators {
		refuse(!manifest.ValidUID(op.UID), "operator %q: not an operator uid", op.UID)
		refuse(seen[op.UID], "operator %q: uid used twice", op.UID)
		refuse(op.Parallelism < 1, "operator %q: parallelism %d: want 1 or more", op.UID, op.Parallelism)
		seen[op.UID] = true
	}
	if len(errs) > 0 {
		return fmt.Errorf("check job: %w", errors.Join(errs...))
	}
	return nil
}
