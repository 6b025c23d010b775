package catalog

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

const (
	// DefaultPinTTL is how long a pin lasts without renewal if Pin is given
	// no time.
	DefaultPinTTL = 5 * time.Minute
	// MinPinTTL and MaxPinTTL bound it. Stores tell time in seconds.
	MinPinTTL = 10 * time.Second
	MaxPinTTL = 24 * time.Hour
)

// Pin keeps the objects of one checkpoint from being deleted while somebody
// reads them, also when the checkpoint is unlinked meanwhile. Unless renewed it
// expires, by the store's clock. Its methods may be called concurrently.
type Pin struct {
	store objectstore.Store
	key   string
	body  []byte
	ttl   time.Duration

	stop context.CancelFunc // ends the goroutine of Keep; nil without
	done chan struct{}      // closed when it has ended

	mu       sync.Mutex
	etag     string
	modified time.Time // the store's time of the last write
	valid    time.Time // until when the pin is safe, by the monotonic clock here
}

// pinBody is the content of a pin.
type pinBody struct {
	TTL int64 `json:"ttl_ms"`
}

// Pin pins a checkpoint for ttl (0: DefaultPinTTL). When it returns nil the
// checkpoint was listed after the pin had been written, so that retention,
// which unlinks first and looks for pins then, keeps its objects. It fails with
// ErrNotFound if the checkpoint is not listed any more, and with
// objectstore.ErrPermission for a reader that may not write, who can go on
// unpinned and start again from the newest checkpoint when an object vanished.
func (c *Catalog) Pin(ctx context.Context, e Entry, ttl time.Duration) (*Pin, error) {
	p, err := c.pin(ctx, e, ttl)
	if err != nil {
		return nil, fmt.Errorf("pin checkpoint %d: %w", e.ID, err)
	}
	return p, nil
}

func (c *Catalog) pin(ctx context.Context, e Entry, ttl time.Duration) (*Pin, error) {
	if ttl == 0 {
		ttl = DefaultPinTTL
	}
	if ttl < MinPinTTL || ttl > MaxPinTTL {
		return nil, fmt.Errorf("time to live %s is not between %s and %s", ttl, MinPinTTL, MaxPinTTL)
	}
	body, err := json.Marshal(pinBody{TTL: ttl.Milliseconds()})
	if err != nil {
		return nil, err
	}
	p := &Pin{store: c.store, key: manifest.PinKey(e.ID, rand.Text()), body: body, ttl: ttl}
	sent := time.Now()
	// The nonce is new: whatever is found under the name is ours.
	_, err = p.store.Put(ctx, p.key, objectstore.Bytes(body), objectstore.PutOptions{IfAbsent: true})
	if err != nil && !outcomeUnknown(err) {
		return nil, err
	}
	info, err := p.store.Stat(ctx, p.key)
	if err != nil {
		return nil, err
	}
	p.etag, p.modified, p.valid = info.ETag, info.LastModified, sent.Add(ttl)
	if err := c.checkListed(ctx, e); err != nil {
		// What stays behind if this fails too expires by itself.
		return nil, errors.Join(err, p.Release(ctx))
	}
	return p, nil
}

func (c *Catalog) checkListed(ctx context.Context, e Entry) error {
	h, err := c.Head(ctx)
	if err != nil {
		return err
	}
	if now, ok := h.Find(e.ID); !ok || now.Epoch != e.Epoch {
		return fmt.Errorf("it is no longer listed: %w", ErrNotFound)
	}
	return nil
}

// Renew makes the pin last for another ttl. ErrPinLost says that it had
// expired, and is the answer ever after; any other error leaves it as it was,
// to be renewed again.
func (p *Pin) Renew(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.renew(ctx); err != nil {
		return fmt.Errorf("renew pin %q: %w", p.key, err)
	}
	return nil
}

func (p *Pin) renew(ctx context.Context) error {
	sent := time.Now()
	_, err := p.store.Put(ctx, p.key, objectstore.Bytes(p.body), objectstore.PutOptions{IfMatch: p.etag})
	if errors.Is(err, objectstore.ErrPrecondition) {
		return fmt.Errorf("%w: it was removed", ErrPinLost)
	}
	if err != nil && !outcomeUnknown(err) {
		return err
	}
	info, statErr := p.store.Stat(ctx, p.key)
	switch {
	case errors.Is(statErr, objectstore.ErrNotExist):
		return fmt.Errorf("%w: it was removed", ErrPinLost)
	case statErr != nil:
		return statErr
	case err != nil && !info.LastModified.After(p.modified):
		return err // nothing shows that it was written
	}
	// The gap between two writes says whether it was expired in between. Once
	// it was, p.modified stays behind, and so does the answer.
	if gap := info.LastModified.Sub(p.modified); gap >= p.ttl {
		return fmt.Errorf("%w: renewed after %s, it lasts %s", ErrPinLost, gap, p.ttl)
	}
	p.etag, p.modified, p.valid = info.ETag, info.LastModified, sent.Add(p.ttl)
	return nil
}

// Keep renews the pin in the background until ctx ends or Release is called.
// The returned context ends then too, or with the cause ErrPinLost when the pin
// could not be renewed in time; whoever reads the checkpoint works under it.
// Keep is called at most once, before Release.
func (p *Pin) Keep(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	p.stop = func() { cancel(context.Canceled) }
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		cancel(p.keep(ctx))
	}()
	return ctx
}

// keep renews the pin well before its time, then more often while that fails.
func (p *Pin) keep(ctx context.Context) error {
	pause := p.ttl / 4
	for {
		p.mu.Lock()
		valid := p.valid
		p.mu.Unlock()
		t := time.NewTimer(min(pause, time.Until(valid)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
		attempt, cancel := context.WithDeadline(ctx, valid)
		err := p.Renew(attempt)
		cancel()
		switch {
		case err == nil:
			pause = p.ttl / 4
			continue
		case errors.Is(err, ErrPinLost), ctx.Err() != nil:
			return err
		case !time.Now().Before(valid):
			return fmt.Errorf("%w: %w", ErrPinLost, err)
		}
		pause = p.ttl / 32
	}
}

// Release ends Keep and removes the pin. One that is gone already is no error.
func (p *Pin) Release(ctx context.Context) error {
	if p.stop != nil {
		p.stop()
		<-p.done
	}
	if err := p.store.Delete(ctx, p.key); err != nil {
		return fmt.Errorf("release pin: %w", err)
	}
	return nil
}
