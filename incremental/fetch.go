package incremental

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// fetch copies an object to w. It returns nil only if size and digest are
// those of the manifest; a *manifest.CorruptError if they are not or the
// object is missing. Whatever the store holds, no more than o.Size bytes are
// read.
func fetch(ctx context.Context, s objectstore.Store, o manifest.Object, w io.Writer) error {
	r, info, err := s.Get(ctx, o.Key, 0, -1)
	if errors.Is(err, objectstore.ErrNotExist) || damaged(err) {
		return &manifest.CorruptError{Key: o.Key, Err: err}
	}
	if err != nil {
		return fmt.Errorf("fetch %s: %w", o.Key, err)
	}
	defer r.Close()
	if info.Size != o.Size {
		return &manifest.CorruptError{Key: o.Key, Err: fmt.Errorf("size is %d, want %d", info.Size, o.Size)}
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(h, w), io.LimitReader(r, o.Size))
	if damaged(err) {
		return &manifest.CorruptError{Key: o.Key, Err: err}
	}
	if err != nil {
		return fmt.Errorf("fetch %s: %w", o.Key, err)
	}
	var got manifest.Digest
	h.Sum(got[:0])
	if n != o.Size || got != o.SHA256 {
		return &manifest.CorruptError{Key: o.Key, Err: fmt.Errorf("sha256 of %d bytes is %s, want %s", n, got, o.SHA256)}
	}
	return nil
}

// damaged reports whether an encrypting store found that an object is not what
// it stored.
func damaged(err error) bool {
	return errors.Is(err, objectstore.ErrDamaged) || errors.Is(err, objectstore.ErrNotEncrypted)
}

// download brings the objects of a state into the scratch directory: from their
// copies on this machine, else from the store. A lazy one leaves the tables of
// its base in the store, unless there is a copy.
type download struct {
	opts  RestoreOptions
	work  *workDir
	lazy  bool
	paths map[string]string // of the local file, by the object's key

	mu          sync.Mutex
	done, total int64
	copied      localUse
	left        []string // keys of objects that stay in the store
}

func (d *download) run(ctx context.Context) error {
	d.paths = make(map[string]string)
	var objects []manifest.Object
	plan := func(o manifest.Object) {
		if _, ok := d.paths[o.Key]; !ok {
			d.paths[o.Key] = d.work.file("object-%d", len(objects))
			objects = append(objects, o)
			d.total += o.Size
		}
	}
	needed := d.opts.State
	if d.lazy {
		needed = withoutTables(needed)
	}
	for o := range needed.NeededObjects() {
		plan(o)
	}
	must := len(objects)
	for o := range d.opts.State.NeededObjects() {
		if d.opts.Local.has(o.Key) {
			plan(o)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(d.opts.Parallel)
	for i, o := range objects {
		group.Go(func() error {
			if i < must {
				return d.object(ctx, o)
			}
			return d.optional(ctx, o)
		})
	}
	err := group.Wait()
	for _, key := range d.left {
		delete(d.paths, key)
	}
	return err
}

// withoutTables leaves the tables of its base out of a whole state.
func withoutTables(s manifest.KeyedState) manifest.KeyedState {
	p := s.Pieces[0]
	base := *p.Base
	base.Files = slices.DeleteFunc(slices.Clone(base.Files), isTable)
	p.Base = &base
	s.Pieces = []manifest.Piece{p}
	return s
}

// object brings one, from its copy if that is sound. Content that is not what it should be is read once
// more, for it may have been spoiled on its way.
func (d *download) object(ctx context.Context, o manifest.Object) error {
	if ok, err := d.local(ctx, o); ok || err != nil {
		return err
	}
	err := d.try(ctx, o)
	if errors.Is(err, manifest.ErrCorrupt) && !errors.Is(err, objectstore.ErrNotExist) {
		err = d.try(ctx, o)
	}
	return err
}

func (d *download) try(ctx context.Context, o manifest.Object) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := d.paths[o.Key]
	f, err := d.work.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w := &progressWriter{d: d, f: f}
	err = fetch(ctx, d.opts.Store, o, w)
	if err = errors.Join(err, f.Close()); err != nil {
		d.progress(-w.n)
		return err
	}
	d.work.fs.remember(path, fileDigest{o.Size, o.SHA256})
	d.opts.Local.Keep(o, path)
	return nil
}

func (d *download) progress(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done += n
	if d.opts.Progress != nil {
		d.opts.Progress(d.done, d.total)
	}
}

type progressWriter struct {
	d *download
	f vfs.File
	n int64
}

func (w *progressWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.n += int64(n)
	w.d.progress(int64(n))
	return n, err
}
