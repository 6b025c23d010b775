package state

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// The bounds of a store if Options do not say.
const (
	DefaultOverlayBytes   = 128 << 20
	DefaultMaxUnsentBytes = 1 << 30

	minOverlayBytes = 64 << 10
	maxOverlayBytes = 16 << 30 // half of what an arena can address
)

// Options say whose state a Store is and where it lives.
type Options struct {
	// Operator, Subtask and KeyGroups name the task.
	Operator  string
	Subtask   int
	KeyGroups manifest.KeyGroupRange
	// Epoch and NextID are the job's at this start: uploads carry them in
	// their names. NextID is above every id that an earlier epoch used.
	Epoch  manifest.Epoch
	NextID manifest.ID
	// Restored is the state to begin with; nil is empty. A range other than
	// KeyGroups is to be rescaled by incremental.Rescale before.
	Restored *manifest.KeyedState
	// Reserved are the objects that the restored checkpoint reserved for this
	// very task (same range), so that an unfinished materialization goes on.
	Reserved []manifest.Object
	// KeyCodec names the codec of the keys given to SetKey; it is recorded
	// with each state so that a change is refused. Empty: not recorded.
	KeyCodec string

	// Store is the job's part of the object store.
	Store objectstore.Store
	// Limiter shares out what may be read from and written to Store; nil means
	// no limits. Deltas and reads of what is not local are Urgent.
	Limiter *objectstore.Limiter
	// Dir is the store's own local directory. It must be missing or empty;
	// Close removes it.
	Dir string
	// OverlayBytes bounds the memory of what was written and is not in the
	// local database yet, from 64 KiB to 16 GiB. At half of it the changes are
	// spilled to disk without waiting for a capture, so that the other half
	// can fill meanwhile. What is left of it keeps the last few overlays readable
	// that the local database has already. 0 means DefaultOverlayBytes.
	OverlayBytes int64
	// Caches are shared by all stores of a process; nil means small ones of
	// its own.
	Caches *Caches
	// Local, if not nil, has copies of the job's objects for a faster restore,
	// and keeps those that this store uploads or fetches. It is shared by the
	// stores of a job and is on the same file system as Dir.
	Local *incremental.LocalObjects
	// Materialize says when a new base replaces the deltas.
	Materialize MaterializePolicy
	// OnBase, if set, is called when a base that was begun is complete or has
	// failed, from another goroutine. It must not call the store.
	OnBase func(Materialization)
	// MaxUnsentBytes bounds the local disk that deltas take which are not
	// durable in the object store yet, while that is slow or out of reach. From
	// there on no further overlay is written to disk, so that the writer is held
	// back once OverlayBytes are in use, and nothing is lost; the deltas are sent
	// again every second, and the writer goes on when there is room. One overlay
	// more than that may be on disk. 0 means DefaultMaxUnsentBytes.
	MaxUnsentBytes int64
	// Compression is that of all tables, deltas and bases; tables that were
	// written with another one stay as they are until they are compacted. Empty
	// means Zstd1.
	Compression Compression
	// Restore is Lazy or Eager; empty means Lazy.
	Restore RestoreMode
	// OnHydrating, if set, is called as a lazily restored state becomes local,
	// from another goroutine, never twice at a time. It must not call the store.
	OnHydrating func(HydrationProgress)
	// OnHydrated, if set, is called once when all of a lazily restored state
	// is local, from another goroutine. It must not call the store.
	OnHydrated func(Hydration)
	// Logger is silent if nil.
	Logger *slog.Logger
	// OnFailure, if set, is called once, from any goroutine, when the store
	// has failed and every further call will return the same error. It must
	// not call the store.
	OnFailure func(error)

	retryUnsent time.Duration // while MaxUnsentBytes are in use; 0 means a second

	fs vfs.FS // of Dir; nil means the operating system's
}

// Compression is how stored state is compressed.
type Compression = incremental.Compression

