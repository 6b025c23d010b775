package incremental

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ckpt-io/ckpt/manifest"
)

// baseTable is a table of a base as its MANIFEST describes it: all of an
// object, or the part within its bounds.
type baseTable struct {
	pebble.SSTableInfo
	level  int
	object remoteObject // zero if the table is no object of its own
}

// overlaps reports whether the table may hold keys of a range.
func (t *baseTable) overlaps(r manifest.KeyGroupRange) bool {
	return bytes.Compare(t.Smallest.UserKey, afterKey(r)) < 0 && bytes.Compare(t.Largest.UserKey, groupKey(r.First)) >= 0
}

// baseTables gives the tables of a base that may hold keys of a range. It reads
// what the MANIFEST says of them, and none of them; the base's other files are
// local.
func (b *builder) baseTables(base *manifest.Base, r manifest.KeyGroupRange) (out []baseTable, err error) {
	b.links++
	dir := b.work.file("metadata-%d", b.links)
	if err := b.fs.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := b.placeBase(dir, base); err != nil {
		return nil, err
	}
	db, err := openDatabase(b.fs, b.files, dir, openToLook)
	if err != nil {
		return nil, err
	}
	levels, err := db.SSTables()
	if err := errors.Join(err, db.Close(), b.fs.RemoveAll(dir)); err != nil {
		return nil, fmt.Errorf("read the MANIFEST of a base: %w", err)
	}
	objects := make(map[string]remoteObject)
	for _, f := range base.Files {
		objects[f.Name] = remoteFileOf(base, f)
	}
	for level, tables := range levels {
		for _, info := range tables {
			t := baseTable{info, level, objects[fmt.Sprintf("%06d.sst", uint64(info.BackingSSTNum))]}
			if t.overlaps(r) {
				out = append(out, t)
			}
		}
	}
	return out, nil
}
