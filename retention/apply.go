package retention

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// ErrOtherJob is a plan that was made for another job, or for one of the same
// name that was deleted since and made anew: its object names may have come
// back with another meaning.
var ErrOtherJob = errors.New("plan belongs to another job")

// ErrStillListed is a plan whose checkpoints to unlink have not been unlinked.
var ErrStillListed = errors.New("checkpoint is still listed")

// ApplyOptions are the choices of an Apply.
type ApplyOptions struct {
	// Batch is how many objects one call deletes; 0 means 1000.
	Batch int
	// Epoch, if not 0, ends the work with catalog.ErrFenced before the next
	// batch once HEAD has another epoch: a replaced owner stops deleting.
	Epoch manifest.Epoch
	// Progress, if set, is called after each batch, by the goroutine that
	// called Apply.
	Progress func(Progress)
}

// Progress is how far an Apply has come.
type Progress struct {
	Done, Total           int // objects, failed ones included
	DoneBytes, TotalBytes int64
}

// Result is what an Apply did.
type Result struct {
	Deleted      int   `json:"deleted"` // objects, those that were gone already included
	DeletedBytes int64 `json:"deleted_bytes"`
	Failed       int   `json:"failed"` // objects that are still there, for the next round
}

const defaultBatch = 1000

// Apply deletes what plan says, manifests before data, reading HEAD before each
// batch. It may be cut off anywhere and run again, and run beside a job, other
// readers and another Apply.
//
// Objects that could not be deleted are counted and do not end the work, but
// while a manifest is still there no data is deleted. The error then
// is a *objectstore.DeleteError that names them all; nothing is lost, the next
// plan has them again. ErrOtherJob, ErrStillListed and catalog.ErrFenced end it
// at once.
func Apply(ctx context.Context, cat *catalog.Catalog, store objectstore.Store, plan *Plan, opts ApplyOptions) (Result, error) {
	a := &applier{cat: cat, store: store, opts: opts, uuid: plan.UUID, unlinked: plan.Unlink}
	if err := a.run(ctx, plan.Deletes); err != nil {
		return a.result, fmt.Errorf("apply plan: %w", err)
	}
	return a.result, nil
}

func isManifest(it Item) bool { return strings.HasPrefix(it.Key, manifest.ManifestsPrefix) }

// applier is one run over a list of objects.
type applier struct {
	cat      *catalog.Catalog
	store    objectstore.Store
	opts     ApplyOptions
	uuid     string
	unlinked []manifest.ID // must not be listed
	progress Progress
	result   Result
	failed   map[string]error
	left     []Item // still there: failed, or not come to
}

// run deletes items, whose manifests stand first, and data only once no manifest
// is left.
func (a *applier) run(ctx context.Context, items []Item) error {
	a.progress.Total, a.progress.TotalBytes = len(items), totalBytes(items)
	data := slices.IndexFunc(items, func(it Item) bool { return !isManifest(it) })
	if data < 0 {
		data = len(items)
	}
	if slices.ContainsFunc(items[data:], isManifest) {
		return errors.New("a manifest stands behind data objects")
	}
	err := a.delete(ctx, items[:data])
	if err == nil && len(a.failed) == 0 {
		err = a.delete(ctx, items[data:])
	}
	a.left = append(a.left, items[a.progress.Done:]...)
	if err == nil && len(a.failed) > 0 {
		err = &objectstore.DeleteError{Failed: a.failed}
	}
	return err
}

// delete removes items batch by batch. Its error is one that ends the work;
// single failures are in a.failed.
func (a *applier) delete(ctx context.Context, items []Item) error {
	for batch := range slices.Chunk(items, cmp.Or(a.opts.Batch, defaultBatch)) {
		if err := a.check(ctx); err != nil {
			return err
		}
		keys := make([]string, len(batch))
		for i, it := range batch {
			keys[i] = it.Key
		}
		a.count(batch, failures(a.store.Delete(ctx, keys...), keys))
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// check reads HEAD and refuses to go on for another job or past a takeover.
func (a *applier) check(ctx context.Context) error {
	head, err := a.cat.Head(ctx)
	switch {
	case err != nil:
		return err
	case head.UUID != a.uuid:
		return fmt.Errorf("%w: job %q was made anew", ErrOtherJob, head.Job)
	case a.opts.Epoch != 0 && head.Epoch != a.opts.Epoch:
		return fmt.Errorf("epoch %d has taken over from %d: %w", head.Epoch, a.opts.Epoch, catalog.ErrFenced)
	}
	for _, id := range a.unlinked {
		if _, ok := head.Find(id); ok {
			return fmt.Errorf("%w: %d", ErrStillListed, id)
		}
	}
	return nil
}

// failures says which of keys a Delete that returned err left in the store.
func failures(err error, keys []string) map[string]error {
	if err == nil {
		return nil
	}
	if de, ok := errors.AsType[*objectstore.DeleteError](err); ok {
		return de.Failed
	}
	failed := make(map[string]error, len(keys))
	for _, k := range keys {
		failed[k] = err
	}
	return failed
}

func (a *applier) count(batch []Item, failed map[string]error) {
	for _, it := range batch {
		a.progress.Done++
		a.progress.DoneBytes += it.Size
		if err, ok := failed[it.Key]; ok {
			if a.failed == nil {
				a.failed = make(map[string]error)
			}
			a.failed[it.Key] = err
			a.left = append(a.left, it)
			a.result.Failed++
			continue
		}
		a.result.Deleted++
		a.result.DeletedBytes += it.Size
	}
	if a.opts.Progress != nil {
		a.opts.Progress(a.progress)
	}
}
