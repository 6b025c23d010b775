// Package objectstore is the few operations ckpt needs from an object store:
// conditional writes of whole objects, ranged reads, ordered listing and
// batched deletion. What the stored bytes mean is left to the packages above.
//
// Two implementations live here, [Mem] for tests and embedded use and
// [Prefix] for a store inside a store; objectstore/s3 and objectstore/file
// hold the durable ones, and objectstore/storetest the suite all of them pass.
package objectstore

import (
	"context"
	"io"
	"iter"
	"time"
)

// Store is an object store, or a part of one. All methods may be called
// concurrently.
//
// Keys are slash-separated, without empty, "." or ".." segments, without a
// leading or trailing slash, each segment at most 255 bytes; [ValidKey] checks
// them. One key is never used as another's directory. A bad key is refused
// with [ErrBadKey] by every method.
type Store interface {
	// Put stores the whole body under key and returns the object's size and
	// ETag. The body may be read several times and in parallel; it belongs to
	// the store until Put returns. When Put returns nil the object is durable
	// and visible to every later call of any process.
	//
	// A Put has three outcomes. nil: done. An error that is
	// [ErrUnknownOutcome]: the write may or may not have happened, or may yet
	// happen; the caller settles it by reading back. Any other error:
	// certainly not done; [ErrPrecondition] if the condition did not hold.
	Put(ctx context.Context, key string, body Body, opts PutOptions) (Info, error)

	// Get opens length bytes of an object from offset on; a negative length
	// means up to its end. A range that reaches past the end is clipped; an
	// offset at or past the end of an object gives an empty reader (for any
	// length) and no error. The Info describes the whole object (Size is the
	// object's, not the range's). The caller closes the reader. A body that
	// the store cut short is resumed or ends with an error, never with io.EOF.
	// A missing object is [ErrNotExist].
	Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, Info, error)

	// Stat describes an object without reading it; ErrNotExist if it is
	// missing.
	Stat(ctx context.Context, key string) (Info, error)

	// List yields the objects whose keys begin with prefix (a string prefix,
	// not a directory; it may be empty or end anywhere) and sort after after,
	// in ascending byte order of their keys. It ends with the first error,
	// yielded with a zero Info: a caller that saw an error has an incomplete
	// list.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Delete removes objects; one that is missing already is no error. On
	// failure of some of them it returns a [*DeleteError] that names those.
	Delete(ctx context.Context, keys ...string) error
}

// Body is the content of a Put.
type Body interface {
	io.ReaderAt
	// Size is the number of bytes to store.
	Size() int64
}

// PutOptions are the conditions of a Put. At most one is set.
type PutOptions struct {
	// IfAbsent makes the Put succeed only if the key holds no object.
	IfAbsent bool
	// IfMatch, if not empty, makes the Put succeed only if the key holds an
	// object with this ETag, as an Info gave it. A missing object is
	// ErrPrecondition too.
	IfMatch string
}

// Info describes an object as the store's answer gave it.
type Info struct {
	Key  string
	Size int64
	// ETag identifies the content for PutOptions.IfMatch. Equal bytes may
	// have equal ETags. It is never a digest to rely on. List may leave it
	// empty.
	ETag string
	// LastModified is the store's time of the write, at a granularity of one
	// second or better. Put need not set it.
	LastModified time.Time
	// Date is the store's own clock when it gave this answer, zero if the
	// answer did not tell. Ages are Date − LastModified, never a comparison
	// with the local clock.
	Date time.Time
}
