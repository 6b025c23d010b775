package incremental

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/manifest"
)

// HydrateOptions are the arguments of Hydrate.
type HydrateOptions struct {
	// DB is the database that the tables belong to: those of its upper levels
	// come first. nil: by their names.
	DB *pebble.DB
	// Parallel is the number of tables fetched at a time; 0 means 4.
	Parallel int
	// Progress, if not nil, is called after each table, never twice at a time.
	// A table that is removed meanwhile does not count as done.
	Progress func(done, total int64)
}

// Hydrate makes every table local: those that are read first, then the others.
// Each is compared with its digest. It ends with the first error, or with the
// file system's context. A table that is missing or damaged is a
// *manifest.CorruptError; whatever the error, the database must not be used any
// more.
func (fs *RemoteFS) Hydrate(opts HydrateOptions) error {
	h := &hydration{fs: fs, opts: opts}
	h.queue = fs.order(opts.DB)
	for _, t := range h.queue {
		h.total += t.object.Size
	}
	if opts.Parallel <= 0 {
		opts.Parallel = 4
	}
	group, ctx := errgroup.WithContext(fs.ctx)
	for range opts.Parallel {
		group.Go(func() error {
			for t := h.next(); t != nil && ctx.Err() == nil; t = h.next() {
				if err := h.table(t); err != nil {
					return fmt.Errorf("hydrate: %w", err)
				}
			}
			return fs.ctx.Err()
		})
	}
	return group.Wait()
}

type hydration struct {
	fs    *RemoteFS
	opts  HydrateOptions
	queue []*remoteTable // guarded by the file system's lock

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
	queue := make([]*remoteTable, 0, len(fs.tables))
	for _, t := range fs.tables {
		queue = append(queue, t)
	}
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
	err = t.acquire()
	if errors.Is(err, errRemoved) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.release()) }()
	if err := t.fill(); err != nil {
		return err
	}
	if err := t.compare(); err != nil {
		return err
	}
	if err := t.settle(); err != nil {
		return err
	}
	t.fs.local.Keep(t.object, t.path)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done += t.object.Size
	if h.opts.Progress != nil {
		h.opts.Progress(h.done, h.total)
	}
	return nil
}

// fill fetches what is missing.
func (t *remoteTable) fill() error {
	for off := int64(0); off < t.object.Size; off += partSize {
		if err := t.need(off, min(partSize, t.object.Size-off)); err != nil {
			return err
		}
	}
	return nil
}

// compare makes sure that the table is what the manifest says. One that nobody
// has read yet is fetched once more, for it may have been spoiled on its way.
func (t *remoteTable) compare() error {
	for again := true; ; again = false {
		digest, err := digestOf(t, t.object.Size)
		if err != nil || digest == t.object.SHA256 {
			return err
		}
		if !again || !t.forget() {
			return t.fail(t.blame(digest))
		}
		if err := t.fill(); err != nil {
			return err
		}
	}
}

// forget gives up what was fetched, unless somebody may have read it.
func (t *remoteTable) forget() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.read.Load() {
		return false
	}
	clear(t.segments)
	return true
}

// blame tells an object that is damaged from one that was spoiled on its way.
func (t *remoteTable) blame(got manifest.Digest) error {
	if err := checkStored(t.fs.ctx, t.fs.store, t.object); err != nil {
		return t.hide(err)
	}
	return fmt.Errorf("sha256 of object %q as it came is %s, want %s, which it has in the store", t.object.Key, got, t.object.SHA256)
}

// fail makes err the outcome of every later read.
func (t *remoteTable) fail(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	return t.err
}

// settle gives a table that is whole its name. It is opened anew, for the sake
// of systems that do not rename an open file.
func (t *remoteTable) settle() error {
	t.fs.mu.Lock()
	defer t.fs.mu.Unlock()
	if t.fs.tables[t.path] != t {
		return nil // removed meanwhile
	}
	t.handle.Lock()
	defer t.handle.Unlock()
	err := t.file.Close()
	t.file = nil
	if err == nil {
		err = t.fs.FS.Rename(t.partial(), t.path)
	}
	if err == nil {
		t.file, err = t.fs.FS.Open(t.path, vfs.RandomReadsOption)
	}
	if err != nil {
		return t.fail(err)
	}
	t.local.Store(true)
	delete(t.fs.tables, t.path)
	return nil
}
