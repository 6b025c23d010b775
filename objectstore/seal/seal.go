// Package seal is a store inside a store that encrypts on this machine what it
// stores: a job's manifests and data. Who may read the bucket sees names,
// sizes and times; who may write to it can delete objects and put old ones
// back under their own names, but not make, change, cut or rename one.
//
// Each object is an age file (age-encryption.org/v1: a key of its own,
// ChaCha20-Poly1305 over chunks of 64 KiB) that the age tool opens too. HEAD,
// pins and probes stay plain: they hold names, sizes, times and key ids, and
// have to be read without a key. Losing the keys loses the checkpoints.
package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/ckpt-io/ckpt/objectstore"
)

// ErrNoKeys refuses to encrypt without keys.
var ErrNoKeys = errors.New("encryption without keys")

// Store is the encrypted part of a store that holds one job's objects
// (objectstore.Prefix(store, job) as a rule): an object opens only under the
// name it has there. It is an [objectstore.KeyHolder].
//
// Sizes in an Info are those of the content. Those of Stat and List follow
// from the sizes of the stored objects and are not authenticated; that of Get
// is.
type Store struct {
	under   objectstore.Store
	keys    *Keys
	headers *headers // shared by what Over returns
}

// New returns the encrypted store within store. It does no I/O; see
// [Store.Check].
func New(store objectstore.Store, keys *Keys) (*Store, error) {
	if keys == nil || len(keys.keys) == 0 {
		return nil, ErrNoKeys
	}
	return &Store{under: store, keys: keys, headers: new(headers)}, nil
}

// KeyIDs implements objectstore.KeyHolder.
func (s *Store) KeyIDs() []string { return s.keys.IDs() }

// Over implements objectstore.Transformer.
func (s *Store) Over(wrap func(under objectstore.Store) objectstore.Store) objectstore.Store {
	return &Store{under: wrap(s.under), keys: s.keys, headers: s.headers}
}

// plain reports whether an object is stored as it is.
func plain(key string) bool {
	return key == "HEAD" || strings.HasPrefix(key, "pins/") || strings.HasPrefix(key, "probe/")
}

// Put implements objectstore.Store. The same content gives other bytes each
// time, so ETags of the store underneath are never equal by content.
func (s *Store) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	if plain(key) {
		return s.under.Put(ctx, key, body, opts)
	}
	return s.putSealed(ctx, key, body, opts)
}

func (s *Store) putSealed(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	if err := objectstore.ValidKey(key); err != nil {
		return objectstore.Info{}, fmt.Errorf("put: %w", err)
	}
	sealed, err := s.keys.seal(key, body)
	if err != nil {
		return objectstore.Info{}, fmt.Errorf("put %q: encrypt: %w", key, err)
	}
	defer sealed.release()
	info, err := s.under.Put(ctx, key, sealed, opts)
	if err != nil {
		return objectstore.Info{}, err
	}
	info.Size = sealed.size
	return info, nil
}

// Stat implements objectstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objectstore.Info, error) {
	info, err := s.under.Stat(ctx, key)
	return content(info), err
}

// List implements objectstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		for info, err := range s.under.List(ctx, prefix, after) {
			if !yield(content(info), err) {
				return
			}
		}
	}
}

// content is the Info of what an object holds. What cannot be one of ours
// keeps its size.
func content(info objectstore.Info) objectstore.Info {
	if size, ok := contentSize(info.Size); ok && !plain(info.Key) {
		info.Size = size
	}
	return info
}

// Delete implements objectstore.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	return s.under.Delete(ctx, keys...)
}

// UnquoteETags passes what objectstore.Probe found on to the store underneath.
func (s *Store) UnquoteETags(unquoted bool) bool {
	u, ok := s.under.(objectstore.ETagUnquoter)
	return ok && u.UnquoteETags(unquoted)
}

// Get implements objectstore.Store. It asks the store for the chunks that hold
// the range; the first read of an object past its first chunk takes one more
// request, for the header, which is then remembered. Its errors match
// ErrNotEncrypted, ErrKey and ErrDamaged, those of the reader ErrDamaged.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	if plain(key) {
		return s.under.Get(ctx, key, offset, length)
	}
	return s.getSealed(ctx, key, offset, length)
}

