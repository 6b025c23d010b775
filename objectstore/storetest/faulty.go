package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ckpt-io/ckpt/objectstore"
)

// Faulty is a Store over another that records every call and injects faults
// by rules. It is safe for concurrent use; with one caller, the same seed and
// calls give the same faults.
type Faulty struct {
	// Hook, if not nil, is called before and after every call, the whole of it
	// included: first of all hooks before, last of all after. After a call that
	// a rule ended early it is called too, so calls come in pairs. It is set
	// before first use.
	Hook Hook

	store objectstore.Store
	cut   atomic.Bool

	mu    sync.Mutex
	rng   *rand.Rand
	rules []*activeRule
	calls []Call
	seq   int
	held  []heldPut
}

type activeRule struct {
	Rule
	key  *regexp.Regexp
	seen int
}

type heldPut struct {
	key  string
	data []byte
	opts objectstore.PutOptions
}

// NewFaulty wraps a store. It panics on a rule whose Key is not a regular
// expression, as Add does.
func NewFaulty(s objectstore.Store, seed uint64, rules ...Rule) *Faulty {
	f := &Faulty{store: s, rng: rand.New(rand.NewPCG(seed, 0))}
	f.Add(rules...)
	return f
}

// Add adds rules after those there are. Their Nth counts from now on.
func (f *Faulty) Add(rules ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range rules {
		f.rules = append(f.rules, &activeRule{Rule: r, key: regexp.MustCompile(r.Key)})
	}
}

// ClearRules removes all rules; calls that run keep theirs.
func (f *Faulty) ClearRules() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// Cut separates the caller from the store, or joins them again. While it is
// cut off no call is done, and the answers of those under way are lost.
func (f *Faulty) Cut(off bool) { f.cut.Store(off) }

// Calls returns the calls so far in the order they began, those still running
// with their Phase Before.
func (f *Faulty) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Forget empties the record of calls; Seq goes on counting.
func (f *Faulty) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = nil
}

// Land does the Puts that LandLater held back, oldest first, and returns how
// many of them were done; the others' conditions did not hold any more.
func (f *Faulty) Land(ctx context.Context) int {
	f.mu.Lock()
	held := f.held
	f.held = nil
	f.mu.Unlock()
	done := 0
	for _, p := range held {
		if _, err := f.store.Put(ctx, p.key, objectstore.Bytes(p.data), p.opts); err == nil {
			done++
		}
	}
	return done
}

// UnquoteETags passes Probe's finding on to the store underneath.
func (f *Faulty) UnquoteETags(unquoted bool) bool {
	u, ok := f.store.(objectstore.ETagUnquoter)
	return ok && u.UnquoteETags(unquoted)
}

// Put implements objectstore.Store.
func (f *Faulty) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	p := f.begin(Call{Op: Put, Key: key, Options: opts, Body: body})
	var info objectstore.Info
	err := p.before(ctx)
	if err == nil {
		switch {
		case p.holds():
			err = f.hold(ctx, key, body, opts)
		case p.has(Middle):
			info, err = f.store.Put(ctx, key, &middleBody{Body: body, hook: func() error { return p.run(ctx, Middle) }}, opts)
		default:
			info, err = f.store.Put(ctx, key, body, opts)
		}
	}
	if err = p.after(ctx, err); err != nil {
		return objectstore.Info{}, err
	}
	return info, nil
}

func (f *Faulty) hold(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) error {
	data := make([]byte, body.Size())
	if n, err := body.ReadAt(data, 0); n < len(data) {
		return fmt.Errorf("put %q: read body: %w", key, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = append(f.held, heldPut{key: key, data: data, opts: opts})
	return lost(ctx, Call{Op: Put, Key: key})
}

// Get implements objectstore.Store.
func (f *Faulty) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	p := f.begin(Call{Op: Get, Key: key, Offset: offset, Length: length})
	var r io.ReadCloser
	var info objectstore.Info
	err := p.before(ctx)
	if err == nil {
		r, info, err = f.store.Get(ctx, key, offset, length)
	}
	if err = p.after(ctx, err); err != nil {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
		return nil, objectstore.Info{}, err
	}
	return p.wrapBody(ctx, r, info.Size), info, nil
}

// Stat implements objectstore.Store.
func (f *Faulty) Stat(ctx context.Context, key string) (objectstore.Info, error) {
	p := f.begin(Call{Op: Stat, Key: key})
	var info objectstore.Info
	err := p.before(ctx)
	if err == nil {
		info, err = f.store.Stat(ctx, key)
	}
	if err = p.after(ctx, err); err != nil {
		return objectstore.Info{}, err
	}
	return info, nil
}

// List implements objectstore.Store. The call begins when the listing is
// ranged over and its phase After comes when that ends.
func (f *Faulty) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		p := f.begin(Call{Op: List, Key: prefix, ListAfter: after})
		err := p.before(ctx)
		stopped := false
		if err == nil {
			stopped, err = f.list(ctx, p, yield)
		}
		if err = p.after(ctx, err); err != nil && !stopped {
			yield(objectstore.Info{}, err)
		}
	}
}

// list yields objects until the caller stops or an error ends the listing,
// which it returns for the phase After.
func (f *Faulty) list(ctx context.Context, p *pending, yield func(objectstore.Info, error) bool) (stopped bool, err error) {
	first := true
	for info, err := range f.store.List(ctx, p.call.Key, p.call.ListAfter) {
		if err == nil && f.cut.Load() {
			err = lost(ctx, p.call)
		}
		if err != nil {
			return false, err
		}
		if !yield(info, nil) {
			return true, nil
		}
		if first {
			first = false
			if err := p.run(ctx, Middle); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// Delete implements objectstore.Store.
func (f *Faulty) Delete(ctx context.Context, keys ...string) error {
	c := Call{Op: Delete, Keys: slices.Clone(keys)}
	if len(keys) > 0 {
		c.Key = keys[0]
	}
	p := f.begin(c)
	err := p.before(ctx)
	if err == nil {
		err = f.delete(ctx, p, keys)
	}
	return p.after(ctx, err)
}

func (f *Faulty) delete(ctx context.Context, p *pending, keys []string) error {
	if !p.has(Middle) {
		return f.store.Delete(ctx, keys...)
	}
	half := len(keys) / 2
	if half > 0 {
		if err := f.store.Delete(ctx, keys[:half]...); err != nil {
			return err
		}
	}
	if err := p.run(ctx, Middle); err != nil {
		return err
	}
	return f.store.Delete(ctx, keys[half:]...)
}
