package catalog

import (
	"context"
	"fmt"

	"github.com/ckpt-io/ckpt/manifest"
)

// Unlink drops checkpoints from the HEAD of a job that others may be running:
// epoch and owner stay as they are, and the owner goes on. Ids that are not
// listed are ignored; the newest checkpoint is refused with ErrNewest. Only
// after nil may their objects be deleted. It returns HEAD as it is afterwards.
// Errors: ErrNotFound for a job without HEAD, ErrUnresolved as for Commit.
func (c *Catalog) Unlink(ctx context.Context, ids ...manifest.ID) (Head, error) {
	cur, err := c.loadPatiently(ctx)
	if err != nil {
		return Head{}, fmt.Errorf("unlink checkpoints: %w", err)
	}
	cur, err = c.swap(ctx, cur, func(cur snapshot) (Head, error) {
		if !cur.exists {
			return Head{}, fmt.Errorf("HEAD of job %q: %w", c.job, ErrNotFound)
		}
		return unlinked(cur.head, ids)
	})
	if err != nil {
		return Head{}, fmt.Errorf("unlink checkpoints: %w", err)
	}
	return cur.head.clone(), nil
}

// unlinked is the edit of both Unlinks.
func unlinked(h Head, ids []manifest.ID) (Head, error) {
	next, err := without(h.clone(), ids)
	if err != nil {
		return Head{}, err
	}
	if len(next.Checkpoints) == len(h.Checkpoints) {
		return Head{}, errUnchanged
	}
	return next, nil
}
