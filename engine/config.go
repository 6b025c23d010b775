package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
)

// The bounds of Config.OverlayBytes are those of package state; a Config past
// them would fail at every restart.
const (
	minOverlayBytes = 64 << 10
	maxOverlayBytes = 16 << 30
)

// Config says where and how a job runs.
type Config struct {
	// Store holds the jobs' checkpoints, each under its job's name.
	Store objectstore.Store
	// Keys, if not nil, encrypt the job's checkpoints before they are stored;
	// see package seal. A job that has checkpoints stays encrypted, or plain.
	// Run refuses to start if the keys do not open them, or if what it stores
	// turns out not to be encrypted.
	Keys *seal.Keys
	// StateDir is a local directory for working state, which is disposable. A
	// job that is started again with the same one takes from there what it
	// can instead of the store (LocalRecovery). Empty means a temporary
	// directory that is removed at the end.
	StateDir string
	// LocalRecovery is about the copies of stored objects in StateDir.
	LocalRecovery LocalRecovery
	// Parallelism is the number of subtasks of an operator; 0 means 1.
	Parallelism int
	// Checkpoint says when checkpoints are taken and how many are kept.
	Checkpoint coordinator.Config
	// Restart decides what follows a failure; nil means Exponential with its
	// defaults.
	Restart RestartStrategy
	// Logger is silent if nil.
	Logger *slog.Logger
	// Events tell what happens.
	Events Events

	// Stop, when closed, ends the job so that it can go on later: a last
	// checkpoint is taken, its output is committed, and Run returns nil.
	Stop <-chan struct{}
	// StopTimeout is how long that may take before Run gives up with
	// ErrStopTimeout; 0 means 30 s.
	StopTimeout time.Duration
	// CancelTimeout is how long user code may take to return when its run
	// has failed, before Run gives up with a *StuckError; 0 means 1 minute.
	CancelTimeout time.Duration

	// Fresh begins with empty state even where checkpoints exist. They stay
	// listed until retention drops them.
	Fresh bool
	// From is the checkpoint to go on from instead of the newest; 0 means the
	// newest. It is refused when a newer one has committed output.
	From manifest.ID
	// AllowNonRestoredState drops the state of operators that the graph no
	// longer has instead of refusing to start.
	AllowNonRestoredState bool
	// SkipProbe does without the test whether the store is safe to commit on
	// (rule R4).
	SkipProbe bool

	// StoreBytesPerSecond bounds what all of this job reads from and writes to
	// Store, in bytes per second, StoreRequests the requests under way at a
	// time (2 or more); 0 means no limit. Checkpoints and reads of state that
	// is not local yet go first, then restores, new bases, and deletions.
	StoreBytesPerSecond int64
	StoreRequests       int
	// Limiter takes the place of these two, to share limits with other jobs
	// of the process.
	Limiter *objectstore.Limiter
	// SweepInterval is the time from one look for objects that crashes and
	// aborted uploads left behind to the next, besides the one at the start: it
	// lists all that the job has stored. 0 means 1 hour; negative, none.
	SweepInterval time.Duration

	// OverlayBytes bounds the written but not yet spilled state of one
	// subtask, 64 KiB to 16 GiB; 0 means state.DefaultOverlayBytes.
	OverlayBytes int64
	// CacheBytes is the block cache of all keyed state of the process; 0
	// means 64 MiB.
	CacheBytes int64
	// Materialize says when a new base of keyed state is made.
	Materialize state.MaterializePolicy
	// Compression is that of stored state; empty means state.Zstd1.
	Compression state.Compression
	// MaxUnsentBytes bounds the local disk of one subtask's changes that are not
	// durable in the store yet; past it, records wait. 0 means
	// state.DefaultMaxUnsentBytes.
	MaxUnsentBytes int64
	// Restore says whether a run begins before its keyed state is all local:
	// state.Lazy, which is what empty means, or state.Eager. Lazily a run goes
	// on within moments, whatever the size of its state; until the state is
	// local (Events.Hydrated) it needs the object store to read, too.
	Restore state.RestoreMode
}

// LocalRecovery says what a job keeps in its StateDir for its next start on the
// same machine: copies of the objects that its newest checkpoint names. Until the
// local databases have no more use for them they share the databases' files. A
// copy whose digest is wrong is fetched from the store. When the disk is full
// they are the first to go, and they are removed when the job has ended.
type LocalRecovery struct {
	// Disabled keeps nothing. With a temporary StateDir nothing is kept either.
	Disabled bool
	// MaxBytes bounds the copies; the oldest go first. 0: as much as the
	// newest checkpoint and pending ones name.
	MaxBytes int64
}

