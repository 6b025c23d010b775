package incremental

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// whole puts the files of a whole database where they were. Pebble does not
// open it: that takes the comparer and the merger it was made with.
func (b *builder) whole(ctx context.Context, base *manifest.Base) error {
	begin := time.Now()
	for _, f := range base.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.place(base, f, b.fs.PathJoin(b.work.database(), f.Name)); err != nil {
			return fmt.Errorf("place %s: %w", f.Name, err)
		}
	}
	b.stats.Open = time.Since(begin)
	return nil
}

// BackupManifest makes the manifest of a checkpoint that consists of snapshots:
// for those who need no coordinator. id and base are those the snapshots were
// taken with, job and epoch those of the owner that will commit it.
func BackupManifest(job string, epoch manifest.Epoch, id, base manifest.ID, snapshots ...manifest.Operator) *manifest.Manifest {
	m := &manifest.Manifest{
		Job: job, ID: id, Epoch: epoch, Kind: manifest.Periodic, Base: base,
		Operators: slices.SortedFunc(slices.Values(snapshots), func(a, b manifest.Operator) int {
			return cmp.Compare(a.UID, b.UID)
		}),
	}
	for _, op := range m.Operators {
		for _, t := range op.Tasks {
			m.Stats.TMax = max(m.Stats.TMax, t.Stats.Total)
			m.Stats.NewBytes += t.Stats.NewBytes
			size, objects := needed(t.Keyed)
			m.Stats.FullBytes += size
			m.Stats.Objects += objects
		}
	}
	m.Stats.Duration = m.Stats.TMax
	m.Time = time.Now().Add(-m.Stats.Duration).Round(0)
	return m
}
