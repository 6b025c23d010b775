package incremental

import (
	"crypto/sha256"
	"hash"
	"io"

	"github.com/ckpt-io/ckpt/manifest"
)

// digester computes the digest of a file, and those of its segments, as its
// bytes go by. The latter are SHA-256 too: with the instructions for it that is
// faster than any hash in pure Go, and half of it is as hard to meet by a wrong
// object as 128 bits can be.
type digester struct {
	whole    hash.Hash
	size     int64
	segment  hash.Hash // nil: no segments are wanted
	in       int       // bytes of the segment so far
	segments []byte
}

func newDigester(segments bool) *digester {
	d := &digester{whole: sha256.New()}
	if segments {
		d.segment = sha256.New()
	}
	return d
}

// Write implements io.Writer. It returns no error.
func (d *digester) Write(p []byte) (int, error) {
	d.whole.Write(p)
	d.size += int64(len(p))
	for rest := p; d.segment != nil && len(rest) > 0; {
		n := min(len(rest), manifest.SegmentSize-d.in)
		d.segment.Write(rest[:n])
		rest = rest[n:]
		if d.in += n; d.in == manifest.SegmentSize {
			d.cut()
		}
	}
	return len(p), nil
}

// cut ends a segment.
func (d *digester) cut() {
	var sum [sha256.Size]byte
	d.segments = append(d.segments, d.segment.Sum(sum[:0])[:digestSize]...)

	d.segment.Reset()
	d.in = 0
}

// sum ends the file.
func (d *digester) sum() fileDigest {
	if d.in > 0 {
		d.cut()
	}
	out := fileDigest{size: d.size, segments: manifest.SegmentDigests(d.segments)}
	d.whole.Sum(out.sha256[:0])
	return out
}

// digestFile digests the first size bytes of a file.
func digestFile(f io.ReaderAt, size int64, segments bool) (fileDigest, error) {
	d := newDigester(segments)
	n, err := io.Copy(d, io.NewSectionReader(f, 0, size))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return d.sum(), err
}
