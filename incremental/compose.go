package incremental

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ckpt-io/ckpt/manifest"
)

// errNotComposable says that a state has to be copied, and why.
var errNotComposable = errors.New("tables cannot be taken as they are")

// layer is a set of tables that do not overlap. Each layer of a state is newer
// than those before it.
type layer []pebble.ExternalFile

// composition collects what a composed state is made of.
type composition struct {
	*builder
	parts []part
}

// part is that of an object which is in some key groups.
type part struct {
	object remoteObject
	groups manifest.KeyGroupRange
}

// compose makes a database of a state whose tables stay in the store: an empty
// one, into which the parts of them that are in the pieces' key groups are
// ingested as external files, layer by layer from the oldest. It reads tables
// only where Pebble has to look whether two of them overlap.
//
// All keys of an external file get one sequence number, that of its ingest.
// That is right for tables with at most one version of each key, as ingests and
// compactions without snapshots make them, which is how a state database
// changes. What shows that a table is none of these is errNotComposable.
func (b *builder) compose(ctx context.Context, s manifest.KeyedState) error {
	c := &composition{builder: b}
	layers, err := c.layers(s)
	if err != nil {
		return err
	}
	for _, p := range c.parts {
		b.fs.remote.addExternal(b.work.database(), p.object, p.groups)
	}
	begin := time.Now()
	defer func() { b.stats.Open = time.Since(begin) }()
	db, err := openDatabase(b.fs, b.files, b.work.database(), openNew)
	if err != nil {
		return err
	}
	for _, l := range layers {
		if err == nil {
			_, err = db.IngestExternalFiles(ctx, l)
		}
	}
	if err == nil {
		err = db.checkTables(s.KeyGroups)
	}
	return errors.Join(err, db.Close())
}

// layers orders the tables of a state. The pieces have no keys in common, so
// that the first layers of all of them are one, and so on. The state's own
// deltas come last.
func (c *composition) layers(s manifest.KeyedState) (out []layer, err error) {
	for _, p := range s.Pieces {
		piece, err := c.pieceLayers(p)
		if err != nil {
			return nil, fmt.Errorf("key groups %s: %w", p.KeyGroups, err)
		}
		for i, l := range piece {
			if i == len(out) {
				out = append(out, nil)
			}
			out[i] = append(out[i], l...)
		}
	}
	return append(out, c.deltaLayers(s.Deltas, s.KeyGroups)...), nil
}

// pieceLayers are the levels of a base from the lowest up, the tables of level 0
// one by one from the oldest, and the deltas.
func (c *composition) pieceLayers(p manifest.Piece) (out []layer, err error) {
	if p.Base != nil {
		tables, err := c.baseTables(p.Base, p.KeyGroups)
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(tables, func(x, y baseTable) int {
			if x.level != y.level || x.level > 0 {
				return cmp.Compare(y.level, x.level)
			}
			return cmp.Or(cmp.Compare(x.LargestSeqNum, y.LargestSeqNum), cmp.Compare(x.SmallestSeqNum, y.SmallestSeqNum))
		})
		for i, t := range tables {
			if err := t.checkComposable(); err != nil {
				return nil, err
			}
			if i == 0 || t.level == 0 || t.level != tables[i-1].level {
				out = append(out, nil)
			}
			c.parts = append(c.parts, part{t.object, p.KeyGroups})
			out[len(out)-1] = append(out[len(out)-1], t.external(p.KeyGroups))
		}
	}
	return append(out, c.deltaLayers(p.Deltas, p.KeyGroups)...), nil
}

// deltaLayers are one for each delta. What key groups a delta holds is not
// known before it is read: it may be none of the range.
func (c *composition) deltaLayers(deltas []manifest.Delta, r manifest.KeyGroupRange) (out []layer) {
	for _, d := range deltas {
		c.parts = append(c.parts, part{remoteDelta(d), r})
		out = append(out, layer{{
			ObjName: d.Object.Key, Size: uint64(max(1, d.Object.Size)), HasPointKey: true,
			StartKey: groupKey(r.First), EndKey: afterKey(r),
		}})
	}
	return out
}

// checkComposable looks for what a table of a state database never has, as far
// as its bounds tell.
func (t *baseTable) checkComposable() error {
	refuse := func(why string) error { return fmt.Errorf("%w: table %s: %s", errNotComposable, t.FileNum, why) }
	if t.object.Key == "" {
		return refuse("is no object of its own")
	}
	for _, key := range []pebble.InternalKey{t.Smallest, t.Largest} {
		switch key.Kind() {
		case pebble.InternalKeyKindSet, pebble.InternalKeyKindSetWithDelete, pebble.InternalKeyKindDelete:
		case pebble.InternalKeyKindRangeDelete:
			if !key.IsExclusiveSentinel() {
				return refuse("has a range deletion")
			}
		default:
			return refuse(fmt.Sprintf("has a key of kind %s", key.Kind()))
		}
	}
	return nil
}

// external is the part of the table in a range.
func (t *baseTable) external(r manifest.KeyGroupRange) pebble.ExternalFile {
	f := pebble.ExternalFile{
		ObjName: t.object.Key, Size: max(1, t.Size), HasPointKey: true,
		StartKey: t.Smallest.UserKey, EndKey: t.Largest.UserKey, EndKeyIsInclusive: !t.Largest.IsExclusiveSentinel(),
	}
	if first := groupKey(r.First); bytes.Compare(f.StartKey, first) < 0 {
		f.StartKey = first
	}
	if end := afterKey(r); bytes.Compare(f.EndKey, end) >= 0 {
		f.EndKey, f.EndKeyIsInclusive = end, false
	}
	return f
}
