package incremental_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/retention"
)

// backups are those of one database in one process.
type backups struct {
	job   string
	owner *catalog.Owner
	snaps *incremental.Snapshotter
	gc    *retention.Collector
}

// openBackups takes the backups of a database over. store holds nothing else:
// objectstore.Prefix(bucket, job). scratch is on the database's disk.
func openBackups(ctx context.Context, store objectstore.Store, job string, db *pebble.DB, scratch string) (*backups, error) {
	cat := catalog.New(store, job)
	owner, err := cat.TakeOver(ctx, catalog.TakeOverOptions{
		Operators: []catalog.OperatorInfo{{UID: "db", MaxParallelism: 1, Hasher: incremental.WholeHasher}},
	})
	if err != nil {
		return nil, err
	}
	opts := incremental.SnapshotterOptions{
		Store: store, Operator: "db", Epoch: owner.Epoch(), NextID: owner.Head().NextID, Dir: scratch,
	}
	if newest, ok := owner.Head().Newest(); ok {
		m, err := cat.Manifest(ctx, newest)
		if err != nil {
			return nil, err
		}
		opts.Previous = m.Operator("db") // what it holds is not uploaded again
	}
	snaps, err := incremental.NewSnapshotter(db, opts)
	if err != nil {
		return nil, err
	}
	gc := retention.NewCollector(cat, store, retention.CollectorOptions{Epoch: owner.Epoch()})
	if _, err := gc.Sweep(ctx); err != nil { // what a crash left behind
		return nil, err
	}
	return &backups{job: job, owner: owner, snaps: snaps, gc: gc}, nil
}

// backup makes one, keeps the newest three, and deletes what the others held
// alone.
func (b *backups) backup(ctx context.Context) (catalog.Entry, error) {
	var base manifest.ID // 0: there is none
	if newest, ok := b.owner.Head().Newest(); ok {
		base = newest.ID
	}
	id := b.owner.Head().NextID
	snap, err := b.snaps.Snapshot(ctx, incremental.Barrier{ID: id, OldestBase: base})
	if err != nil {
		return catalog.Entry{}, err
	}
	m := incremental.BackupManifest(b.job, b.owner.Epoch(), id, base, snap)
	entry, err := b.owner.Commit(ctx, m, func(h catalog.Head) []manifest.ID {
		return retention.Policy{Keep: 3}.Retire(h.Checkpoints)
	})
	if err != nil {
		return catalog.Entry{}, err // another process has taken over, if it is catalog.ErrFenced
	}
	b.gc.Committed(entry, m)
	_, err = b.gc.Collect(ctx, b.owner.Head())
	return entry, err
}

// restoreBackup makes a database of the newest backup in dir. It is opened
// with the options that the one backed up had.
func restoreBackup(ctx context.Context, store objectstore.Store, job, dir string) (err error) {
	cat := catalog.New(store, job)
	_, entry, err := cat.Resolve(ctx, "latest")
	if err != nil {
		return err
	}
	m, err := cat.Manifest(ctx, entry)
	if err != nil {
		return err
	}
	pin, err := cat.Pin(ctx, entry, 0) // against the retention of a process that goes on
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pin.Release(context.WithoutCancel(ctx))) }()
	kept, cancel := context.WithCancel(pin.Keep(ctx))
	defer cancel()
	_, err = incremental.Restore(kept, incremental.RestoreOptions{
		Store: store, State: *m.Operator("db").Tasks[0].Keyed, Dir: dir,
	})
	return err
}

// A Pebble database that is written to as always is backed up now and then;
// when its disk is lost, it is made anew from the newest backup.
func Example_backup() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "backup")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bucket := objectstore.NewMem() // storeurl.Open(ctx, "s3://bucket/backups?region=eu-central-1", false)
	store := objectstore.Prefix(bucket, "orders")

	db, err := pebble.Open(filepath.Join(dir, "db"), options())
	if err != nil {
		log.Fatal(err)
	}
	b, err := openBackups(ctx, store, "orders", db, filepath.Join(dir, "scratch"))
	if err != nil {
		log.Fatal(err)
	}
	for i := range 5 {
		if err := db.Set(fmt.Appendf(nil, "order-%d", i), []byte("open"), pebble.Sync); err != nil {
			log.Fatal(err)
		}
		if _, err := b.backup(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(len(b.owner.Head().Checkpoints), "backups are kept")
	if err := db.Close(); err != nil {
		log.Fatal(err)
	}

	if err := restoreBackup(ctx, store, "orders", filepath.Join(dir, "restored")); err != nil {
		log.Fatal(err)
	}
	db, err = pebble.Open(filepath.Join(dir, "restored"), options())
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	value, closer, err := db.Get([]byte("order-4"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("order-4 is %s\n", value)
	closer.Close()

	// The new life takes the backups over, and goes on from the newest.
	b, err = openBackups(ctx, store, "orders", db, filepath.Join(dir, "scratch"))
	if err != nil {
		log.Fatal(err)
	}
	entry, err := b.backup(ctx)
	fmt.Println("backup", entry.ID, "of epoch", entry.Epoch, err)
	// Output:
	// 3 backups are kept
	// order-4 is open
	// backup 000000000006 of epoch 0000000002 <nil>
}

// options are the application's own. A MANIFEST is uploaded whole with every
// backup, so it is kept short.
func options() *pebble.Options {
	return &pebble.Options{MaxManifestFileSize: 1 << 20, Logger: silent{}}
}

// silent ends the process in trouble, as Pebble's own logger does.
type silent struct{}

func (silent) Infof(string, ...any)              {}
func (silent) Errorf(string, ...any)             {}
func (silent) Fatalf(format string, args ...any) { log.Fatalf(format, args...) }
