package incremental

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A table that vanishes under an open database fails the database, where
// Pebble's own handlers would end the process.
func TestVanishedTableReachesFailed(t *testing.T) {
	fs := NewRecordFS(vfs.NewMem())
	var failed firstError
	var log bytes.Buffer
	db, err := pebble.Open("/db", PebbleOptions(DBOptions{
		FS: fs, Failed: failed.set, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := WriteDelta(fs, "/d", slices.Values([]Entry{{Key: []byte("key"), Value: []byte("v")}})); err != nil {
		t.Fatal(err)
	}
	if err := db.Ingest(t.Context(), []string{"/d"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range tables(t, fs, "/db") {
		if err := fs.Remove("/db/" + name); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := db.Get([]byte("key")); err == nil {
		t.Error("read from a table that is gone")
	}
	if failed.get() == nil || !strings.Contains(log.String(), "state database failed") {
		t.Errorf("Failed got %v, the log says %q", failed.get(), log.String())
	}
}

// A failure keeps the error that Pebble gave its logger.
func TestFatalfKeepsError(t *testing.T) {
	var failed firstError
	l := &logger{failed: failed.set}
	l.Fatalf("MANIFEST write: %v", fmt.Errorf("write: %w", syscall.ENOSPC))
	if err := failed.get(); !errors.Is(err, syscall.ENOSPC) || err.Error() != "pebble: MANIFEST write: write: "+syscall.ENOSPC.Error() {
		t.Errorf("got %v", err)
	}
	(&logger{}).Fatalf("nobody listens: %d", 1)
}

// Ingests are never held back or refused for their number.
func TestManyIngests(t *testing.T) {
	fs := NewRecordFS(vfs.NewMem())
	opts := PebbleOptions(DBOptions{FS: fs})
	opts.DisableAutomaticCompactions = true
	db, err := pebble.Open("/db", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	want := make(map[string]string)
	for i := range 100 {
		want["key"] = fmt.Sprint(i)
		if _, err := WriteDelta(fs, "/d", sorted(want)); err != nil {
			t.Fatal(err)
		}
		if err := db.Ingest(t.Context(), []string{"/d"}); err != nil {
			t.Fatal(err)
		}
	}
	sameState(t, contents(t, db), want, "after 100 ingests")
}
