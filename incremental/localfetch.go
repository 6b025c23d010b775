package incremental

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
)

// localUse counts the copies that a restore found.
type localUse struct {
	objects, bytes int64 // taken
	damaged        int64 // not what they should have been
}

// local puts the copy of an object where its download would go, and reports
// whether there is one whose content is right. One that is wrong is removed, so
// that the store is asked from then on.
func (d *download) local(ctx context.Context, o manifest.Object) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	path := d.paths[o.Key]
	err := d.opts.Local.link(o.Key, path)
	if errors.Is(err, errNoCopy) {
		return false, nil
	}
	if err == nil {
		err = d.compare(path, o)
	}
	d.mu.Lock()
	if err == nil {
		d.copied.objects++
		d.copied.bytes += o.Size
	} else {
		d.copied.damaged++
	}
	d.mu.Unlock()
	if err != nil {
		d.opts.Local.Drop(o.Key, err)
		return false, d.work.fs.RemoveAll(path)
	}
	d.work.fs.remember(path, fileDigest{size: o.Size, sha256: o.SHA256})
	d.progress(o.Size)
	return true, nil
}

// compare reads a local file and holds it against the manifest.
func (d *download) compare(path string, o manifest.Object) error {
	f, err := d.work.fs.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != o.Size {
		return fmt.Errorf("size is %d, want %d", info.Size(), o.Size)
	}
	digest, err := digestOf(f, o.Size)
	if err == nil && digest != o.SHA256 {
		err = fmt.Errorf("sha256 is %s, want %s", digest, o.SHA256)
	}
	return err
}

// ranges reads copies, which are not to be trusted, and next where there is none.
func (l *LocalObjects) ranges(next ranges) ranges {
	if l == nil {
		return next
	}
	return func(ctx context.Context, o manifest.Object, off, n int64) (io.ReadCloser, error) {
		f, err := l.open(o)
		if err != nil {
			return next(ctx, o, off, n)
		}
		return &copyReader{SectionReader: io.NewSectionReader(f, off, n), Closer: f, local: l, key: o.Key}, nil
	}
}

// open opens the copy of an object. One of another size is removed.
func (l *LocalObjects) open(o manifest.Object) (vfs.File, error) {
	if !l.has(o.Key) {
		return nil, errNoCopy
	}
	name, _ := localName(o.Key)
	f, err := l.opts.FS.Open(l.path(name), vfs.RandomReadsOption)
	if err != nil {
		l.Drop(o.Key, err)
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != o.Size {
		err = fmt.Errorf("size is %d, want %d", info.Size(), o.Size)
	}
	if err != nil {
		l.Drop(o.Key, err)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// copyReader reads a part of a copy. One that cannot be read is removed, so that
// the next attempt goes to the store.
type copyReader struct {
	*io.SectionReader
	io.Closer
	local *LocalObjects
	key   string
}

// Read implements io.Reader.
func (r *copyReader) Read(p []byte) (int, error) {
	n, err := r.SectionReader.Read(p)
	if err != nil && err != io.EOF {
		r.local.Drop(r.key, err)
	}
	return n, err
}