func (s *Store) getSealed(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	if offset < 0 {
		return nil, objectstore.Info{}, fmt.Errorf("get %q: negative offset %d", key, offset)
	}
	r, info, err := s.get(ctx, key, offset, length)
	if errors.Is(err, objectstore.ErrNotExist) && !errors.Is(err, objectstore.ErrDamaged) {
		return nil, objectstore.Info{}, err
	}
	if err != nil {
		return nil, objectstore.Info{}, fmt.Errorf("get %q: %w", key, err)
	}
	return r, info, nil
}

// replacedTries bounds how often an object may be replaced while it is read.
const replacedTries = 5

var errReplaced = fmt.Errorf("%w: the object is replaced again and again", objectstore.ErrUnavailable)

func (s *Store) get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	for range replacedTries {
		object := s.headers.get(key)
		if object == nil && offset < chunkSize {
			return s.getFromStart(ctx, key, offset, length)
		}
		if object == nil {
			var err error
			if object, err = s.readHeader(ctx, key); err != nil {
				return nil, objectstore.Info{}, err
			}
		}
		r, info, err := s.getRange(ctx, key, object, offset, length)
		if err != errReplaced {
			return r, info, err
		}
		s.headers.forget(key)
	}
	return nil, objectstore.Info{}, errReplaced
}

// getFromStart reads header and chunks in one request.
func (s *Store) getFromStart(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	want := int64(-1)
	if length >= 0 && length < maxSize {
		want = headerSize + (offset+max(length, 1)+chunkSize-1)/chunkSize*encChunk
	}
	src, info, err := s.under.Get(ctx, key, 0, want)
	if err != nil {
		return nil, info, err
	}
	object, err := s.header(src, key, &info)
	if err != nil {
		src.Close()
		return nil, info, err
	}
	return newReader(src, object, offset, length, 0), info, nil
}

// readHeader reads and remembers the header of an object.
func (s *Store) readHeader(ctx context.Context, key string) (*opened, error) {
	src, info, err := s.under.Get(ctx, key, 0, headerSize)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return s.header(src, key, &info)
}

// header reads the header from the beginning of a body and checks it against
// the stored size, whose place in info the content's takes.
func (s *Store) header(src io.Reader, key string, info *objectstore.Info) (*opened, error) {
	var buf [headerSize]byte
	b := buf[:min(headerSize, info.Size)]
	if _, err := io.ReadFull(src, b); err != nil {
		return nil, cut(err)
	}
	object, err := s.keys.open(b, key)
	if err != nil {
		return nil, err
	}
	if err := object.check(info); err != nil {
		return nil, err
	}
	if object.etag = info.ETag; object.etag != "" {
		s.headers.put(key, object)
	}
	return object, nil
}

// check compares the stored size with what the header says.
func (o *opened) check(info *objectstore.Info) error {
	if info.Size != storedSize(o.size) {
		return fmt.Errorf("%w: it has %d bytes, not %d", objectstore.ErrDamaged, info.Size, storedSize(o.size))
	}
	info.Size = o.size
	return nil
}

// getRange reads the chunks that hold a range; errReplaced if the object is
// not the one whose header was read.
func (s *Store) getRange(ctx context.Context, key string, object *opened, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	start, end := clip(object.size, offset, length)
	first, last := start/chunkSize, max(start, end-1)/chunkSize
	from := min(headerSize+first*encChunk, storedSize(object.size))
	src, info, err := s.under.Get(ctx, key, from, (last-first+1)*encChunk)
	if err != nil {
		return nil, info, err
	}
	if info.ETag != object.etag {
		src.Close()
		return nil, info, errReplaced
	}
	if err := object.check(&info); err != nil {
		src.Close()
		return nil, info, err
	}
	return newReader(src, object, offset, length, first), info, nil
}

// clip is the part of a range that lies within the content.
func clip(size, offset, length int64) (start, end int64) {
	start, end = min(offset, size), size
	if length >= 0 {
		end = start + min(length, size-start)
	}
	return start, end
}

// newReader reads a range from a body that begins with chunk first, which is
// that of the range's beginning, or one before it.
func newReader(src io.ReadCloser, object *opened, offset, length, first int64) *reader {
	start, end := clip(object.size, offset, length)
	return &reader{src: src, object: object, next: first, skip: int(start - first*chunkSize), left: end - start}
}
