package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// RestoreMode says when the bytes of a restored state become local.
type RestoreMode string

// The modes. Lazy, the default, opens a store at once: what is read comes from
// the object store, and the rest in the background (see [Store.Hydrated]). Every
// part is compared with its digest before it is used (rule R5). Of state that is
// put together from several bases, after a change of the parallelism, only the
// parts in the task's key groups are fetched, and no new base is made of it
// before they are local. Eager has everything local before the store opens: then
// the object store is not needed to read, but the first read waits for all of the
// state.
const (
	Lazy  RestoreMode = "lazy"
	Eager RestoreMode = "eager"
)

// Hydration describes a lazily restored state that is all local by now.
type Hydration struct {
	Objects, Bytes int64         // that were left in the object store
	Duration       time.Duration // from the opening of the store
}

// HydrationProgress says how much of what a lazy restore left in the object store
// is local by now, in bytes.
type HydrationProgress struct{ Done, Total int64 }

// openDB makes the local directory and leaves none behind if it cannot. What
// goes on after Open has the context background.
func (s *Store) openDB(ctx, background context.Context) (err error) {
	if entries, err := os.ReadDir(s.opts.Dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: %w", s.opts.Dir, incremental.ErrDirNotEmpty)
	}
	opts := incremental.DBOptions{Failed: s.fail, Compacted: s.wakeWorker, Compression: s.opts.Compression, Logger: s.opts.Logger}
	compactions := newCompactions()
	if c := s.opts.Caches; c != nil {
		opts.Cache, opts.FileCache, compactions = c.blocks, c.files, c.compactions
	}
	// Also for other stores: a job goes on when the last one of its tasks does.
	defer compactions.Pause()()
	disk := s.disk()
	if s.opts.Restore == Lazy {
		s.remote = incremental.NewRemoteFS(background, disk, s.opts.limited(objectstore.Urgent))
		s.fs = incremental.NewRecordFS(s.remote)
	} else {
		s.fs = incremental.NewRecordFS(disk)
	}
	if err := s.fs.MkdirAll(s.deltaDir(), 0o777); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(s.opts.Dir))
		}
	}()
	from := manifest.KeyedState{KeyGroups: s.opts.KeyGroups}
	if s.opts.Restored != nil {
		from = *s.opts.Restored
	}
	s.restored, err = incremental.Restore(ctx, incremental.RestoreOptions{
		Store: s.opts.limited(objectstore.Restoring), State: from, Dir: s.dbDir(), FS: s.fs, Local: s.opts.Local,
		FileCache: opts.FileCache,
	})
	if err != nil {
		return err
	}
	if why := s.restored.Copied; why != nil {
		s.opts.Logger.Warn("state of several bases was restored eagerly", "reason", why)
	}
	if r := s.restored; r.LocalObjects+r.LocalDamaged > 0 {
		s.opts.Logger.Info("state restored from local copies", "local_objects", r.LocalObjects, "local_bytes", r.LocalBytes,
			"damaged_copies", r.LocalDamaged, "fetched_objects", r.Objects, "fetched_bytes", r.Bytes, "remote_objects", r.RemoteObjects)
	}
	// A compaction would fetch tables that nobody reads; and Pebble's Open waits
	// for those that it begins.
	s.compactor = compactions.Compactor(true)
	opts.FS, opts.Scheduler = s.fs, s.compactor
	s.db, err = pebble.Open(s.dbDir(), incremental.PebbleOptions(opts))
	if err == nil && !s.isRemote() {
		s.compactor.Let()
	}
	return err
}

// isRemote reports whether tables are to be hydrated.
func (s *Store) isRemote() bool {
	if s.remote == nil {
		return false
	}
	n, _ := s.remote.Left()
	return n > 0 || s.composed()
}

// composed reports whether the database reads parts of tables in the object
// store. They cannot be in a base: until they are local, reports name the
// pieces that the state was put together from.
func (s *Store) composed() bool { return s.remote != nil && s.remote.Composed() }

// hydrate makes what was left in the object store, or in copies, local.
func (s *Store) hydrate(ctx context.Context) {
	began := time.Now()
	objects, bytes := s.remote.Left()
	opts := incremental.HydrateOptions{DB: s.db, Store: s.opts.limited(objectstore.Restoring)}
	if c := s.opts.Caches; c != nil {
		opts.Streams = c.hydrations
	}
	if f := s.opts.OnHydrating; f != nil {
		opts.Progress = func(done, total int64) { f(HydrationProgress{done, total}) }
	}
	err := s.remote.Hydrate(opts)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.fail(err)
		return
	}
	h := Hydration{Objects: objects, Bytes: bytes, Duration: time.Since(began)}
	s.mu.Lock()
	s.ledger.SetRemote(nil)
	s.mu.Unlock()
	s.compactor.Let()
	s.opts.Logger.Info("restored state is all local", "objects", h.Objects, "bytes", h.Bytes, "took", h.Duration)
	if s.opts.OnHydrated != nil {
		s.opts.OnHydrated(h)
	}
	close(s.hydrated)
}

// Hydrated is closed when all of the restored state is local: at once, if it
// was restored eagerly; never, if the store fails or is closed before.
func (s *Store) Hydrated() <-chan struct{} { return s.hydrated }
