package storetest

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/ckpt-io/ckpt/objectstore"
)

// pending is a call under way with the actions that apply to it.
type pending struct {
	f       *Faulty
	call    Call
	actions []Action
	skipped bool // ended before it was done
}

// begin records a call and chooses its actions.
func (f *Faulty) begin(c Call) *pending {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	c.Seq, c.Phase = f.seq, Before
	p := &pending{f: f, call: c}
	for _, r := range f.rules {
		if f.applies(r, c) {
			p.actions = append(p.actions, r.Do)
		}
	}
	c.Body = nil
	f.calls = append(f.calls, c)
	return p
}

func (f *Faulty) applies(r *activeRule, c Call) bool {
	if r.Op != "" && r.Op != c.Op {
		return false
	}
	matches := r.key.MatchString
	if !matches(c.Key) && !slices.ContainsFunc(c.Keys, matches) {
		return false
	}
	r.seen++
	if r.Nth != 0 && r.seen != r.Nth {
		return false
	}
	return r.Chance == 0 || f.rng.Float64() < r.Chance
}

func (p *pending) before(ctx context.Context) error {
	err := p.hook(ctx, Before)
	if err == nil && p.f.cut.Load() {
		err = lost(ctx, p.call)
	}
	if err == nil {
		err = p.run(ctx, Before)
	}
	p.skipped = err != nil
	return err
}

// after turns the outcome of the work into the outcome of the call.
func (p *pending) after(ctx context.Context, err error) error {
	p.call.Err = err
	if !p.skipped {
		if err := p.run(ctx, After); err != nil {
			p.call.Err = err
		}
		if p.f.cut.Load() {
			p.call.Err = lost(ctx, p.call)
		}
	}
	if err := p.hook(ctx, After); err != nil {
		p.call.Err = err
	}
	p.f.finish(p.call)
	return p.call.Err
}

// finish completes the record of a call, unless it was forgotten.
func (f *Faulty) finish(c Call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.Phase, c.Body = After, nil
	i, ok := slices.BinarySearchFunc(f.calls, c.Seq, func(c Call, seq int) int { return c.Seq - seq })
	if ok {
		f.calls[i] = c
	}
}

func (p *pending) hook(ctx context.Context, phase Phase) error {
	if p.f.Hook == nil {
		return nil
	}
	p.call.Phase = phase
	return p.f.Hook(ctx, p.call)
}

// run calls the rules' hooks of a phase up to the first error.
func (p *pending) run(ctx context.Context, phase Phase) error {
	p.call.Phase = phase
	for _, a := range p.actions {
		if h := a.hooks[phase]; h != nil {
			if err := h(ctx, p.call); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pending) has(phase Phase) bool {
	return slices.ContainsFunc(p.actions, func(a Action) bool { return a.hooks[phase] != nil })
}

func (p *pending) holds() bool {
	return slices.ContainsFunc(p.actions, func(a Action) bool { return a.hold })
}

// wrapBody applies the actions that change what a Get reads.
func (p *pending) wrapBody(ctx context.Context, r io.ReadCloser, size int64) io.ReadCloser {
	var body io.Reader = &cutOffReader{r: r, f: p.f}
	if p.has(Middle) {
		length := max(0, size-p.call.Offset)
		if p.call.Length >= 0 {
			length = min(length, p.call.Length)
		}
		body = &middleReader{r: body, left: length / 2, hook: func() error { return p.run(ctx, Middle) }}
	}
	for _, a := range p.actions {
		if a.body != nil {
			body = a.body(body)
		}
	}
	return struct {
		io.Reader
		io.Closer
	}{body, r}
}

// cutOffReader fails while its store is cut off.
type cutOffReader struct {
	r io.Reader
	f *Faulty
}

func (r *cutOffReader) Read(b []byte) (int, error) {
	if r.f.cut.Load() {
		return 0, fmt.Errorf("read body: injected: %w", objectstore.ErrUnavailable)
	}
	return r.r.Read(b)
}
