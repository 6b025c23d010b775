package incremental

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/manifest"
)

// span is the bytes of an object from one offset up to another.
type span struct{ off, end int64 }

// prefetch fetches the parts of the external tables that their database needs,
// so many tables at a time.
func (h *hydration) prefetch(tables []*externalTable, parallel int) error {
	group, ctx := errgroup.WithContext(h.fetcher.ctx)
	group.SetLimit(parallel)
	for _, t := range tables {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := t.prefetch(h.fetcher); err != nil {
				return err
			}
			h.count(t.remoteTable)
			return nil
		})
	}
	return group.Wait()
}

func (fs *RemoteFS) externalTables() []*externalTable {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var out []*externalTable
	for _, t := range fs.externals {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *externalTable) int { return cmp.Compare(a.path, b.path) })
	return out
}

func (t *externalTable) prefetch(f fetcher) (err error) {
	if err := t.acquire(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.release()) }()
	useful, err := t.locate()
	if err != nil {
		return fmt.Errorf("object %q: %w", t.object.Key, err)
	}
	for _, s := range useful {
		if err := t.fetch(f, s); err != nil {
			return err
		}
	}
	t.useful.Store(&useful)
	return nil
}

// fetch brings a span, after what there is to check it by is known.
func (t *externalTable) fetch(f fetcher, s span) error {
	if t.local.Load() {
		return nil
	}
	t.mu.Lock()
	end := min(s.end, t.tail)
	t.mu.Unlock()
	if end <= s.off {
		return nil
	}
	return t.fill(f, int(s.off/segmentSize), int((end-1)/segmentSize)+1)
}

// locate finds the bytes of the table that hold its parts, by its index, and
// those that are not data.
func (t *externalTable) locate() (useful []span, err error) {
	opts := PebbleOptions(DBOptions{})
	opts.EnsureDefaults()
	r, err := sstable.NewReader(t.fs.ctx, tableReadable{t}, opts.MakeReaderOptions())
	if err != nil {
		return nil, t.blameBlocks(err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	props, err := r.ReadPropertiesBlock(t.fs.ctx, nil)
	if err != nil {
		return nil, t.blameBlocks(err)
	}
	if props.ValueBlocksSize > 0 { // values apart from their keys: where is not known
		return []span{{0, t.object.Size}}, nil
	}
	layout, err := r.Layout()
	if err != nil {
		return nil, t.blameBlocks(err)
	}
	data := int64(props.DataSize)
	for _, part := range t.parts {
		// The size of the blocks from a key on, or between two keys, is exact
		// without values apart from their keys.
		from, err := r.EstimateDiskUsage(groupKey(part.First), lastKey, sstable.NoReadEnv)
		if err != nil {
			return nil, t.blameBlocks(err)
		}
		n, err := r.EstimateDiskUsage(groupKey(part.First), afterKey(part), sstable.NoReadEnv)
		if err != nil {
			return nil, t.blameBlocks(err)
		}
		off := data - int64(from)
		useful = append(useful, span{off, nextBlock(layout, off+int64(n))})
	}
	useful = append(useful, span{data, t.object.Size})
	slices.SortFunc(useful, func(a, b span) int { return cmp.Compare(a.off, b.off) })
	return useful, nil
}

// nextBlock is where the data block from an offset on ends, or the offset if
// there is none: Pebble may look there whether a range ends.
func nextBlock(l *sstable.Layout, off int64) int64 {
	for _, b := range l.Data {
		if int64(b.Offset) >= off {
			return int64(b.Offset + b.Length + block.TrailerLen)
		}
	}
	return off
}

// blameBlocks names the object of a table that does not read as one.
func (t *externalTable) blameBlocks(err error) error {
	if pebble.IsCorruptionError(err) {
		return &manifest.CorruptError{Key: t.object.Key, Err: err}
	}
	return err
}

// readAt reads the bytes at an offset. Pebble reads ahead by megabytes, past
// the part that its table has bounds for. What it will not look at is not
// fetched and stays zero, which is no block's content.
func (t *externalTable) readAt(p []byte, off int64) error {
	end := off + int64(len(p))
	for _, s := range t.wanted(off, end) {
		if err := t.need(s.off, s.end-s.off); err != nil {
			return err
		}
		if _, err := t.ReadAt(p[s.off-off:s.end-off], s.off); err != nil {
			return err
		}
		clear(p[s.end-off:])
	}
	return nil
}

// wanted are the useful bytes from off to end; all of them if it is not known
// which those are, or if the first is none of them.
func (t *externalTable) wanted(off, end int64) (out []span) {
	useful := t.useful.Load()
	if useful == nil || !slices.ContainsFunc(*useful, func(s span) bool { return s.off <= off && off < s.end }) {
		return []span{{off, end}}
	}
	for _, s := range *useful {
		if s := (span{max(s.off, off), min(s.end, end)}); s.off < s.end {
			out = append(out, s)
		}
	}
	return out
}

// tableReadable is an external table as Pebble's reader of tables takes it.
type tableReadable struct{ t *externalTable }

// ReadAt implements objstorage.Readable.
func (r tableReadable) ReadAt(_ context.Context, p []byte, off int64) error {
	return r.t.readAt(p, off)
}

// Close implements objstorage.Readable.
func (r tableReadable) Close() error { return nil }

// Size implements objstorage.Readable.
func (r tableReadable) Size() int64 { return r.t.object.Size }

// NewReadHandle implements objstorage.Readable.
func (r tableReadable) NewReadHandle(objstorage.ReadBeforeSize) objstorage.ReadHandle {
	h := objstorage.MakeNoopReadHandle(r)
	return &h
}
