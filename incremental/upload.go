package incremental

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// Uploader writes immutable objects. It may be used concurrently.
type Uploader struct {
	Store objectstore.Store // of the job
}

const (
	uploadTries = 6
	uploadPause = 200 * time.Millisecond // doubled after each try
)

// PutFile stores the first size bytes of f under key, a name that nobody else
// uses, and returns the object with the digest of these bytes, which it reads
// twice. When it returns nil the object is durable.
func (u Uploader) PutFile(ctx context.Context, key string, f io.ReaderAt, size int64) (manifest.Object, error) {
	digest, err := digestOf(f, size)
	if err != nil {
		return manifest.Object{}, fmt.Errorf("read file for %s: %w", key, err)
	}
	o := manifest.Object{Key: key, Size: size, SHA256: digest}
	return o, u.Put(ctx, o, f)
}

func digestOf(f io.ReaderAt, size int64) (d manifest.Digest, err error) {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(f, 0, size))
	if err == nil && n != size {
		err = fmt.Errorf("%w: %d of %d bytes", io.ErrUnexpectedEOF, n, size)
	}
	h.Sum(d[:0])
	return d, err
}

// Put is PutFile for a file whose digest is known: o says all of it.
//
// A write of unknown outcome is settled by reading back. If the object is not
// there it is sent again, under the same name: should the first write still
// arrive, it brings the same bytes.
func (u Uploader) Put(ctx context.Context, o manifest.Object, f io.ReaderAt) error {
	pause := uploadPause
	for try := 1; ; try++ {
		err := u.putOnce(ctx, o, f)
		if !errors.Is(err, objectstore.ErrUnknownOutcome) || try == uploadTries {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		case <-timer.C:
		}
		pause *= 2
	}
}

// putOnce writes the object and returns ErrUnknownOutcome if it is worth
// another try.
func (u Uploader) putOnce(ctx context.Context, o manifest.Object, f io.ReaderAt) error {
	_, err := u.Store.Put(ctx, o.Key, objectstore.FileBody(f, o.Size), objectstore.PutOptions{IfAbsent: true})
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, objectstore.ErrUnknownOutcome) && !errors.Is(err, objectstore.ErrPrecondition):
		return fmt.Errorf("upload %s: %w", o.Key, err)
	}
	readErr := checkStored(ctx, u.Store, o)
	var corrupt *manifest.CorruptError
	switch {
	case readErr == nil:
		return nil
	case errors.Is(readErr, objectstore.ErrNotExist):
		return fmt.Errorf("upload %s: %w: %w", o.Key, objectstore.ErrUnknownOutcome, err)
	case errors.As(readErr, &corrupt):
		return fmt.Errorf("upload %s: %w", o.Key, ErrForeignObject)
	default:
		return fmt.Errorf("upload %s: %w: %w; read back: %w", o.Key, objectstore.ErrUnknownOutcome, err, readErr)
	}
}

// checkStored reads an object back.
func checkStored(ctx context.Context, s objectstore.Store, o manifest.Object) error {
	return fetch(ctx, storeRanges(s), o, io.Discard)
}
