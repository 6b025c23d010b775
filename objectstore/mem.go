package objectstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mem is a Store in memory. It behaves as the durable ones do, conditions and
// order included; its ETags are hashes of the content, so equal bytes have
// equal ETags.
type Mem struct {
	// Now is the store's clock, time.Now if nil. It is set before first use
	// and may be called concurrently.
	Now func() time.Time

	mu      sync.RWMutex
	objects map[string]memObject
}

// memObject is immutable once stored: readers share data without a lock.
type memObject struct {
	data     []byte
	etag     string
	modified time.Time
}

// NewMem returns an empty store.
func NewMem() *Mem { return &Mem{objects: make(map[string]memObject)} }

// Put implements Store.
func (m *Mem) Put(ctx context.Context, key string, body Body, opts PutOptions) (Info, error) {
	if err := check(ctx, key); err != nil {
		return Info{}, fmt.Errorf("put: %w", err)
	}
	data := make([]byte, body.Size())
	if n, err := body.ReadAt(data, 0); n < len(data) {
		return Info{}, fmt.Errorf("put %q: read body: %w", key, err)
	}
	sum := sha256.Sum256(data)
	obj := memObject{data: data, etag: `"` + hex.EncodeToString(sum[:16]) + `"`}

	m.mu.Lock()
	defer m.mu.Unlock()
	old, exists := m.objects[key]
	if opts.IfAbsent && exists {
		return Info{}, fmt.Errorf("put %q: %w: it exists", key, ErrPrecondition)
	}
	if opts.IfMatch != "" && (!exists || old.etag != opts.IfMatch) {
		return Info{}, fmt.Errorf("put %q: %w: its ETag is %s, not %s", key, ErrPrecondition, old.etag, opts.IfMatch)
	}
	obj.modified = m.now()
	m.objects[key] = obj
	return obj.info(key, obj.modified), nil
}

// Get implements Store.
func (m *Mem) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error) {
	obj, info, err := m.find(ctx, key)
	if err != nil {
		return nil, Info{}, fmt.Errorf("get: %w", err)
	}
	if offset < 0 {
		return nil, Info{}, fmt.Errorf("get %q: negative offset %d", key, offset)
	}
	start := min(offset, info.Size)
	end := info.Size
	if length >= 0 {
		end = start + min(length, info.Size-start)
	}
	return io.NopCloser(bytes.NewReader(obj.data[start:end])), info, nil
}

// Stat implements Store.
func (m *Mem) Stat(ctx context.Context, key string) (Info, error) {
	_, info, err := m.find(ctx, key)
	if err != nil {
		return Info{}, fmt.Errorf("stat: %w", err)
	}
	return info, nil
}

func (m *Mem) find(ctx context.Context, key string) (memObject, Info, error) {
	if err := check(ctx, key); err != nil {
		return memObject{}, Info{}, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	obj, ok := m.objects[key]
	if !ok {
		return memObject{}, Info{}, fmt.Errorf("%q: %w", key, ErrNotExist)
	}
	return obj, obj.info(key, m.now()), nil
}

// List implements Store. It shows the objects as they were when it began.
func (m *Mem) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for _, info := range m.snapshot(prefix, after) {
			if err := ctx.Err(); err != nil {
				yield(Info{}, fmt.Errorf("list %q: %w", prefix, err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (m *Mem) snapshot(prefix, after string) []Info {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var infos []Info
	now := m.now()
	for key, obj := range m.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			infos = append(infos, obj.info(key, now))
		}
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Key, b.Key) })
	return infos
}

// Delete implements Store.
func (m *Mem) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := check(ctx, key); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		delete(m.objects, key)
	}
	return nil
}

func (m *Mem) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

func (o memObject) info(key string, date time.Time) Info {
	return Info{Key: key, Size: int64(len(o.data)), ETag: o.etag, LastModified: o.modified, Date: date}
}

func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%q: %w", key, err)
	}
	return ValidKey(key)
}