// Events are notifications. The functions must not block, and may be called
// from several goroutines; those that are nil are skipped.
type Events struct {
	// Started is called when a run has restored its state and begins to
	// process records.
	Started func(Started)
	// Failed is called when a run has failed and its tasks have ended.
	Failed func(Failed)
	// Hydrating is called now and then while a subtask's lazily restored state
	// becomes local, Hydrated when all of it is.
	Hydrating func(Hydrating)
	Hydrated  func(Hydrated)
	// Materialized is called when a new base of a subtask's keyed state is
	// complete, or was begun in vain.
	Materialized func(Materialized)
	// Checkpoints are the coordinator's.
	Checkpoints coordinator.Listener
}

// Started describes the start of a run.
type Started struct {
	Job         string
	Epoch       manifest.Epoch
	Restored    manifest.ID // 0: nothing
	Parallelism int
	// TakeOver is the time to become the owner, Restore from then until all
	// state could be read and prepared output was committed.
	TakeOver, Restore time.Duration
	// State is where the keyed state came from: the sums of all subtasks, and
	// the longest durations.
	State incremental.RestoreStats
}

// Hydrating says how much of whose restored state is local by now.
type Hydrating struct {
	Operator string
	Subtask  int
	state.HydrationProgress
}

// Hydrated says whose restored state is all local by now.
type Hydrated struct {
	Operator string
	Subtask  int
	state.Hydration
}

// Materialized says whose state has a new base, why, and what that cost.
type Materialized struct {
	Operator string
	Subtask  int
	state.Materialization
}

// Failed describes the end of a run by a failure.
type Failed struct {
	Epoch manifest.Epoch // 0: it failed before it became the owner
	Err   error
	// Again says whether another run follows, and Delay after how long.
	Again bool
	Delay time.Duration
}

// withDefaults also returns how many checkpoints are kept.
func (c Config) withDefaults() (Config, int, error) {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("no object store"))
	} else if len(objectstore.KeyIDs(c.Store)) > 0 {
		errs = append(errs, errors.New("the object store is encrypted as a whole: give Keys and the store underneath"))
	}
	if c.Keys != nil && len(c.Keys.IDs()) == 0 {
		errs = append(errs, seal.ErrNoKeys)
	}
	if c.Parallelism < 0 {
		errs = append(errs, fmt.Errorf("parallelism %d: want 1 or more", c.Parallelism))
	}
	if c.OverlayBytes != 0 && (c.OverlayBytes < minOverlayBytes || c.OverlayBytes > maxOverlayBytes) {
		errs = append(errs, fmt.Errorf("overlay bytes %d: want %d to %d", c.OverlayBytes, minOverlayBytes, int64(maxOverlayBytes)))
	}
	if err := c.Compression.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.MaxUnsentBytes < 0 {
		errs = append(errs, fmt.Errorf("unsent bytes %d: want 0 or more", c.MaxUnsentBytes))
	}
	if c.Restore != "" && c.Restore != state.Lazy && c.Restore != state.Eager {
		errs = append(errs, fmt.Errorf("restore mode %q: want %q or %q", c.Restore, state.Lazy, state.Eager))
	}
	if c.LocalRecovery.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("local recovery with %d bytes: want 0 or more", c.LocalRecovery.MaxBytes))
	}
	if c.Limiter != nil && (c.StoreBytesPerSecond != 0 || c.StoreRequests != 0) {
		errs = append(errs, errors.New("limiter and limits of bytes or requests exclude each other"))
	}
	if c.StoreBytesPerSecond != 0 || c.StoreRequests != 0 {
		l, err := objectstore.NewLimiter(objectstore.LimiterOptions{
			BytesPerSecond: c.StoreBytesPerSecond, Requests: c.StoreRequests,
		})
		if err != nil {
			errs = append(errs, err)
		}
		c.Limiter = l
	}
	if c.Fresh && c.From != 0 {
		errs = append(errs, errors.New("fresh and from exclude each other"))
	}
	// Only checked here: filled in twice, a negative value would lose its
	// meaning.
	cp, err := c.Checkpoint.WithDefaults()
	if err != nil {
		errs = append(errs, err)
	}
	if c.Parallelism == 0 {
		c.Parallelism = 1
	}
	if c.Restart == nil {
		c.Restart = Exponential(ExponentialDelay{})
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = 30 * time.Second
	}
	if c.CancelTimeout == 0 {
		c.CancelTimeout = time.Minute
	}
	if c.SweepInterval == 0 {
		c.SweepInterval = time.Hour
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 64 << 20
	}
	return c, cp.Keep, errors.Join(errs...)
}
