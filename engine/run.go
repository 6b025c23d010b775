package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
)

// Run runs the job from its newest checkpoint, or from the beginning of its
// input if it has none, until its input is exhausted or Config.Stop is closed
// (nil), ctx ends (the cause of its end), another process takes the job over
// (ErrFenced), or it fails and the restart strategy gives up.
//
// A job whose newest checkpoint is final has ended: Run commits what output
// may be pending and returns nil. A graph that does not fit the job's state is
// refused with an *IncompatibleError, one that is wrong by itself with a
// *GraphError, and Keys that do not fit the job's checkpoints with an error that
// matches catalog.ErrEncryption or objectstore.ErrKey; all before anything is
// changed.
func Run(ctx context.Context, job *Job, cfg Config) error {
	r, err := newRunner(job, cfg)
	if err != nil {
		return fmt.Errorf("run job %q: %w", job.name, err)
	}
	defer r.close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		limitStop(ctx, cancel, r.cfg)
	}()
	err = r.loop(ctx)
	// Of a job that is another process's now, no copies are kept here.
	r.local.ended = r.local.ended || errors.Is(err, ErrFenced) || errors.Is(err, coordinator.ErrFenced)
	cancel(nil)
	<-stopped
	if err != nil {
		return fmt.Errorf("run job %q: %w", job.name, err)
	}
	return nil
}

// limitStop ends the run if the job does not stop in time.
func limitStop(ctx context.Context, cancel context.CancelCauseFunc, cfg Config) {
	select {
	case <-ctx.Done():
		return
	case <-cfg.Stop:
	}
	timer := time.NewTimer(cfg.StopTimeout)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
		cancel(ErrStopTimeout)
	}
}

// runner is one call of Run: a succession of executions.
type runner struct {
	job     *Job
	cfg     Config
	keep    int
	store   objectstore.Store // the job's part
	sealed  *seal.Store       // the same, if it is encrypted
	catalog *catalog.Catalog
	caches  *state.Caches
	dir     string
	tempDir bool
	local   localDir

	epoch      manifest.Epoch // of the last execution
	firstEpoch manifest.Epoch // of the first
	probed     bool
	effective  bool // encryption was seen to be
}

func newRunner(job *Job, cfg Config) (*runner, error) {
	cfg, keep, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("check config: %w", err)
	}
	// What is wrong with the graph by itself is found before any I/O.
	if _, err := newPlan(job, cfg.Parallelism, nil); err != nil {
		return nil, err
	}
	r := &runner{job: job, cfg: cfg, keep: keep, dir: cfg.StateDir}
	if r.dir == "" {
		if r.dir, err = os.MkdirTemp("", "ckpt-"); err != nil {
			return nil, fmt.Errorf("make state directory: %w", err)
		}
		r.tempDir = true
	}
	r.store = objectstore.Prefix(cfg.Store, job.name)
	if cfg.Keys != nil {
		if r.sealed, err = seal.New(r.store, cfg.Keys); err != nil {
			return nil, err
		}
		r.store = r.sealed
	}
	r.catalog = catalog.New(r.limited(objectstore.Urgent), job.name)
	r.caches = state.NewCaches(cfg.CacheBytes, openFiles())
	return r, nil
}

// limited is the job's part of the store for transfers of one class.
func (r *runner) limited(class objectstore.Class) objectstore.Store {
	return objectstore.Limit(r.store, r.cfg.Limiter, class)
}

func (r *runner) close() {
	r.caches.Close()
	r.leaveLocal()
	if !r.tempDir {
		return
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.cfg.Logger.Warn("remove state directory", "error", err)
	}
}

