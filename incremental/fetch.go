package incremental

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

const (
	// downloadPart is what one request of a download brings. A table of the
	// database's own has no more; a large delta is fetched in several parts at a
	// time.
	downloadPart = 2 * tableSize
	copySize     = 256 << 10
)

// fetch copies an object to w. It returns nil only if size and digest are
// those of the manifest; a *manifest.CorruptError if they are not or the
// object is missing. Whatever the store holds, no more than o.Size bytes are
// read.
func fetch(ctx context.Context, from ranges, o manifest.Object, w io.Writer) error {
	h := sha256.New()
	if err := fetchPart(ctx, from, o, 0, o.Size, io.MultiWriter(h, w)); err != nil {
		return err
	}
	return checkDigest(o, h)
}

// fetchPart copies n bytes of an object to w, unchecked.
func fetchPart(ctx context.Context, from ranges, o manifest.Object, off, n int64, w io.Writer) error {
	r, err := from(ctx, o, off, n)
	if err != nil {
		return err
	}
	defer r.Close()
	buf := copyBuffers.Get().(*[copySize]byte)
	defer copyBuffers.Put(buf)
	for n > 0 {
		p := buf[:min(copySize, n)]
		switch _, err := io.ReadFull(r, p); {
		case damaged(err):
			return &manifest.CorruptError{Key: o.Key, Err: err}
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return &manifest.CorruptError{Key: o.Key, Err: fmt.Errorf("it ends %d bytes before its end", n)}
		case err != nil:
			return fmt.Errorf("fetch %s: %w", o.Key, err)
		}
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("fetch %s: %w", o.Key, err)
		}
		n -= int64(len(p))
	}
	return nil
}

var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

func checkDigest(o manifest.Object, h hash.Hash) error {
	var got manifest.Digest
	h.Sum(got[:0])
	if got != o.SHA256 {
		return &manifest.CorruptError{Key: o.Key, Err: fmt.Errorf("sha256 of %d bytes is %s, want %s", o.Size, got, o.SHA256)}
	}
	return nil
}

// damaged reports whether an encrypting store found that an object is not what
// it stored.
func damaged(err error) bool {
	return errors.Is(err, objectstore.ErrDamaged) || errors.Is(err, objectstore.ErrNotEncrypted)
}

// download brings objects of a state into the scratch directory, from their
// copies on this machine or else from the store.
type download struct {
	opts    RestoreOptions
	work    *workDir
	from    ranges
	streams *Streams
	paths   map[string]string // of the local file, or of the remote table, by the object's key

	mu          sync.Mutex
	files       int64
	took        time.Duration // of all runs
	done, total int64
	copied      localUse
}

func newDownload(opts RestoreOptions, w *workDir) *download {
	return &download{
		opts: opts, work: w, paths: make(map[string]string),
		from: storeRanges(opts.Store), streams: NewStreams(opts.Parallel),
	}
}

// run downloads those of the objects that it has not downloaded before, and of
// deltas that stay in the store what ingesting them reads.
func (d *download) run(ctx context.Context, needed iter.Seq[manifest.Object], deltas []*remoteTable) error {
	defer func(begin time.Time) { d.took += time.Since(begin) }(time.Now())
	group, ctx := errgroup.WithContext(ctx)
	ends := NewStreams(4 * d.opts.Parallel) // they are small: it is waiting that takes long
	for _, t := range deltas {
		group.Go(func() error { return t.needEnds(ends) })
	}
	var objects []manifest.Object
	for o := range needed {
		if _, ok := d.paths[o.Key]; !ok {
			d.paths[o.Key] = d.work.file("object-%d", len(d.paths))
			objects = append(objects, o)
			d.files++
			d.total += o.Size
		}
	}
	files := make(chan struct{}, d.opts.Parallel) // no more are open
	for _, o := range objects {
		group.Go(func() error {
			files <- struct{}{}
			defer func() { <-files }()
			return d.object(ctx, o)
		})
	}
	return group.Wait()
}

// deltas puts those of a state there as remote tables.
func (d *download) deltas(s manifest.KeyedState) (tables []*remoteTable) {
	deltas := s.Deltas
	for _, p := range s.Pieces {
		deltas = slices.Concat(p.Deltas, deltas)
	}
	for _, delta := range deltas {
		if _, ok := d.paths[delta.Object.Key]; ok {
			continue
		}
		path := d.work.file("object-%d", len(d.paths))
		d.paths[delta.Object.Key] = path
		d.work.fs.addRemote(path, remoteDelta(delta))
		tables = append(tables, d.work.fs.remote.table(path))
	}
	return tables
}

// object brings one, from its copy if that is sound. Content that is not what it
// should be is read once more, for it may have been spoiled on its way.
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

func (d *download) try(ctx context.Context, o manifest.Object) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := d.paths[o.Key]
	if err := d.work.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.work.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w := &downloadFile{d: d, f: f}
	if o.Size <= downloadPart {
		err = w.stream(ctx, o)
	} else {
		err = w.parts(ctx, o)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		d.progress(-w.n)
		return err
	}
	d.work.fs.remember(path, fileDigest{size: o.Size, sha256: o.SHA256})
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

// downloadFile is an object on its way into a file.
type downloadFile struct {
	d *download
	f vfs.File

	mu     sync.Mutex
	n      int64 // bytes written
	hash   hash.Hash
	hashed int64          // so many from the beginning
	came   map[int64]bool // parts that are written and not hashed, by offset
}

func (w *downloadFile) stream(ctx context.Context, o manifest.Object) error {
	if err := w.d.streams.acquire(ctx); err != nil {
		return err
	}
	defer w.d.streams.release()
	return fetch(ctx, w.d.from, o, &partWriter{w: w})
}

// parts fetches several parts at a time. They are digested in order, as they
// come.
func (w *downloadFile) parts(ctx context.Context, o manifest.Object) error {
	w.hash, w.came = sha256.New(), make(map[int64]bool)
	group, ctx := errgroup.WithContext(ctx)
	for off := int64(0); off < o.Size; off += downloadPart {
		group.Go(func() error {
			if err := w.d.streams.acquire(ctx); err != nil {
				return err
			}
			defer w.d.streams.release()
			n := min(downloadPart, o.Size-off)
			if err := fetchPart(ctx, w.d.from, o, off, n, &partWriter{w, off}); err != nil {
				return err
			}
			return w.digest(off, o.Size)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return checkDigest(o, w.hash)
}

// digest enters that a part is written and digests what it can.
func (w *downloadFile) digest(off, size int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.came[off] = true
	for w.came[w.hashed] {
		n := min(downloadPart, size-w.hashed)
		if _, err := io.Copy(w.hash, io.NewSectionReader(w.f, w.hashed, n)); err != nil {
			return err
		}
		w.hashed += n
	}
	return nil
}

// partWriter writes to a file from an offset on.
type partWriter struct {
	w   *downloadFile
	off int64
}

// Write implements io.Writer.
func (p *partWriter) Write(b []byte) (int, error) {
	n, err := p.w.f.WriteAt(b, p.off)
	p.off += int64(n)
	p.w.mu.Lock()
	p.w.n += int64(n)
	p.w.mu.Unlock()
	p.w.d.progress(int64(n))
	return n, err
}
