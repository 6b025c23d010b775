package incremental

import (
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
)

// Entry is one changed key of a delta.
type Entry struct {
	Key, Value []byte
	// Delete makes it a tombstone; Value is not looked at.
	Delete bool
}

// DeltaFile is a delta on the local disk.
type DeltaFile struct {
	Path    string
	Size    int64           // of the file
	SHA256  manifest.Digest // of the file
	Entries int64           // tombstones included
	Bytes   int64           // of keys and values before compression
	// Segments and Data let parts of it be read: see manifest.Delta.
	Segments manifest.SegmentDigests
	Data     int64
}

// Delta is the delta at a position, as a manifest has it, once the file is
// stored under key.
func (d DeltaFile) Delta(position uint64, key string) manifest.Delta {
	return manifest.Delta{
		Position: position, Object: manifest.Object{Key: key, Size: d.Size, SHA256: d.SHA256},
		Entries: d.Entries, Bytes: d.Bytes, Segments: d.Segments, Data: d.Data,
	}
}

// WriteDelta writes the entries, in strictly ascending order of their keys, to
// a table at path that can be uploaded and ingested. Keys and values are
// copied before the next entry is asked for. After an error no file is left;
// nor without entries, for Pebble ingests no empty table: Entries is 0 then.
func WriteDelta(fs vfs.FS, path string, entries iter.Seq[Entry]) (DeltaFile, error) {
	return WriteCompressedDelta(fs, path, DefaultCompression, entries)
}

// WriteCompressedDelta is WriteDelta with another compression, a valid one.
func WriteCompressedDelta(fs vfs.FS, path string, c Compression, entries iter.Seq[Entry]) (DeltaFile, error) {
	d, err := writeTable(fs, path, entries, deltaOptions(c))
	if err != nil {
		return DeltaFile{}, fmt.Errorf("write delta: %w", err)
	}
	return d, nil
}

func writeTable(fs vfs.FS, path string, entries iter.Seq[Entry], o sstable.WriterOptions) (d DeltaFile, err error) {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return DeltaFile{}, err
	}
	out := &hashingWritable{Writable: objstorageprovider.NewFileWritable(f), digest: newDigester(true)}
	w := sstable.NewWriter(out, o)
	d = DeltaFile{Path: path}
	for e := range entries {
		if e.Delete {
			err = w.Delete(e.Key)
			d.Bytes += int64(len(e.Key))
		} else {
			err = w.Set(e.Key, e.Value)
			d.Bytes += int64(len(e.Key) + len(e.Value))
		}
		if err != nil {
			break
		}
		d.Entries++
	}
	err = errors.Join(err, w.Close())
	if err != nil || d.Entries == 0 {
		return DeltaFile{}, errors.Join(err, fs.Remove(path))
	}
	sum := out.digest.sum()
	d.Size, d.SHA256, d.Segments = sum.size, sum.sha256, sum.segments
	if meta, err := w.Metadata(); err == nil {
		d.Data = min(int64(meta.Properties.DataSize), d.Size)
	}
	if r, ok := fs.(*RecordFS); ok {
		r.remember(path, sum)
	}
	return d, nil
}

func deltaOptions(c Compression) sstable.WriterOptions {
	o := tableOptions()
	o.Compression = profiles[c]
	o.BlockSize, o.IndexBlockSize = deltaBlockSize, deltaBlockSize
	o.FilterPolicy = bloom.FilterPolicy(deltaFilterBits)
	return o
}

// tableOptions are those of the tables that the database itself writes.
func tableOptions() sstable.WriterOptions {
	opts := PebbleOptions(DBOptions{})
	opts.EnsureDefaults()
	return opts.MakeWriterOptions(0, FormatMajorVersion.MaxTableFormat())
}

// hashingWritable digests what is written to a table as it goes by.
type hashingWritable struct {
	objstorage.Writable
	digest *digester
}

// Write implements objstorage.Writable. It digests first: writing may change p.
func (w *hashingWritable) Write(p []byte) error {
	_, _ = w.digest.Write(p)
	return w.Writable.Write(p)
}
