package incremental

import (
	"context"
	"errors"
	"fmt"

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
	d.work.fs.remember(path, fileDigest{o.Size, o.SHA256})
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

// optional takes an object that may stay in the store only if there is a copy.
func (d *download) optional(ctx context.Context, o manifest.Object) error {
	ok, err := d.local(ctx, o)
	if ok || err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = append(d.left, o.Key)
	d.total -= o.Size
	return nil
}
