package incremental

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/manifest"
)

const (
	// inlineSize is the largest file of a base that stands in the manifest, of
	// every checkpoint that names the base.
	inlineSize = 8 << 10
	// inlineMore is what the files above that may take together if they stand
	// there all the same, all but the largest, so that besides its tables a base
	// costs one request at most.
	inlineMore = 64 << 10
)

// BaseLedger is the part of a Ledger that UploadBase needs. Its methods are
// called by several goroutines at a time: an implementation locks.
type BaseLedger interface {
	BeginFile(size int64, digest manifest.Digest, ext string) (manifest.Object, error)
	Find(size int64, digest manifest.Digest) (manifest.Object, bool)
	FindPack(size int64, digest manifest.Digest) (manifest.Object, manifest.PackRef, bool)
	AddFile(manifest.Object) error
}

// UploadBaseOptions are the arguments of UploadBase.
type UploadBaseOptions struct {
	Uploader Uploader
	Ledger   BaseLedger
	// Local, if not nil, keeps copies of the base's objects.
	Local *LocalObjects
	// Position is that of the last delta ingested when the base was captured.
	Position uint64
	// Parallel is the number of uploads at a time; 0 means 4.
	Parallel int
	// Wait, if not nil, is called before each upload with its size and holds
	// it back as long as it likes.
	Wait func(ctx context.Context, size int64) error
	// Whole leaves out what a lazy restore needs of the tables: the database
	// will only be restored as a whole.
	Whole bool
}

// UploadStats say what a base cost.
type UploadStats struct {
	Objects, Bytes int64 // uploaded
	ReusedBytes    int64 // of files that the store had already
}

// UploadBase makes a base of a capture: it uploads the files that the ledger
// has no object of this content for, keeps small ones inline, and enters each
// object in the ledger as soon as it is durable. The caller has begun the base
// there (StartBase) and finishes or cancels it afterwards.
func UploadBase(ctx context.Context, c *BaseCapture, opts UploadBaseOptions) (manifest.Base, UploadStats, error) {
	up := &baseUpload{UploadBaseOptions: opts}
	b := manifest.Base{
		Position:           opts.Position,
		FormatMajorVersion: c.FormatMajorVersion,
		Files:              make([]manifest.File, len(c.Files)),
	}
	if opts.Parallel <= 0 {
		opts.Parallel = 4
	}
	inline := inlined(c.Files)
	packs := newPacking(up, c, &b)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(opts.Parallel)
	for i, f := range c.Files {
		b.Files[i].Name = f.Name
		if f.path == "" && inline[i] {
			b.Files[i].Inline = f.content
			continue
		}
		group.Go(func() (err error) {
			if b.Files[i].Object, err = up.file(groupCtx, packs, i, f); err != nil {
				err = fmt.Errorf("upload base: file %s: %w", f.Name, err)
			}
			return err
		})
	}
	err := group.Wait()
	if err == nil {
		err = packs.finish(ctx)
	}
	if err != nil {
		return manifest.Base{}, up.stats, err
	}
	return b, up.stats, nil
}

// inlined says which files stand in the manifest: of those that are no tables
// the small ones, and the others but the largest if they are not too much.
func inlined(files []CapturedFile) []bool {
	out := make([]bool, len(files))
	largest, more := -1, 0
	for i, f := range files {
		out[i] = f.path == ""
		if n := len(f.content); n > inlineSize {
			more += n
			if largest < 0 || n > len(files[largest].content) {
				largest = i
			}
		}
	}
	if largest < 0 {
		return out
	}
	out[largest] = false
	if more-len(files[largest].content) > inlineMore {
		for i, f := range files {
			out[i] = out[i] && len(f.content) <= inlineSize
		}
	}
	return out
}

type baseUpload struct {
	UploadBaseOptions
	mu    sync.Mutex
	stats UploadStats
}

func (u *baseUpload) file(ctx context.Context, packs *packing, i int, f CapturedFile) (manifest.Object, error) {
	if f.path == "" {
		r, d := bytes.NewReader(f.content), fileDigest{size: int64(len(f.content)), sha256: sha256.Sum256(f.content)}
		o, err := u.object(ctx, d, manifest.ExtPack, r)
		if err == nil {
			u.Local.keepContent(o, f.content)
		}
		return o, err
	}
	c := packs.capture
	r, err := c.fs.Open(f.path)
	if err != nil {
		return manifest.Object{}, err
	}
	defer r.Close()
	d, err := c.digest(f.path, r, !u.Whole)
	if err != nil {
		return manifest.Object{}, err
	}
	o, err := u.object(ctx, d, manifest.ExtSST, r)
	if err != nil {
		return o, err
	}
	u.Local.Keep(o, f.path)
	if !u.Whole {
		err = packs.table(ctx, i, f, r, d)
	}
	return o, err
}

// object finds or uploads one. It is looked for again when a report let go of
// what was found.
func (u *baseUpload) object(ctx context.Context, d fileDigest, ext string, r io.ReaderAt) (manifest.Object, error) {
	for ctx.Err() == nil {
		o, found := u.Ledger.Find(d.size, d.sha256)
		if !found {
			var err error
			if o, err = u.upload(ctx, d, ext, r); err != nil {
				return manifest.Object{}, err
			}
		}
		switch err := u.Ledger.AddFile(o); {
		case err == nil && found:
			u.count(UploadStats{ReusedBytes: d.size})
			return o, nil
		case !errors.Is(err, ErrOvertaken):
			return o, err
		}
	}
	return manifest.Object{}, ctx.Err()
}

func (u *baseUpload) upload(ctx context.Context, d fileDigest, ext string, r io.ReaderAt) (manifest.Object, error) {
	if u.Wait != nil {
		if err := u.Wait(ctx, d.size); err != nil {
			return manifest.Object{}, err
		}
	}
	o, err := u.Ledger.BeginFile(d.size, d.sha256, ext)
	if err != nil {
		return manifest.Object{}, err
	}
	if err = u.Uploader.Put(ctx, o, r); err == nil {
		u.count(UploadStats{Objects: 1, Bytes: d.size})
	}
	return o, err
}

func (u *baseUpload) count(s UploadStats) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stats.Objects += s.Objects
	u.stats.Bytes += s.Bytes
	u.stats.ReusedBytes += s.ReusedBytes
}
