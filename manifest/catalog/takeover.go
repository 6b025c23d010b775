package catalog

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// TakeOverOptions say on what terms a job is taken over.
type TakeOverOptions struct {
	// Operators are those of the job that starts, recorded in HEAD; nil keeps
	// what HEAD has.
	Operators []OperatorInfo
	// Check, if not nil, sees the HEAD that is about to be taken over (the
	// zero Head for a new job) before every attempt to swap it. Its error ends
	// the takeover with nothing changed; but one that matches
	// objectstore.ErrNotExist over a HEAD that is no longer in place is of an
	// object that was retired meanwhile, and Check sees the new HEAD. It may
	// fill in the elements of Operators, which are read after it.
	Check func(context.Context, Head) error
	// Parts bound what stands in the manifests that the owner commits; the
	// zero value is right.
	Parts manifest.PartsOptions
}

// TakeOver makes the caller the owner of the job: the epoch rises by one, and
// everything the owner before still writes to HEAD is refused from then on. It
// waits for nobody; of several that take over at the same time, each gets an
// epoch of its own and the last one stays. The first takeover of a job makes
// its HEAD.
//
// It fails with ErrHeadLost over a job whose HEAD is gone, with an error that
// matches manifest.ErrCorrupt or manifest.ErrNewerFormat over a HEAD it cannot
// read, with manifest.ErrOverflow if the epoch cannot rise, and, of a job that
// has checkpoints, with ErrEncryption if they are encrypted and the store is
// not or the other way round, and with objectstore.ErrKey if the store lacks a
// key that one of them takes. On ErrUnresolved the epoch may have risen, or may yet.
func (c *Catalog) TakeOver(ctx context.Context, opts TakeOverOptions) (*Owner, error) {
	cur, err := c.loadPatiently(ctx)
	if err != nil {
		return nil, fmt.Errorf("take over job %q: %w", c.job, err)
	}
	nonce := rand.Text()
	for {
		var refused snapshot // by an edit that missed an object
		cur, err = c.swap(ctx, cur, func(cur snapshot) (Head, error) {
			if cur.exists && cur.head.Owner == nonce {
				return Head{}, errUnchanged
			}
			next, err := c.succeed(ctx, cur, nonce, opts)
			if errors.Is(err, objectstore.ErrNotExist) {
				refused = cur
			}
			return next, err
		})
		if err == nil {
			return newOwner(c, cur, opts.Parts), nil
		}
		err = fmt.Errorf("take over job %q: %w", c.job, err)
		if !refused.exists {
			return nil, err
		}
		now, loadErr := c.load(ctx)
		if loadErr != nil || now.same(refused) {
			return nil, err
		}
		cur = now
	}
}

// succeed makes the HEAD of the next epoch.
func (c *Catalog) succeed(ctx context.Context, cur snapshot, nonce string, opts TakeOverOptions) (Head, error) {
	if !cur.exists {
		if err := c.checkEmpty(ctx); err != nil {
			return Head{}, err
		}
	}
	if err := c.checkKeys(cur.head); err != nil {
		return Head{}, err
	}
	if opts.Check != nil {
		if err := opts.Check(ctx, cur.head.clone()); err != nil {
			return Head{}, err
		}
	}
	next := cur.head.clone()
	if !cur.exists {
		next.UUID, next.NextID = uuid.NewString(), 1
	}
	next.Epoch++ // past the last one HEAD is not encoded
	next.Owner = nonce
	next.useKey(objectstore.KeyIDs(c.store))
	if opts.Operators != nil {
		next.Operators = slices.SortedFunc(slices.Values(opts.Operators), func(a, b OperatorInfo) int {
			return cmp.Compare(a.UID, b.UID)
		})
	}
	return next, nil
}

// checkEmpty refuses to begin a job anew over the objects of one that lost its
// HEAD: HEAD is written before anything else of a job and never deleted.
func (c *Catalog) checkEmpty(ctx context.Context) error {
	for _, prefix := range []string{manifest.ManifestsPrefix, manifest.DataPrefix} {
		for info, err := range c.store.List(ctx, prefix, "") {
			if err != nil {
				return err
			}
			// Unless another process has begun the job just now.
			if s, err := c.load(ctx); err != nil || s.exists {
				return err
			}
			return fmt.Errorf("%w: found %q", ErrHeadLost, info.Key)
		}
	}
	return nil
}
