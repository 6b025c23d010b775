package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
	"github.com/ckpt-io/ckpt/bench/internal/load"
	"github.com/ckpt-io/ckpt/bench/internal/peer"
)

const syncRounds = 3

// backup is a peer that brings a directory of database files to the store.
type backup struct {
	name string
	run  func(dir string) error
}

// BenchmarkPeers compares a later checkpoint, 5 % of the state changed since
// the one before, with what others do about the same state: databases of
// Pebble, flushed and checkpointed into a directory, which is then brought to
// the store. The time of the peers is without the flush, which stands apart,
// and so is in their favour.
func BenchmarkPeers(b *testing.B) {
	p := at(b, versitygw)
	measure(b, func() {
		j, prefix := openClone(b, p, materialize{})
		dbs := newDatabases(b, j)
		peers := dbs.peers(b, p)
		must(b, dbs.checkpoint()) // the first one is full for everybody
		for _, peer := range peers {
			must(b, peer.run(dbs.last))
		}
		for round := range syncRounds {
			before := p.counts()
			must(b, j.Change(dbs.changed()))
			c, err := j.Checkpoint(b.Context())
			must(b, err)
			must(b, j.Collect(b.Context()))
			ours := p.counts().Sub(before)
			rec.sample("later checkpoint, requests with retention", round, "requests", float64(ours.Total()), 0)
			rec.sample("later checkpoint, bytes", round, "MB", float64(ours.In)/mb, 0)

			must(b, dbs.change(uint64(round)))
			begin := time.Now()
			must(b, dbs.checkpoint())
			rec.sample("Flush+Checkpoint of all tasks, before any peer begins", round, "s", time.Since(begin).Seconds(), 0)
			for i := range peers {
				peer := peers[(i+round)%len(peers)]
				before := p.counts()
				begin := time.Now()
				must(b, peer.run(dbs.last))
				took, theirs := time.Since(begin), p.counts().Sub(before)
				if peer.name == rcloneTuned {
					rec.sample(figures.RcloneTime, round, "s", c.Total.Seconds(), took.Seconds())
					rec.sample(figures.RcloneReqs, round, "requests", float64(ours.Total()), float64(theirs.Total()))
				}
				rec.sample("later checkpoint, time against "+peer.name, round, "s", c.Total.Seconds(), took.Seconds())
				rec.sample("later checkpoint, requests against "+peer.name, round, "requests", float64(ours.Total()), float64(theirs.Total()))
				rec.sample("later checkpoint, bytes against "+peer.name, round, "MB", float64(ours.In)/mb, float64(theirs.In)/mb)
			}
		}
		dbs.close(b)
		must(b, j.Close())
		p.drop(b, prefix)
	})
	rec.report(b, figures.RcloneTime, "time-ratio")
	rec.report(b, figures.RcloneReqs, "requests-ratio")
}

const rcloneTuned = "rclone sync with its fastest options"

// databases are those of a peer, one a task.
type databases struct {
	dir   string
	dbs   []*peer.Classic
	own   [][]int
	count int
	last  string // directory of the last checkpoint: one a database in it
}

func newDatabases(b *testing.B, j *load.Job) *databases {
	b.Helper()
	d := &databases{own: j.Own}
	var err error
	d.dir, err = os.MkdirTemp(root, "databases")
	must(b, err)
	for i, own := range j.Own {
		d.dbs = append(d.dbs, newClassic(b, filepath.Join(d.dir, fmt.Sprintf("db-%d", i)), own))
	}
	return d
}

// each runs f for all databases at once.
func (d *databases) each(f func(i int) error) error {
	var g errgroup.Group
	for i := range d.dbs {
		g.Go(func() error { return f(i) })
	}
	return g.Wait()
}

// changed is how many entries change between two checkpoints.
func (d *databases) changed() int { return load.Keys(int64(conf.stateMB)*mb) * conf.changed / 100 }

func (d *databases) change(seed uint64) error {
	return d.each(func(i int) error {
		seed := seed<<8 | uint64(i)
		return load.Change(d.dbs[i], d.own[i], d.changed()/len(d.dbs), rand.New(rand.NewPCG(seed, 1)), load.NewValues(seed))
	})
}

// checkpoint makes a new directory of all databases, in place of the last.
func (d *databases) checkpoint() error {
	d.count++
	dir := filepath.Join(d.dir, fmt.Sprintf("checkpoint-%d", d.count))
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	if err := d.each(func(i int) error { return d.dbs[i].Checkpoint(filepath.Join(dir, d.task(i))) }); err != nil {
		return err
	}
	old := d.last
	d.last = dir
	if old == "" {
		return nil
	}
	return os.RemoveAll(old)
}

func (d *databases) task(i int) string { return fmt.Sprintf("task-%d", i) }

// peers are the ways to bring the directory to the store that this machine
// has the programs for.
func (d *databases) peers(b *testing.B, p *place) []backup {
	b.Helper()
	out := []backup{
		{"pebble.Checkpoint and a full copy", func(dir string) error { return d.upload(b, p.raw(false), dir, true) }},
		{"classic incremental", d.incremental(b, p)},
	}
	if binary, err := tools.Find("rclone"); err != nil {
		rec.skip(b, "rclone sync", err)
	} else {
		plain := peer.Rclone{Binary: binary, Endpoint: p.proxy.URL, Prefix: p.fresh("rclone")}
		tuned := plain
		tuned.Prefix, tuned.Tuned = p.fresh("rclone"), true
		out = append(out,
			backup{"rclone sync", func(dir string) error { return plain.Sync(b.Context(), dir) }},
			backup{rcloneTuned, func(dir string) error { return tuned.Sync(b.Context(), dir) }})
	}
	if binary, err := tools.Find("restic"); err != nil {
		rec.skip(b, "restic backup", err)
	} else {
		restic := peer.Restic{Binary: binary, Endpoint: p.proxy.URL, Prefix: p.fresh("restic"), Cache: filepath.Join(d.dir, "restic-cache")}
		must(b, restic.Init(b.Context()))
		out = append(out, backup{"restic backup", func(dir string) error { return restic.Backup(b.Context(), dir) }})
	}
	return out
}

// incremental uploads the new tables of each database to a prefix of its own.
func (d *databases) incremental(b *testing.B, p *place) func(dir string) error {
	raw := p.raw(false)
	return func(dir string) error { return d.upload(b, raw, dir, false) }
}

func (d *databases) upload(b *testing.B, raw peer.Raw, dir string, full bool) error {
	return d.each(func(i int) error {
		own := raw
		own.Prefix += "/" + d.task(i)
		own.Parallel = max(1, raw.Parallel/len(d.dbs))
		if full {
			names, err := os.ReadDir(filepath.Join(dir, d.task(i)))
			if err != nil {
				return err
			}
			var all []string
			for _, e := range names {
				all = append(all, e.Name())
			}
			_, err = own.PutFiles(b.Context(), filepath.Join(dir, d.task(i)), all)
			return err
		}
		_, err := d.dbs[i].Upload(b.Context(), own, filepath.Join(dir, d.task(i)))
		return err
	})
}

func (d *databases) close(b *testing.B) {
	b.Helper()
	var errs []error
	for _, c := range d.dbs {
		errs = append(errs, c.Close())
	}
	must(b, errors.Join(append(errs, os.RemoveAll(d.dir))...))
}
