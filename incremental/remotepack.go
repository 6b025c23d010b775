package incremental

import (
	"errors"
	"slices"
	"strings"

	"github.com/ckpt-io/ckpt/manifest"
)

const (
	// tailSize bounds how much of a table's end stands in a pack, see tailOf.
	tailSize = 64 << 10
	// packTables bounds the tables of one pack, and so what is kept in memory to
	// write it and fetched by one request to read it.
	packTables = 64
	// packMagic begins every pack.
	packMagic = "ckptpack\x00\x01"

	digestSize = int64(len(manifest.SegmentDigest{}))
)

// tailOf is where the end of a table begins that stands in a pack: its footer,
// properties and index, for every table that our databases write. Filters do not
// all fit, but the lowest level, where nearly all tables are, is read without
// them. Of a small table it is a small part too.
func tailOf(size int64) int64 { return size - min(size, tailSize, 2<<10+size/16) }

// learn returns when the digests of the table are known or cannot be, with t.mu
// held but for the time it waits. A pack that is missing or damaged is no reason
// to fail: the table is checked as a whole then.
func (t *remoteTable) learn() {
	for t.err == nil && t.digests == "" && !t.opaque {
		if t.learning {
			t.came.Wait()
			continue
		}
		t.learning = true
		t.mu.Unlock()
		p, err := demand(t.fs).bytes(t.object.pack, t.object.ref.Offset, t.object.ref.Length, t.checkPacked)
		if err == nil {
			err = t.learned(p)
		}
		t.mu.Lock()
		t.learning = false
		t.unlearned(err)
		t.came.Broadcast()
	}
}

// unlearned enters why the digests did not come, with t.mu held.
func (t *remoteTable) unlearned(err error) {
	switch {
	case err == nil || t.digests != "":
	case errors.Is(err, manifest.ErrCorrupt):
		t.opaque = true
	case t.err == nil:
		t.err = err
	}
}

func (t *remoteTable) checkPacked(p []byte) error {
	if got := manifest.SegmentDigestOf(p); got != t.object.ref.Digest {
		return &spoiledError{off: t.object.ref.Offset, got: got}
	}
	return nil
}

// learned enters what stood in the pack. The end of the table is written first.
func (t *remoteTable) learned(p []byte) error {
	n := int64(t.object.Segments()) * digestSize
	if int64(len(p)) < n || int64(len(p))-n > t.object.Size {
		return &manifest.CorruptError{Key: t.object.pack.Key, Err: errors.New("digests of another table")}
	}
	digests, tail := manifest.SegmentDigests(p[:n]), p[n:]
	from := t.object.Size - int64(len(tail))
	if err := t.acquire(); err != nil {
		return err
	}
	// Writing may change the slice, which holds other tables' parts too.
	err := errors.Join(t.writeLocal(slices.Clone(tail), from), t.release())
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.digests == "" && !t.opaque {
		t.digests, t.tail = digests, from
		t.came.Broadcast()
	}
	return nil
}

// unpack fetches what stands in packs for tables, in few requests. What does not
// come is left to those who read.
func (f fetcher) unpack(tables []*remoteTable) error {
	tables = slices.DeleteFunc(slices.Clone(tables), func(t *remoteTable) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.digests != "" || t.opaque || t.learning || t.local.Load()
	})
	slices.SortFunc(tables, func(a, b *remoteTable) int {
		if d := strings.Compare(a.object.pack.Key, b.object.pack.Key); d != 0 {
			return d
		}
		return int(a.object.ref.Offset - b.object.ref.Offset)
	})
	for len(tables) > 0 {
		n, end := 1, tables[0].object.ref.Offset+tables[0].object.ref.Length
		for n < len(tables) && adjacent(tables[0], tables[n], end) {
			end = max(end, tables[n].object.ref.Offset+tables[n].object.ref.Length)
			n++
		}
		if err := f.unpackRun(tables[:n], end); err != nil {
			return err
		}
		tables = tables[n:]
	}
	return nil
}

// adjacent reports whether a request for what is packed of a, up to end, should
// bring b too.
func adjacent(a, b *remoteTable, end int64) bool {
	return a.object.pack == b.object.pack && b.object.ref.Offset-end <= tailSize &&
		b.object.ref.Offset+b.object.ref.Length-a.object.ref.Offset <= packTables*(tailSize+tailSize/4)
}

func (f fetcher) unpackRun(tables []*remoteTable, end int64) error {
	if f.streams != nil {
		if err := f.streams.acquire(f.ctx); err != nil {
			return err
		}
		defer f.streams.release()
	}
	begin := tables[0].object.ref.Offset
	part := func(t *remoteTable, p []byte) []byte {
		off := t.object.ref.Offset - begin
		return p[off : off+t.object.ref.Length]
	}
	p, err := f.bytes(tables[0].object.pack, begin, end-begin, func([]byte) error { return nil })
	if err != nil {
		return nil // whoever needs it learns why
	}
	for _, t := range tables {
		if t.checkPacked(part(t, p)) != nil {
			continue
		}
		if err := t.learned(part(t, p)); err != nil && !errors.Is(err, errRemoved) {
			return err
		}
	}
	return f.ctx.Err()
}
