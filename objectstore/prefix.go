package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// Prefix is the part of s whose keys begin with prefix and a slash, as a
// Store of its own: keys go in and come out without it. The prefix is itself
// a valid key, or empty for all of s.
func Prefix(s Store, prefix string) Store {
	if prefix == "" {
		return s
	}
	return &prefixed{store: s, prefix: prefix + "/"}
}

type prefixed struct {
	store  Store
	prefix string // ends with a slash
}

func (p *prefixed) Put(ctx context.Context, key string, body Body, opts PutOptions) (Info, error) {
	if err := ValidKey(key); err != nil {
		return Info{}, fmt.Errorf("put: %w", err)
	}
	info, err := p.store.Put(ctx, p.prefix+key, body, opts)
	return p.strip(info), err
}

func (p *prefixed) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	if err := ValidKey(key); err != nil {
		return nil, Info{}, fmt.Errorf("get: %w", err)
	}
	r, info, err := p.store.Get(ctx, p.prefix+key, offset, length)
	return r, p.strip(info), err
}

func (p *prefixed) Stat(ctx context.Context, key string) (Info, error) {
	if err := ValidKey(key); err != nil {
		return Info{}, fmt.Errorf("stat: %w", err)
	}
	info, err := p.store.Stat(ctx, p.prefix+key)
	return p.strip(info), err
}

func (p *prefixed) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	if after != "" {
		after = p.prefix + after
	}
	return func(yield func(Info, error) bool) {
		for info, err := range p.store.List(ctx, p.prefix+prefix, after) {
			if !yield(p.strip(info), err) {
				return
			}
		}
	}
}

func (p *prefixed) Delete(ctx context.Context, keys ...string) error {
	full := make([]string, len(keys))
	for i, key := range keys {
		if err := ValidKey(key); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		full[i] = p.prefix + key
	}
	err := p.store.Delete(ctx, full...)
	var partial *DeleteError
	if !errors.As(err, &partial) {
		return err
	}
	stripped := &DeleteError{Failed: make(map[string]error, len(partial.Failed))}
	for key, err := range partial.Failed {
		stripped.Failed[strings.TrimPrefix(key, p.prefix)] = err
	}
	return stripped
}

// UnquoteETags passes Probe's finding on to the store underneath.
func (p *prefixed) UnquoteETags(unquoted bool) bool { return unquoteETags(p.store, unquoted) }

func (p *prefixed) strip(info Info) Info {
	info.Key = strings.TrimPrefix(info.Key, p.prefix)
	return info
}
