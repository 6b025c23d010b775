package objectstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Class is what a transfer is for. When they compete, a lower number goes
// first.
type Class int

// The classes.
const (
	// Urgent is what somebody waits for: the uploads of a checkpoint, its
	// commit, and reads of state that is not local yet.
	Urgent Class = iota
	// Restoring fetches state before or while a job runs on it.
	Restoring
	// Materializing uploads new bases of state.
	Materializing
	// Sweeping deletes what is not needed any more.
	Sweeping

	classes = iota
)

// LimiterOptions are the limits of a Limiter. The zero value of a field means
// no limit.
type LimiterOptions struct {
	// BytesPerSecond bounds the bytes of objects that are read and written,
	// both together.
	BytesPerSecond int64
	// Burst is how many bytes may pass at once after a quiet time; 0 means
	// what passes in an eighth of a second, but no less than 64 KiB.
	Burst int64
	// Requests bounds the requests under way; 2 or more, for a quarter of
	// them, at least one, is left to Urgent ones.
	Requests int
}

const (
	minBurst = 64 << 10
	// maxChunk is the most that one class gets before another one is looked at;
	// chunkTime, the longest that this may take on a slow link.
	maxChunk  = 64 << 10
	minChunk  = 1 << 10
	chunkTime = 50 * time.Millisecond
)

// Limiter shares the bandwidth and the requests that a process may use among
// everything it does with an object store; see [Limit]. It may be used
// concurrently.
//
// A transfer is paced chunk by chunk, so that a large one of a lower class that
// is under way gives way to others at once. Bandwidth that no higher class asks
// for belongs to the lower ones, and while it is fought for, about one chunk in
// 16 goes to each of them all the same: servers cut off a request that stands
// still.
type Limiter struct {
	bucket *rate.Limiter // nil: no limit of bandwidth
	chunk  int
	limit  int // of requests; 0: none
	lower  int // of requests below Urgent

	mu       sync.Mutex
	line     line         // for bandwidth
	timed    bool         // somebody looks at it again when the bucket has filled
	requests [classes]int // under way
	waiting  line         // for a request
}

// NewLimiter returns a limiter, or all reasons why the limits are refused.
func NewLimiter(opts LimiterOptions) (*Limiter, error) {
	var errs []error
	if opts.BytesPerSecond < 0 || opts.Burst < 0 {
		errs = append(errs, fmt.Errorf("%d bytes/s with a burst of %d: want 0 or more", opts.BytesPerSecond, opts.Burst))
	}
	if opts.Requests < 0 || opts.Requests == 1 {
		errs = append(errs, fmt.Errorf("%d requests at a time: want 0 or at least 2", opts.Requests))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make limiter: %w", err)
	}
	l := &Limiter{limit: opts.Requests, lower: opts.Requests - max(1, opts.Requests/4)}
	if opts.BytesPerSecond > 0 {
		burst := opts.Burst
		if burst == 0 {
			burst = max(minBurst, opts.BytesPerSecond/8)
		}
		burst = max(burst, minChunk)
		l.bucket = rate.NewLimiter(rate.Limit(opts.BytesPerSecond), int(burst))
		perChunk := int64(float64(opts.BytesPerSecond) * chunkTime.Seconds())
		l.chunk = int(min(maxChunk, max(minChunk, perChunk), burst))
	}
	return l, nil
}

// pace waits until n bytes may pass for a class, or until ctx ends.
func (l *Limiter) pace(ctx context.Context, class Class, n int) error {
	if l.bucket == nil {
		return nil
	}
	for n > 0 {
		chunk := min(n, l.chunk)
		if err := l.paceChunk(ctx, class, chunk); err != nil {
			return err
		}
		n -= chunk
	}
	return nil
}

func (l *Limiter) paceChunk(ctx context.Context, class Class, n int) error {
	l.mu.Lock()
	if l.line.empty(classes-1) && l.bucket.AllowN(time.Now(), n) {
		l.mu.Unlock()
		return ctx.Err()
	}
	w := l.line.join(class, n)
	if !l.timed {
		l.admit()
	}
	l.mu.Unlock()
	return l.await(ctx, &l.line, w, func() {})
}

// admit lets those in line go for whom the bucket has enough, and comes back
// when it has for the next. Who that is shows then, not now: a transfer asks
// for its next chunk only after it has sent the last. Called with mu held.
func (l *Limiter) admit() {
	l.timed = false
	for {
		class, ok := l.line.choose(classes)
		if !ok {
			return
		}
		now, n := time.Now(), l.line.waiters[class][0].n
		if l.bucket.AllowN(now, n) {
			close(l.line.take(class).ready)
			continue
		}
		lack := float64(n) - l.bucket.TokensAt(now)
		wait := time.Duration(lack / float64(l.bucket.Limit()) * float64(time.Second))
		l.timed = true
		time.AfterFunc(max(wait, time.Microsecond), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.admit()
		})
		return
	}
}

// await waits for what w stands in line for, which undo gives back if ctx
// ended at the same moment.
func (l *Limiter) await(ctx context.Context, in *line, w *waiter, undo func()) error {
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	left := in.leave(w)
	l.mu.Unlock()
	if !left {
		undo()
	}
	return context.Cause(ctx)
}

// begin waits until a request of a class may begin, or until ctx ends.
func (l *Limiter) begin(ctx context.Context, class Class) error {
	if l.limit == 0 {
		return nil
	}
	l.mu.Lock()
	if l.room() > class && l.waiting.empty(class) {
		l.requests[class]++
		l.mu.Unlock()
		return nil
	}
	w := l.waiting.join(class, 1)
	l.mu.Unlock()
	return l.await(ctx, &l.waiting, w, func() { l.end(class) })
}

// tryBegin begins a request if it need not wait.
func (l *Limiter) tryBegin(class Class) bool {
	if l.limit == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room() <= class || !l.waiting.empty(class) {
		return false
	}
	l.requests[class]++
	return true
}

// end says that a request that has begun is over.
func (l *Limiter) end(class Class) {
	if l.limit == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests[class]--
	for w := l.waiting.next(l.room()); w != nil; w = l.waiting.next(l.room()) {
		l.requests[w.class]++
		close(w.ready)
	}
}

// room is the first class of which no request may begin now.
func (l *Limiter) room() Class {
	lower := 0
	for _, n := range l.requests[Urgent+1:] {
		lower += n
	}
	switch {
	case lower+l.requests[Urgent] >= l.limit:
		return Urgent
	case lower >= l.lower:
		return Urgent + 1
	}
	return classes
}
