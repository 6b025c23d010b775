package incremental

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// parallelHydration is how many tables are hydrated at a time.
const parallelHydration = 4

// HydrateOptions are the arguments of Hydrate.
type HydrateOptions struct {
	// DB is the database that the tables belong to: those of its upper levels
	// come first. nil: by their names. A state of several pieces needs it, and
	// Hydrate then waits until iterators from before its end are closed.
	DB *pebble.DB
	// Store is read from; nil means the file system's. It may be the same with
	// a lower priority: readers never wait for what hydration asked for.
	Store objectstore.Store
	// Parallel is the number of tables fetched at a time; 0 means 4.
	Parallel int
	// Streams, if not nil, bounds the requests of all hydrations that share it.
	Streams *Streams
	// Progress, if not nil, is called after each table, never twice at a time.
	// A table that is removed meanwhile does not count as done.
	Progress func(done, total int64)
}

// Hydrate makes every table local: those that are read first, then the others.
// Before that it fetches what stands of them in packs. Each is compared with its
// digest. It ends with the first error, or with the file system's context. A
// table that is missing or damaged is a *manifest.CorruptError; whatever the
// error, the database must not be used any more.
func (fs *RemoteFS) Hydrate(opts HydrateOptions) error {
	h := &hydration{fs: fs, opts: opts}
	h.queue = fs.order(opts.DB)
	externals := fs.externalTables()
	tables := slices.Clone(h.queue)
	for _, t := range externals {
		tables = append(tables, t.remoteTable)
	}
	for _, t := range tables {
		h.total += t.object.Size
	}
	if opts.Parallel <= 0 {
		opts.Parallel = parallelHydration
	}
	group, ctx := errgroup.WithContext(fs.ctx)
	h.fetcher = fetcher{ctx: ctx, from: fs.from, local: fs.local, streams: opts.Streams, pause: fs.pause}
	if opts.Store != nil {
		h.fetcher.from = fs.local.ranges(storeRanges(opts.Store))
	}
	if err := h.fetcher.unpack(tables); err != nil {
		return fmt.Errorf("hydrate: %w", err)
	}
	if err := h.download(externals, opts.Parallel); err != nil {
		return fmt.Errorf("hydrate: %w", err)
	}
	for range opts.Parallel {
		group.Go(func() error {
			for t := h.next(); t != nil && ctx.Err() == nil; t = h.next() {
				if err := h.table(t); err != nil {
					return fmt.Errorf("hydrate: %w", err)
				}
			}
			return context.Cause(fs.ctx)
		})
	}
	return group.Wait()
}

type hydration struct {
	fs      *RemoteFS
	opts    HydrateOptions
	fetcher fetcher
	queue   []*remoteTable // guarded by the file system's lock

	mu          sync.Mutex
	done, total int64
}

// order sorts the tables by their level in the database.
func (fs *RemoteFS) order(db *pebble.DB) []*remoteTable {
	level := make(map[string]int)
	if db != nil {
		// Without an option that reads properties there is no error.
		levels, _ := db.SSTables()
		for i, tables := range levels {
			for _, t := range tables {
				level[fmt.Sprintf("%06d.sst", uint64(t.BackingSSTNum))] = i
			}
		}
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	queue := slices.DeleteFunc(fs.left(), func(t *remoteTable) bool { return strings.HasSuffix(t.path, externalSuffix) })
	slices.SortFunc(queue, func(a, b *remoteTable) int {
		if d := level[fs.PathBase(a.path)] - level[fs.PathBase(b.path)]; d != 0 {
			return d
		}
		return strings.Compare(a.path, b.path)
	})
	return queue
}

// next takes the table to hydrate next, or none if all are taken.
func (h *hydration) next() *remoteTable {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	for _, list := range []*[]*remoteTable{&h.fs.wanted, &h.queue} {
		for len(*list) > 0 {
			t := (*list)[0]
			*list = (*list)[1:]
			if !t.taken {
				t.taken = true
				return t
			}
		}
	}
	return nil
}

// want makes hydration take the table before those that nobody reads.
func (t *remoteTable) want() {
	if t.read.Swap(true) {
		return
	}
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	if !t.taken {
		t.fs.wanted = append(t.fs.wanted, t)
	}
}

func (h *hydration) table(t *remoteTable) (err error) {
	err = t.complete(h.fetcher)
	if errors.Is(err, errRemoved) {
		return nil
	}
	if err != nil {
		return err
	}
	h.count(t)
	return nil
}

// count enters that what is needed of a table is local.
func (h *hydration) count(t *remoteTable) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done += t.object.Size
	if h.opts.Progress != nil {
		h.opts.Progress(h.done, h.total)
	}
}

// complete makes the table local. What goes wrong is the outcome of every later
// read.
func (t *remoteTable) complete(f fetcher) error {
	t.completing.Lock()
	defer t.completing.Unlock()
	if t.local.Load() {
		return nil
	}
	err := t.acquire()
	if errors.Is(err, errRemoved) {
		return err
	}
	if err == nil {
		err = errors.Join(t.completed(f), t.release())
	}
	if err != nil {
		return t.fail(err)
	}
	return nil
}

func (t *remoteTable) completed(f fetcher) error {
	t.mu.Lock()
	t.learn()
	err := t.err
	t.mu.Unlock()
	if err != nil {
		return err
	}
	if err := t.fill(f, 0, len(t.segments)); err != nil {
		return err
	}
	if err := t.compare(f); err != nil {
		return err
	}
	if err := t.settle(); err != nil {
		return err
	}
	t.fs.local.renew(t.object.Object, t.path)
	return nil
}

// fill fetches what is missing of the segments from one up to another, also if a
// reader does so at the same time.
func (t *remoteTable) fill(f fetcher, from, to int) error {
	for {
		i, end := t.missing(from, to, partSize/segmentSize)
		if i == end {
			return nil
		}
		if err := f.fetch(t, i, end); err != nil {
			return err
		}
		from = end
	}
}

// compare makes sure that the table is what the manifest says. One that nobody
// has read yet, for it can only be checked as a whole, is fetched once more: it
// may have been spoiled on its way.
func (t *remoteTable) compare(f fetcher) error {
	digest, err := digestOf(t, t.object.Size)
	if err == nil && digest != t.object.SHA256 && t.forget() {
		t.fs.local.Drop(t.object.Key, fmt.Errorf("sha256 is %s, want %s", digest, t.object.SHA256))
		if err = t.fill(f, 0, len(t.segments)); err == nil {
			digest, err = digestOf(t, t.object.Size)
		}
	}
	if err == nil && digest != t.object.SHA256 {
		err = t.blame(f, digest)
	}
	return err
}

// forget gives up what was fetched, unless somebody may have read it.
func (t *remoteTable) forget() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opaque {
		clear(t.segments)
	}
	return t.opaque
}

// blame tells an object that is damaged from a local file that is.
func (t *remoteTable) blame(f fetcher, got manifest.Digest) error {
	if err := fetch(f.ctx, f.from, t.object.Object, io.Discard); err != nil {
		return hide(t.object.Key, err)
	}
	return fmt.Errorf("sha256 of object %q as it came is %s, want %s, which it has in the store", t.object.Key, got, t.object.SHA256)
}