// The compressions. What they cost and save stands in docs/materialization.md.
const (
	NoCompression = incremental.NoCompression
	Snappy        = incremental.Snappy
	Zstd1         = incremental.Zstd1
	Zstd3         = incremental.Zstd3
	Zstd5         = incremental.Zstd5
)

// MaterializePolicy says when the deltas of a state are replaced by a new base:
// when a restore would read too much or too many objects, and what the base
// costs fits in with what was changed. How the defaults were found stands in
// docs/materialization.md.
type MaterializePolicy struct {
	// MaxDeltas is the number of deltas from which a new base is begun as soon
	// as MaxUploads allows it; at four times that number, it is begun at any
	// cost. 0 means 30; negative means without bound.
	MaxDeltas int
	// MaxUploads bounds the bytes uploaded, deltas and bases together, by a
	// multiple of the keys and values changed, before compression. A base that
	// saves a restore as much as it costs is within the bound in any case, which
	// makes it 2 where compression gains nothing. 0 means 1.5; negative means
	// without bound.
	MaxUploads float64
	// MaxReads begins a new base when a restore would read more than this
	// multiple of the live state as it is stored, if MaxUploads allows it. 0
	// means 1.9; negative means without bound.
	MaxReads float64
	// MinBytes of deltas are never worth a base by their size alone. 0 means
	// 8 MiB.
	MinBytes int64
}

// limited is the object store for transfers of one class.
func (o *Options) limited(class objectstore.Class) objectstore.Store {
	return objectstore.Limit(o.Store, o.Limiter, class)
}

// withDefaults refuses bad values with all reasons at once.
func (o *Options) withDefaults() (Options, error) {
	out := *o
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !manifest.ValidUID(o.Operator) {
		refuse("operator uid %q is not valid", o.Operator)
	}
	if o.Subtask < 0 {
		refuse("subtask %d is negative", o.Subtask)
	}
	if o.KeyGroups.First > o.KeyGroups.Last {
		refuse("key groups %v are empty", o.KeyGroups)
	}
	if o.NextID == 0 {
		refuse("next id is 0: ids begin at 1")
	}
	if o.Restored != nil && o.Restored.KeyGroups != o.KeyGroups {
		refuse("restored key groups %v are not those of the task, %v", o.Restored.KeyGroups, o.KeyGroups)
	}
	if o.Store == nil {
		refuse("no object store")
	}
	if o.Dir == "" {
		refuse("no directory")
	}
	if out.OverlayBytes == 0 {
		out.OverlayBytes = DefaultOverlayBytes
	}
	if out.OverlayBytes < minOverlayBytes || out.OverlayBytes > maxOverlayBytes {
		refuse("overlay bytes %d: want %d to %d", o.OverlayBytes, minOverlayBytes, int64(maxOverlayBytes))
	}
	if out.Logger == nil {
		out.Logger = slog.New(slog.DiscardHandler)
	}
	switch out.Restore {
	case Lazy, Eager:
	case "":
		out.Restore = Lazy
	default:
		refuse("restore mode %q: want %q or %q", o.Restore, Lazy, Eager)
	}
	if err := o.Compression.Validate(); err != nil {
		errs = append(errs, err)
	}
	if out.MaxUnsentBytes == 0 {
		out.MaxUnsentBytes = DefaultMaxUnsentBytes
	}
	if out.MaxUnsentBytes < 0 {
		refuse("unsent bytes %d: want 0 or more", o.MaxUnsentBytes)
	}
	if out.retryUnsent == 0 {
		out.retryUnsent = time.Second
	}
	m := &out.Materialize
	if m.MaxDeltas == 0 {
		m.MaxDeltas = 30
	}
	if m.MaxUploads == 0 {
		m.MaxUploads = 1.5
	}
	if m.MaxReads == 0 {
		m.MaxReads = 1.9
	}
	if m.MinBytes == 0 {
		m.MinBytes = 8 << 20
	}
	return out, errors.Join(errs...)
}
