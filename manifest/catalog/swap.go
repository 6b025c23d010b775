package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// edit makes the next HEAD of the current one. It runs again over each HEAD
// that another process put in between, so it recognises when what it wants is
// there already and returns errUnchanged. Format, Job and Swap are filled in.
type edit func(cur snapshot) (Head, error)

// errUnchanged is an edit's answer that HEAD needs no swap.
var errUnchanged = errors.New("HEAD needs no change")

// swap applies an edit to HEAD, beginning with cur, and returns HEAD as it is
// afterwards. Errors: the edit's own; ErrUnresolved if ctx ended while a
// write's outcome was not known; any other says that HEAD was not changed.
func (c *Catalog) swap(ctx context.Context, cur snapshot, edit edit) (snapshot, error) {
	for {
		next, err := edit(cur)
		if errors.Is(err, errUnchanged) {
			return cur, nil
		}
		if err != nil {
			return cur, err
		}
		next.Format, next.Job, next.Swap = next.format(), c.job, rand.Text()
		seen, won, err := c.settle(ctx, cur, next)
		if err != nil {
			return cur, fmt.Errorf("swap HEAD: %w", err)
		}
		if won {
			return seen, nil
		}
		cur = seen
	}
}

// settle writes next over cur and returns when it is known what became of it:
// won with the HEAD that is next, or not won with the HEAD that another
// process put in place of cur, over which ours can never land any more.
//
// While the outcome is unknown the same bytes are sent under the same
// condition again, for finding cur still there settles nothing: the write may
// be on its way.
func (c *Catalog) settle(ctx context.Context, cur snapshot, next Head) (seen snapshot, won bool, err error) {
	data, err := encodeHead(next)
	if err != nil {
		return cur, false, err
	}
	if err := ctx.Err(); err != nil {
		return cur, false, context.Cause(ctx)
	}
	var pace backoff
	unknown := false
	fail := func(err error) (snapshot, bool, error) {
		if unknown {
			err = fmt.Errorf("%w: %w", ErrUnresolved, err)
		}
		return cur, false, err
	}
	for {
		info, err := c.store.Put(ctx, manifest.HeadKey, objectstore.Bytes(data), cur.condition())
		if err == nil {
			return c.seen(next, info.ETag), true, nil
		}
		unknown = unknown || outcomeUnknown(err)
		if !unknown && !retryable(err) {
			return fail(err)
		}
		seen, readErr := c.load(ctx)
		switch {
		case readErr == nil && seen.exists && seen.head.Swap == next.Swap:
			return seen, true, nil
		case readErr == nil && !seen.same(cur):
			return seen, false, nil
		case unreadable(readErr):
			return fail(readErr)
		case !unknown && pace.exhausted():
			return fail(err)
		}
		if err := pace.wait(ctx); err != nil {
			return fail(err)
		}
	}
}

// condition is what the store must hold for a write over s to be done.
func (s snapshot) condition() objectstore.PutOptions {
	if !s.exists {
		return objectstore.PutOptions{IfAbsent: true}
	}
	return objectstore.PutOptions{IfMatch: s.etag}
}

// same reports whether a write over s is still possible with t in place.
func (s snapshot) same(t snapshot) bool {
	return s.exists == t.exists && s.head.Swap == t.head.Swap && s.etag == t.etag
}

// outcomeUnknown reports whether a Put may have happened. A store that stopped
// because the context ended cannot know either.
func outcomeUnknown(err error) bool {
	return errors.Is(err, objectstore.ErrUnknownOutcome) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// retryable reports whether another attempt may succeed where this one was
// certainly not done.
func retryable(err error) bool {
	return errors.Is(err, objectstore.ErrPrecondition) || errors.Is(err, objectstore.ErrUnavailable)
}

// unreadable reports whether HEAD is there but of no use to us.
func unreadable(err error) bool {
	return errors.Is(err, manifest.ErrCorrupt) || errors.Is(err, manifest.ErrNewerFormat)
}

// loadPatiently is load that outlasts a short trouble of the store.
func (c *Catalog) loadPatiently(ctx context.Context) (snapshot, error) {
	var pace backoff
	for {
		s, err := c.load(ctx)
		if err == nil || !errors.Is(err, objectstore.ErrUnavailable) || pace.exhausted() {
			return s, err
		}
		if err := pace.wait(ctx); err != nil {
			return s, err
		}
	}
}
