package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/file"
	"github.com/ckpt-io/ckpt/objectstore/seal"
)

// seeder commits checkpoints of a job with a source, lines, and a keyed
// operator, count, of two subtasks.
type seeder struct {
	store objectstore.Store
	owner *catalog.Owner
	dir   string // for delta files
	keyed [2]manifest.KeyedState
}

// seed makes checkpoints 1 to n of a job. Checkpoint i has a delta more than
// the one before, in subtask i % 2, with the keys "k<i>" and "shared". parts
// bound what stands in the manifests themselves.
func seed(ctx context.Context, root objectstore.Store, job, tmp string, n int, parts manifest.PartsOptions) error {
	return seedStore(ctx, objectstore.Prefix(root, job), job, tmp, n, parts)
}

// seedStore does so in the job's part of a store.
func seedStore(ctx context.Context, store objectstore.Store, job, tmp string, n int, parts manifest.PartsOptions) error {
	s := &seeder{store: store, dir: tmp}
	s.keyed[0].KeyGroups = manifest.KeyGroupRange{First: 0, Last: 63}
	s.keyed[1].KeyGroups = manifest.KeyGroupRange{First: 64, Last: 127}
	var err error
	s.owner, err = catalog.New(s.store, job).TakeOver(ctx, catalog.TakeOverOptions{Parts: parts, Operators: []catalog.OperatorInfo{
		{UID: "count", MaxParallelism: 128, Hasher: "murmur3-32/1"}, {UID: "lines", MaxParallelism: 1},
	}})
	if err != nil {
		return err
	}
	for id := manifest.ID(1); id <= manifest.ID(n); id++ {
		if err := s.checkpoint(ctx, job, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *seeder) checkpoint(ctx context.Context, job string, id manifest.ID) error {
	subtask := int(id % 2)
	d, err := s.delta(ctx, id, subtask)
	if err != nil {
		return err
	}
	k := &s.keyed[subtask]
	k.Deltas = append(k.Deltas[:len(k.Deltas):len(k.Deltas)], d)
	m := &manifest.Manifest{
		Job: job, ID: id, Epoch: s.owner.Epoch(), Kind: manifest.Periodic, Base: id - 1,
		Time: time.Date(2026, 3, 4, 5, 6, int(id), 0, time.UTC),
		Operators: []manifest.Operator{
			{UID: "count", Parallelism: 2, MaxParallelism: 128, Hasher: "murmur3-32/1", Tasks: []manifest.Task{
				s.task(0, id, d), s.task(1, id, d),
			}},
			{UID: "lines", Parallelism: 1, MaxParallelism: 1, Tasks: []manifest.Task{
				{Splits: []manifest.Split{{ID: "in.txt", Position: []byte("7")}}},
			}},
		},
		Stats: manifest.Stats{
			TMax: 1500 * time.Microsecond, Duration: 2 * time.Millisecond,
			NewBytes: d.Object.Size, FullBytes: d.Object.Size * int64(id), Objects: int64(id),
		},
	}
	_, err = s.owner.Commit(ctx, m, nil)
	return err
}

func (s *seeder) task(index int, id manifest.ID, d manifest.Delta) manifest.Task {
	keyed := s.keyed[index]
	t := manifest.Task{Index: index, Keyed: &keyed}
	t.Stats.Capture = 3 * time.Microsecond
	if index == int(id%2) {
		t.Stats.NewBytes, t.Stats.NewObjects = d.Object.Size, 1
	}
	return t
}

// delta writes and uploads the delta of a checkpoint.
func (s *seeder) delta(ctx context.Context, id manifest.ID, subtask int) (manifest.Delta, error) {
	group := uint16(subtask * 64)
	entries := func(yield func(incremental.Entry) bool) {
		for _, key := range []string{fmt.Sprintf("k%d", id), "shared"} {
			k := append(binary.BigEndian.AppendUint16(nil, group), key...)
			if !yield(incremental.Entry{Key: k, Value: []byte(strconv.Itoa(int(id)))}) {
				return
			}
		}
	}
	path := filepath.Join(s.dir, fmt.Sprintf("%d.sst", id))
	f, err := incremental.WriteDelta(vfs.Default, path, iter.Seq[incremental.Entry](entries))
	if err != nil {
		return manifest.Delta{}, err
	}
	r, err := os.Open(path)
	if err != nil {
		return manifest.Delta{}, err
	}
	defer r.Close()
	name := dataName(id, s.owner.Epoch(), subtask, uint64(id))
	o, err := incremental.Uploader{Store: s.store}.PutFile(ctx, name.Key(), r, f.Size)
	return manifest.Delta{Position: uint64(id), Object: o, Entries: f.Entries, Bytes: f.Bytes}, err
}

func dataName(id manifest.ID, epoch manifest.Epoch, subtask int, n uint64) manifest.DataName {
	return manifest.DataName{ID: id, Epoch: epoch, Operator: "count", Subtask: subtask, N: n, Ext: manifest.ExtSST}
}

func openDir(ts *testscript.TestScript, dir string) *file.Store {
	store, err := file.Open(ts.MkAbs(dir), file.Options{Create: true})
	ts.Check(err)
	return store
}

func scriptSeed(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	tmp, err := os.MkdirTemp("", "seed")
	ts.Check(err)
	defer os.RemoveAll(tmp)
	store := openDir(ts, args[0])
	defer store.Close()
	part, parts := objectstore.Prefix(store, args[1]), manifest.PartsOptions{}
	switch {
	case len(args) > 3 && args[3] == "packed":
		parts.Inline = 1
	case len(args) > 3:
		keys, _, err := seal.LoadKeys(ts.MkAbs(args[3]))
		ts.Check(err)
		part, err = seal.New(part, keys)
		ts.Check(err)
	}
	ts.Check(seedStore(context.Background(), part, args[1], tmp, n, parts))
}

// scriptKeygen puts a new key before those in a key file, as a change of keys
// does.
func scriptKeygen(ts *testscript.TestScript, _ bool, args []string) {
	id, err := age.GenerateX25519Identity()
	ts.Check(err)
	name := ts.MkAbs(args[0])
	old, err := os.ReadFile(name)
	if !errors.Is(err, os.ErrNotExist) {
		ts.Check(err)
	}
	ts.Check(os.WriteFile(name, append([]byte("# a comment\n"+id.String()+"\n"), old...), 0o600))
}

func scriptFence(ts *testscript.TestScript, _ bool, args []string) {
	store := openDir(ts, args[0])
	defer store.Close()
	cat := catalog.New(objectstore.Prefix(store, args[1]), args[1])
	_, err := cat.TakeOver(context.Background(), catalog.TakeOverOptions{})
	ts.Check(err)
}

func scriptOrphan(ts *testscript.TestScript, _ bool, args []string) {
	id, err := strconv.Atoi(args[2])
	ts.Check(err)
	scriptStray(ts, false, []string{args[0], args[1] + "/" + dataName(manifest.ID(id), 1, 0, 99).Key()})
}

func scriptStray(ts *testscript.TestScript, _ bool, args []string) {
	store := openDir(ts, args[0])
	defer store.Close()
	_, err := store.Put(context.Background(), args[1], objectstore.Bytes([]byte("stray")), objectstore.PutOptions{})
	ts.Check(err)
}

// scriptSpoil damages the file of an object behind the store's back.
func scriptSpoil(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[3])
	ts.Check(err)
	id := manifest.ID(n)
	key := dataName(id, 1, n%2, uint64(id)).Key()
	how := args[0]
	switch how {
	case "manifest":
		how, key = "flip", manifest.ManifestKey(id, 1)
	case "pack":
		how, key = "flip", manifest.PackName{ID: id, Epoch: 1}.Key()
	case "remove-pack":
		how, key = "remove", manifest.PackName{ID: id, Epoch: 1}.Key()
	}
	name := filepath.Join(ts.MkAbs(args[1]), args[2], filepath.FromSlash(key))
	data, err := os.ReadFile(name)
	ts.Check(err)
	switch how {
	case "flip":
		data[len(data)/2] ^= 1
		ts.Check(os.WriteFile(name, data, 0o644))
	case "cut":
		ts.Check(os.WriteFile(name, data[:len(data)-1], 0o644))
	case "remove":
		ts.Check(os.Remove(name))
	default:
		ts.Fatalf("spoil: unknown way %q", how)
	}
}

// scriptState opens a directory with plain Pebble.
func scriptState(ts *testscript.TestScript, _ bool, args []string) {
	db, err := pebble.Open(ts.MkAbs(args[0]), &pebble.Options{Logger: quietLogger{}, ErrorIfNotExists: true})
	ts.Check(err)
	defer db.Close()
	it, err := db.NewIter(nil)
	ts.Check(err)
	defer it.Close()
	var b strings.Builder
	for it.First(); it.Valid(); it.Next() {
		key := it.Key()
		fmt.Fprintf(&b, "%d %s=%s\n", binary.BigEndian.Uint16(key), key[2:], it.Value())
	}
	_, err = ts.Stdout().Write([]byte(b.String()))
	ts.Check(err)
}

type quietLogger struct{}

func (quietLogger) Infof(string, ...any)  {}
func (quietLogger) Errorf(string, ...any) {}
func (quietLogger) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func exitText(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return strconv.Itoa(exit.ExitCode())
	}
	return err.Error()
}
