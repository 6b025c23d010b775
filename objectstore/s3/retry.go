package s3

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ckpt-io/ckpt/objectstore"
)

// request is one call of the API, to be tried until it succeeds.
type request struct {
	// do makes one attempt.
	do func(ctx context.Context) error
	// write says that the outcome matters even if the caller never learns of
	// a success, so that one attempt that may have been done makes the whole
	// unknown.
	write bool
	// settled reports, after an attempt of unknown outcome, that another one
	// would be refused anyway; nil for no such test.
	settled func(ctx context.Context) bool
}

// try makes attempts up to the first success or lasting error.
func (s *Store) try(ctx context.Context, r request) error {
	maybe := false // an attempt may have been done
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return outcome(maybe, err)
		}
		var sent atomic.Bool
		err := r.do(context.WithValue(ctx, sentKey{}, &sent))
		if err == nil {
			s.bucketSeen.Store(true)
			return nil
		}
		v := s.judge(err, sent.Load())
		before := maybe
		maybe = maybe || r.write && v.maybe
		switch {
		case ctx.Err() != nil:
			return outcome(maybe, ctx.Err())
		case errors.Is(v.err, objectstore.ErrPrecondition):
			// After an attempt that may have been done it may be our own
			// write that does not let us.
			return outcome(before, v.err)
		case !v.retry || attempt >= s.opts.MaxAttempts:
			return outcome(maybe, v.err)
		}
		if v.expired {
			s.creds.invalidate()
		}
		if err := sleep(ctx, s.delay(attempt)); err != nil {
			return outcome(maybe, err)
		}
		if maybe && r.settled != nil && r.settled(ctx) {
			return outcome(true, v.err)
		}
	}
}

// outcome says of an error after an attempt that may have been done only what
// is certain.
func outcome(maybe bool, err error) error {
	switch {
	case !maybe:
		return err
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", objectstore.ErrUnknownOutcome, err)
	}
	// The error's own kind would read as a refusal.
	return fmt.Errorf("%w: %v", objectstore.ErrUnknownOutcome, err)
}

// delay is the pause after an attempt: it doubles, with jitter over its upper
// half so that clients that failed together do not come back together.
func (s *Store) delay(attempt int) time.Duration {
	d := maxDelay
	if attempt < 16 {
		d = min(d, s.opts.RetryDelay<<(attempt-1))
	}
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bound gives an attempt that moves size bytes its timeout.
func (s *Store) bound(ctx context.Context, size int64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.allowance(size))
}

func (s *Store) allowance(size int64) time.Duration {
	return s.opts.AttemptTimeout + time.Duration(float64(size)/minRate*float64(time.Second))
}

// client notes that a request was handed to HTTP.
type client struct{ inner aws.HTTPClient }

type sentKey struct{}

func (c *client) Do(r *http.Request) (*http.Response, error) {
	if sent, ok := r.Context().Value(sentKey{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
	return c.inner.Do(r)
}
