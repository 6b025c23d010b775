package incremental

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// benchMegabytes are the sizes of the states that are restored. CKPT_HEAVY=1
// adds the large ones, which are held in memory.
func benchMegabytes() []int {
	if os.Getenv("CKPT_HEAVY") != "" {
		return []int{100, 500, 1000, 5000}
	}
	return []int{100, 500}
}

const benchValueSize = 200

// delayedState is a state of a base of so many MB and ten deltas that change two
// hundredths of it, all values random, in a store that takes 10 ms to begin an
// answer. It also gives the number of its keys.
func delayedState(b *testing.B, megabytes int) (objectstore.Store, manifest.KeyedState, int) {
	b.Helper()
	mem := objectstore.NewMem()
	fs := NewRecordFS(nil)
	dir := b.TempDir()
	db, err := pebble.Open(filepath.Join(dir, "db"), PebbleOptions(DBOptions{FS: fs, Scheduler: NewCompactions(1).Compactor(true)}))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	ledger := NewLedger(LedgerOptions{Operator: "op", Epoch: 1, NextID: 1, KeyGroups: allGroups})
	const tableKeys = tableSize / (benchValueSize + 8)
	keys := megabytes * 1e6 / (benchValueSize + 8)
	rng := rand.NewChaCha8([32]byte{1})
	table := func(first, step, n int) DeltaFile {
		d, err := WriteDelta(fs, filepath.Join(dir, "table"), func(yield func(Entry) bool) {
			value := make([]byte, benchValueSize)
			for i := range n {
				rng.Read(value)
				if !yield(Entry{Key: benchKey(first + i*step), Value: value}) {
					return
				}
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	for first := 0; first < keys; first += tableKeys {
		d := table(first, 1, min(tableKeys, keys-first))
		if err := db.Ingest(b.Context(), []string{d.Path}); err != nil {
			b.Fatal(err)
		}
	}
	base := benchBase(b, db, fs, ledger, mem)
	state := manifest.KeyedState{KeyGroups: allGroups, Pieces: []manifest.Piece{{KeyGroups: allGroups, Base: &base}}}
	for position := range uint64(10) {
		d := table(int(position), 500, keys/500)
		delta := d.Delta(position+1, ledger.DeltaName(position+1).Key())
		f, err := fs.Open(d.Path)
		if err == nil {
			err = errors.Join(Uploader{mem}.Put(b.Context(), delta.Object, f), f.Close(), fs.Remove(d.Path))
		}
		if err != nil {
			b.Fatal(err)
		}
		state.Deltas = append(state.Deltas, delta)
	}
	return storetest.NewFaulty(mem, 1, storetest.Rule{Op: storetest.Get, Do: storetest.Delay(10 * time.Millisecond)}), state, keys
}

func benchKey(i int) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(i)) // the first two bytes are the key group
}

func benchBase(b *testing.B, db *pebble.DB, fs *RecordFS, ledger *Ledger, store objectstore.Store) manifest.Base {
	b.Helper()
	c, err := CaptureBase(db, fs)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Release()
	if err := ledger.StartBase(0); err != nil {
		b.Fatal(err)
	}
	base, _, err := UploadBase(b.Context(), c, UploadBaseOptions{Uploader: Uploader{store}, Ledger: &lockedLedger{Ledger: ledger}})
	if err != nil {
		b.Fatal(err)
	}
	return base
}

// rawGet is what a restore cannot do without: the objects into files, each
// digested as it comes.
func rawGet(ctx context.Context, store objectstore.Store, state manifest.KeyedState, dir string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	n := 0
	for o := range state.ContentObjects() {
		n++
		path := filepath.Join(dir, strconv.Itoa(n))
		group.Go(func() error {
			r, _, err := store.Get(ctx, o.Key, 0, -1)
			if err != nil {
				return err
			}
			defer r.Close()
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			h := sha256.New()
			_, err = io.CopyBuffer(io.MultiWriter(f, h), struct{ io.Reader }{r}, make([]byte, 256<<10))
			if manifest.Digest(h.Sum(nil)) != o.SHA256 {
				err = errors.Join(err, errors.New("other content"))
			}
			return errors.Join(err, f.Close())
		})
	}
	return group.Wait()
}

// firstRecord restores a state, opens it and reads a key.
func firstRecord(ctx context.Context, store objectstore.Store, state manifest.KeyedState, dir string, lazy bool, key []byte) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	var disk vfs.FS = vfs.Default
	if lazy {
		disk = NewRemoteFS(ctx, nil, store)
	}
	fs := NewRecordFS(disk)
	if _, err := Restore(ctx, RestoreOptions{Store: store, State: state, Dir: dir, FS: fs}); err != nil {
		return 0, err
	}
	db, err := pebble.Open(dir, PebbleOptions(DBOptions{FS: fs, Scheduler: NewCompactions(1).Compactor(true)}))
	if err != nil {
		return 0, err
	}
	_, closer, err := db.Get(key)
	took := time.Since(began)
	if err == nil {
		err = closer.Close()
	}
	return took, errors.Join(err, db.Close())
}

func median(durations []time.Duration) time.Duration {
	slices.Sort(durations)
	return durations[len(durations)/2]
}

// BenchmarkRestoreAgainstRaw compares, in turn, the raw loop, an eager restore to the first
// record and a lazy one. The bars: eager at most 1.25 of raw, lazy at most a
// tenth of eager, and as long for any size.
func BenchmarkRestoreAgainstRaw(b *testing.B) {
	for _, megabytes := range benchMegabytes() {
		b.Run(fmt.Sprintf("%dMB", megabytes), func(b *testing.B) {
			store, state, keys := delayedState(b, megabytes)
			rng := rand.New(rand.NewPCG(1, 1))
			var raw, eager, lazy []time.Duration
			for b.Loop() {
				key := benchKey(rng.IntN(keys))
				for _, i := range rng.Perm(3) { // none always finds the disk as another left it
					dir := b.TempDir()
					var err error
					var took time.Duration
					switch began := time.Now(); i {
					case 0:
						err = rawGet(b.Context(), store, state, dir)
						raw = append(raw, time.Since(began))
					case 1:
						took, err = firstRecord(b.Context(), store, state, filepath.Join(dir, "db"), false, key)
						eager = append(eager, took)
					case 2:
						took, err = firstRecord(b.Context(), store, state, filepath.Join(dir, "db"), true, key)
						lazy = append(lazy, took)
					}
					if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(median(raw).Milliseconds()), "raw-ms")
			b.ReportMetric(float64(median(eager).Milliseconds()), "eager-ms")
			b.ReportMetric(float64(median(lazy).Milliseconds()), "lazy-ms")
			b.ReportMetric(float64(median(eager))/float64(median(raw)), "eager/raw")
			b.ReportMetric(float64(median(lazy))/float64(median(eager)), "lazy/eager")
		})
	}
}
