package incremental

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ckpt-io/ckpt/manifest"
)

// packing writes what it takes to check parts of a base's tables to packs: a
// pack for every packTables tables that none of the ledger's packs has. So bases
// share the packs of the tables they share, as long as half of a pack is of use.
type packing struct {
	up      *baseUpload
	base    *manifest.Base
	capture *BaseCapture
	worth   map[string]bool // packs that are kept, by key

	// Guarded by the lock of up.
	packs   map[string]int // place in base.Packs, by key; from 1
	pending []packed
}

// packed is what a pack will hold of one file.
type packed struct {
	file  int
	bytes []byte
}

func newPacking(up *baseUpload, c *BaseCapture, b *manifest.Base) *packing {
	p := &packing{up: up, base: b, capture: c, worth: make(map[string]bool), packs: make(map[string]int)}
	used := make(map[string]int64)
	for _, f := range c.Files {
		d, known := c.fs.digest(f.path)
		if f.path == "" || !known {
			continue
		}
		if pack, ref, ok := up.Ledger.FindPack(d.size, d.sha256); ok {
			used[pack.Key] += ref.Length
			p.worth[pack.Key] = 2*used[pack.Key] >= pack.Size
		}
	}
	return p
}

// table sees to it that file i of the base, a table of which r is open, stands
// in a pack. If it cannot be read as it should be it does without.
func (p *packing) table(ctx context.Context, i int, f CapturedFile, r io.ReaderAt, d fileDigest) error {
	segments, remote := p.capture.fs.remoteSegments(f.path)
	if pack, ref, ok := p.up.Ledger.FindPack(d.size, d.sha256); ok && (remote || p.worth[pack.Key]) {
		err := p.up.Ledger.AddFile(pack)
		if err == nil {
			p.refer(i, pack, ref)
			return nil
		}
		if !errors.Is(err, ErrOvertaken) {
			return err
		}
	}
	var entry []byte
	var err error
	if remote {
		entry, err = packRemote(r, d.size, segments)
	} else {
		entry, err = p.capture.packLocal(f.path, r, d)
	}
	if err != nil || entry == nil {
		return err
	}
	return p.add(ctx, packed{i, entry})
}

// packRemote is what a pack holds of a table that is not local, which is a delta
// then: so its end has been fetched and checked. It is nil if the digests of its
// segments are not known.
func packRemote(r io.ReaderAt, size int64, segments manifest.SegmentDigests) ([]byte, error) {
	if segments == "" {
		return nil, nil
	}
	tail := make([]byte, size-tailOf(size))
	if _, err := r.ReadAt(tail, tailOf(size)); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return slices.Concat([]byte(segments), tail), nil
}

// refer enters where file i is packed.
func (p *packing) refer(i int, pack manifest.Object, ref manifest.PackRef) {
	p.up.mu.Lock()
	defer p.up.mu.Unlock()
	if p.packs[pack.Key] == 0 {
		p.base.Packs = append(p.base.Packs, pack)
		p.packs[pack.Key] = len(p.base.Packs)
	}
	ref.Pack = p.packs[pack.Key]
	p.base.Files[i].Pack = ref
}

// add uploads a pack when enough has come together.
func (p *packing) add(ctx context.Context, e packed) error {
	p.up.mu.Lock()
	p.pending = append(p.pending, e)
	var full []packed
	if len(p.pending) == packTables {
		full, p.pending = p.pending, nil
	}
	p.up.mu.Unlock()
	return p.upload(ctx, full)
}

// finish uploads the last pack.
func (p *packing) finish(ctx context.Context) error { return p.upload(ctx, p.pending) }

func (p *packing) upload(ctx context.Context, files []packed) error {
	if len(files) == 0 {
		return nil
	}
	slices.SortFunc(files, func(a, b packed) int { return a.file - b.file })
	content := []byte(packMagic)
	refs := make([]manifest.PackRef, len(files))
	for i, f := range files {
		refs[i] = manifest.PackRef{
			Offset: int64(len(content)), Length: int64(len(f.bytes)), Digest: manifest.SegmentDigestOf(f.bytes),
		}
		content = append(content, f.bytes...)
	}
	r := bytes.NewReader(content)
	d, err := digestFile(r, r.Size(), false)
	if err != nil {
		return err
	}
	o, err := p.up.object(ctx, d, manifest.ExtPack, r)
	if err != nil {
		return fmt.Errorf("upload base: pack: %w", err)
	}
	p.up.Local.keepContent(o, content)
	for i, f := range files {
		p.refer(f.file, o, refs[i])
	}
	return nil
}

// packLocal is what a pack holds of a local table: the digests of its segments
// and its end. It is nil if the latter is not what the former say.
func (c *BaseCapture) packLocal(path string, r io.ReaderAt, d fileDigest) ([]byte, error) {
	segments, err := c.segments(path, r, d)
	if err != nil || segments == "" {
		return nil, err
	}
	tail := tailOf(d.size)
	begin := tail / segmentSize * segmentSize
	end := make([]byte, d.size-begin)
	if _, err := r.ReadAt(end, begin); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	i := int(begin / segmentSize)
	for p := range slices.Chunk(end, segmentSize) {
		if manifest.SegmentDigestOf(p) != segments.At(i) {
			return nil, nil
		}
		i++
	}
	return slices.Concat([]byte(segments), end[tail-begin:]), nil
}

// segments are the digests of a local table's segments, none if its content is
// not what it was.
func (c *BaseCapture) segments(path string, r io.ReaderAt, d fileDigest) (manifest.SegmentDigests, error) {
	if d.segments != "" {
		return d.segments, nil
	}
	again, err := digestFile(r, d.size, true)
	if err != nil || again.sha256 != d.sha256 {
		return "", err // what is stored is right, whatever is here
	}
	c.fs.remember(path, again)
	return again.segments, nil
}