// loop executes the job until it ends.
func (r *runner) loop(ctx context.Context) error {
	stopping := false // Stop was closed before this attempt
	for {
		x := &execution{runner: r}
		err := r.attempt(ctx, x)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if x.epoch != 0 && errors.Is(err, manifest.ErrCorrupt) && r.replaced(ctx, x.epoch) {
			err = fmt.Errorf("%w: %w", ErrFenced, err)
		}
		var ran time.Duration
		if !x.running.IsZero() {
			ran = time.Since(x.running)
		}
		failed := Failed{Epoch: x.epoch, Err: err}
		if !permanent(err, x.epoch != 0) {
			failed.Delay, failed.Again = r.cfg.Restart.Failed(ran)
			// A job that is to stop gets one more chance to do it in order.
			failed.Again = failed.Again && !stopping
		}
		if r.cfg.Events.Failed != nil {
			r.cfg.Events.Failed(failed)
		}
		if !failed.Again {
			return err
		}
		r.cfg.Logger.Warn("job failed, restarting", "job", r.job.name, "epoch", uint64(x.epoch), "delay", failed.Delay, "error", err)
		if stopping, err = r.pause(ctx, failed.Delay); err != nil {
			return err
		}
	}
}

// replaced reports whether another process took the job over since. It retires
// checkpoints, and so an object may be missing that this one wanted to restore.
func (r *runner) replaced(ctx context.Context, epoch manifest.Epoch) bool {
	head, err := r.catalog.Head(ctx)
	return err == nil && head.Epoch != epoch
}

// attempt takes the job over and executes it once.
func (r *runner) attempt(ctx context.Context, x *execution) error {
	began := time.Now()
	if !r.probed && !r.cfg.SkipProbe {
		if _, err := objectstore.Probe(ctx, r.store, manifest.ProbePrefix); err != nil {
			return fmt.Errorf("probe store: %w", err)
		}
		r.probed = true
	}
	if err := r.checkEncryption(ctx); err != nil {
		return err
	}
	own, err := r.takeOver(ctx)
	if err != nil {
		return err
	}
	x.ownership, x.epoch = own, own.owner.Epoch()
	r.epoch = x.epoch
	if r.firstEpoch == 0 {
		r.firstEpoch = x.epoch
	}
	x.dir = r.enterLocal(own)
	x.took = time.Since(began)
	if own.from != nil && own.from.Kind == manifest.Final {
		err = x.finish(ctx)
	} else {
		err = x.run(ctx)
	}
	if newest, ok := own.owner.Head().Newest(); err == nil && ok {
		r.local.ended = newest.Kind == manifest.Final
	}
	return err
}

// checkEncryption makes sure, once, that what the job stores is encrypted if it
// is to be, and that HEAD will say so.
func (r *runner) checkEncryption(ctx context.Context) error {
	if r.sealed == nil || r.effective {
		return nil
	}
	if len(objectstore.KeyIDs(r.store)) == 0 {
		return seal.ErrNotEffective
	}
	if err := r.sealed.Check(ctx, manifest.ProbePrefix); err != nil {
		return err
	}
	r.effective = true
	return nil
}

// permanent reports whether a restart after err would fail in the same way.
// owned says whether the job had been taken over.
func permanent(err error, owned bool) bool {
	var (
		graph        *GraphError
		incompatible *IncompatibleError
		stuck        *StuckError
		marked       *permanentError
		tooLarge     *state.TooLargeError
	)
	if errors.As(err, &graph) || errors.As(err, &incompatible) || errors.As(err, &stuck) ||
		errors.As(err, &marked) || errors.As(err, &tooLarge) {
		return true
	}
	final := []error{
		ErrFenced, coordinator.ErrFenced, ErrOutputBeyond, catalog.ErrHeadLost,
		manifest.ErrCorrupt, manifest.ErrNewerFormat, manifest.ErrOverflow,
		objectstore.ErrConditionsIgnored, objectstore.ErrNoBucket,
		objectstore.ErrKey, objectstore.ErrNotEncrypted, catalog.ErrEncryption, seal.ErrNotEffective,
	}
	if !owned {
		final = append(final, catalog.ErrNotFound, objectstore.ErrPermission)
	}
	for _, f := range final {
		if errors.Is(err, f) {
			return true
		}
	}
	return false
}

// pause waits before a restart, but not on once the job is to stop.
func (r *runner) pause(ctx context.Context, d time.Duration) (stopping bool, err error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case <-r.cfg.Stop:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}
