package incremental

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ckpt-io/ckpt/manifest"
)

// BaseCost is what a base of a database would cost and hold if it was captured
// now. It is an estimate only in that compactions go on.
type BaseCost struct {
	Bytes, Tables       int64 // of all tables of the base
	NewBytes, NewTables int64 // of those that the store does not have
	// L0Tables were not compacted yet: the part of Tables that a read may have
	// to look through one by one.
	L0Tables int64
	// LiveBytes are those of the lowest level, where each key stands once, less
	// what Pebble estimates that tombstones will drop: about what the base would
	// take if all of it was compacted. It is too low while new keys are in the
	// levels above.
	LiveBytes int64
}

// CostOfBase reads no table: it compares the list of the database's tables with
// the digests that fs remembers. A table without one was written by a compaction
// and is in no base yet. find says whether the store has an object of a content
// (see [Ledger.Find]).
func CostOfBase(db *pebble.DB, fs *RecordFS, dir string, find func(size int64, d manifest.Digest) bool) (c BaseCost, err error) {
	levels, err := db.SSTables()
	if err != nil {
		return c, fmt.Errorf("list tables: %w", err)
	}
	backing := make(map[uint64]bool)
	var deleted int64
	for level, tables := range levels {
		var bytes int64
		for _, t := range tables {
			bytes += int64(t.Size)
			deleted += int64(t.TableStats.PointDeletionsBytesEstimate)
			num := uint64(t.BackingSSTNum)
			if !t.Virtual {
				num = uint64(t.FileNum)
			}
			if backing[num] {
				continue // several parts of one file
			}
			backing[num] = true
			c.add(fs, fs.PathJoin(dir, fmt.Sprintf("%06d.sst", num)), int64(t.Size), find)
		}
		if level == 0 {
			c.L0Tables = int64(len(tables))
		}
		if bytes > 0 {
			c.LiveBytes = bytes
		}
	}
	c.LiveBytes = max(c.LiveBytes-deleted, 0)
	return c, nil
}

func (c *BaseCost) add(fs *RecordFS, path string, size int64, find func(int64, manifest.Digest) bool) {
	d, known := fs.digest(path)
	if known {
		size = d.size // of a virtual table's whole file
	}
	c.Bytes += size
	c.Tables++
	if !known || !find(d.size, d.sha256) {
		c.NewBytes += size
		c.NewTables++
	}
}
