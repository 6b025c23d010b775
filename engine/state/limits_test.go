//go:build unix

package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/file"
)

// raceDetector takes memory of its own.
var raceDetector bool

// heavy says whether tests run in their full size.
func heavy() bool { return os.Getenv("CKPT_HEAVY") != "" }

// inChild runs the calling test once more, in a process of its own that a
// shell command has limited, and reports whether this is that process.
func inChild(t *testing.T, limit string, env ...string) bool {
	t.Helper()
	if os.Getenv("CKPT_TEST_CHILD") == t.Name() {
		return true
	}
	timeout := "-test.timeout=5m"
	if heavy() {
		timeout = "-test.timeout=60m"
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", limit+`; exec "$0" "$@"`,
		os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", timeout)
	cmd.Env = append(append(os.Environ(), "CKPT_TEST_CHILD="+t.Name()), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("limited by %q: %v\n%s", limit, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "_test.go:") {
			t.Log(strings.TrimSpace(line))
		}
	}
	return false
}

// F80: with 256 open files a state of thousands of tables is restored, read,
// checkpointed and made a base of.
func TestF80_FewOpenFiles(t *testing.T) {
	if !inChild(t, "ulimit -n 256") {
		return
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur != 256 {
		t.Fatalf("%d open files are allowed (%v)", limit.Cur, err)
	}
	tables := 2000
	if heavy() {
		tables = 10_000
	}
	objects := objectstore.NewMem()
	from := manyTables(t, objects, tables)
	caches := NewCaches(1<<20, 64) // as the engine shares them out
	defer caches.Close()
	for _, mode := range []RestoreMode{Eager, Lazy} {
		s, err := Open(t.Context(), Options{
			Operator: "count", KeyGroups: testGroups, Epoch: 2, NextID: 10, Restored: from, Store: objects,
			Dir: filepath.Join(t.TempDir(), "s"), Caches: caches, Restore: mode, Materialize: MaterializePolicy{MaxDeltas: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for g := testGroups.First; g <= testGroups.Last; g++ {
			err = errors.Join(err, s.Scan([]byte{0, byte(g)}, func([]byte, []byte) bool { n++; return true }))
		}
		if err != nil || n != tables {
			t.Errorf("%s: %d entries of %d: %v", mode, n, tables, err)
		}
		rng := rand.New(rand.NewPCG(80, 1))
		for range tables {
			if _, ok, err := s.Get(tableKey(rng.IntN(tables))); !ok || err != nil {
				t.Fatalf("%s: there %t, %v", mode, ok, err)
			}
		}
		<-s.Hydrated()
		for id := manifest.ID(10); id < 13; id++ {
			if err := s.Put(tableKey(int(id)), []byte("changed")); err != nil {
				t.Fatal(err)
			}
			if _, _, _, err := s.Capture(Trigger{ID: id, OldestBase: id - 1}).Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func tableKey(i int) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, byte(i % 3), 1, 'n'}, uint32(i))
}

// manyTables makes a base of n tables of one entry each.
func manyTables(t *testing.T, objects objectstore.Store, n int) *manifest.KeyedState {
	t.Helper()
	dir := t.TempDir()
	fs := incremental.NewRecordFS(nil)
	opts := incremental.PebbleOptions(incremental.DBOptions{FS: fs})
	opts.MaxOpenFiles = 100
	db, err := pebble.Open(filepath.Join(dir, "db"), opts)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for i := range n {
		path := filepath.Join(dir, strconv.Itoa(i))
		if _, err := incremental.WriteDelta(fs, path, slices.Values([]incremental.Entry{{Key: tableKey(i), Value: []byte("v")}})); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	if err := db.Ingest(t.Context(), paths); err != nil {
		t.Fatal(err)
	}
	files, err := incremental.CaptureBase(db, fs)
	if err != nil {
		t.Fatal(err)
	}
	ledger := incremental.NewLedger(incremental.LedgerOptions{Operator: "count", Epoch: 1, NextID: 1, KeyGroups: testGroups})
	if err := ledger.StartBase(0); err != nil {
		t.Fatal(err)
	}
	base, _, err := incremental.UploadBase(t.Context(), files, incremental.UploadBaseOptions{
		Uploader: incremental.Uploader{Store: objects}, Ledger: ledger, Parallel: 1,
	})
	if err := errors.Join(err, files.Release(), db.Close()); err != nil {
		t.Fatal(err)
	}
	if len(base.Files) < n {
		t.Fatalf("the base has %d files, want %d tables", len(base.Files), n)
	}
	return &manifest.KeyedState{KeyGroups: testGroups, Pieces: []manifest.Piece{{KeyGroups: testGroups, Base: &base}}}
}

// F82: what a process takes of memory does not depend on what it uploads and
// restores: that is streamed.
func TestF82_MemoryLimit(t *testing.T) {
	size, limit, bound := int64(300<<20), "GOMEMLIMIT=96MiB", int64(192<<20)
	if heavy() {
		size, limit, bound = 5<<30, "GOMEMLIMIT=256MiB", 384<<20
	}
	if raceDetector {
		t.Skip("memory is not measured with the race detector")
	}
	if !inChild(t, ":", limit) {
		return
	}
	if peakMemory(t) > bound/2 {
		t.Fatalf("%d bytes of memory before the test", peakMemory(t))
	}
	objects, err := file.Open(filepath.Join(t.TempDir(), "store"), file.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	caches := NewCaches(8<<20, 100)
	defer caches.Close()
	opts := Options{
		Operator: "count", KeyGroups: manifest.KeyGroupRange{Last: 127}, Epoch: 1, NextID: 1, Store: objects,
		Dir: filepath.Join(t.TempDir(), "first"), Caches: caches, OverlayBytes: 32 << 20, Materialize: MaterializePolicy{MaxDeltas: 4},
	}
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.NewChaCha8([32]byte{82})
	value := make([]byte, 4<<10)
	id, keys := manifest.ID(0), 0
	for written := int64(0); written < size; written += int64(len(value)) {
		_, _ = rng.Read(value) // never fails
		if err := s.Put(counterKey(keys), value); err != nil {
			t.Fatal(err)
		}
		if keys++; keys%(int(size/10)/len(value)) == 0 {
			id++
			if opts.Restored, _, _, err = s.Capture(Trigger{ID: id, OldestBase: id - 1}).Wait(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	uploaded := peakMemory(t)
	opts.Epoch, opts.NextID, opts.Dir = 2, id+1, filepath.Join(t.TempDir(), "second")
	if s, err = Open(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("peak memory: %d MiB by the uploads, %d MiB by the restore of %d MiB", uploaded>>20, peakMemory(t)>>20, size>>20)
	if got := peakMemory(t); got > bound {
		t.Errorf("%d bytes of memory at the most, want no more than %d", got, bound)
	}
}

// peakMemory is the most memory that this process ever had resident.
func peakMemory(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("peak memory is not known on this system:", err)
	}
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	var kb int64
	if _, err := fmt.Sscan(rest, &kb); !ok || err != nil {
		t.Fatalf("no VmHWM in %s (%v)", status, err)
	}
	return kb << 10
}
