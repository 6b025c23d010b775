package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
)

// TestExitCodeOfLocalFiles: what this machine refuses is no refusal by the
// store, though both are fs.ErrPermission.
func TestExitCodeOfLocalFiles(t *testing.T) {
	denied := &fs.PathError{Op: "mkdir", Path: "out", Err: fs.ErrPermission}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}
	tests := []struct {
		err  error
		want int
		hint string // how it begins
	}{
		{denied, exitStore, "the credentials"},
		{localError{denied}, exitFailure, "this user"},
		{&engine.TaskError{Operator: "output", Err: denied}, exitFailure, "this user"},
		{&engine.TaskError{Operator: "lines", Err: denied}, exitFailure, "this user"},
		{&engine.TaskError{Operator: "count", Err: denied}, exitStore, "the credentials"},
		{&engine.TaskError{Operator: "lines", Err: fs.ErrNotExist}, exitNotFound, "check --input"},
		{&engine.TaskError{Operator: "lines", Err: refused}, exitFailure, "check that the peer"},
		{fmt.Errorf("a: %w: %w", objectstore.ErrUnavailable, refused), exitStore, "check the endpoint"},
		{fmt.Errorf("a: %w", engine.ErrOutputBeyond), exitUsage, "start without --from"},
		{fmt.Errorf("a: %w", catalog.ErrNotFound), exitNotFound, "ckpt list"},
		{fmt.Errorf("a: %w", catalog.ErrHeadLost), exitFailure, "put the last version of HEAD back"},
	}
	for _, tt := range tests {
		if got, h := exitCode(tt.err), hint(tt.err); got != tt.want || !strings.HasPrefix(h, tt.hint) {
			t.Errorf("%v: exit %d and hint %q, want %d and %q", tt.err, got, h, tt.want, tt.hint)
		}
	}
}

// TestDirectoryWithoutFiles is refused before the job is begun, not tried again
// for half a minute.
func TestDirectoryWithoutFiles(t *testing.T) {
	p := newPlace(t)
	p.input = t.TempDir()
	if stderr := p.run(t, exitNotFound); !strings.Contains(stderr, "holds no files") || strings.Contains(stderr, "restarting") {
		t.Errorf("stderr %q", stderr)
	}
	if _, err := os.Stat(filepath.Join(strings.TrimPrefix(p.store, "file://"), "wordcount")); err == nil {
		t.Error("the refused job was begun")
	}
}

func TestFrom(t *testing.T) {
	p := newPlace(t)
	p.run(t, exitNotFound, "--from", "latest")
	p.run(t, exitOK, "--rate", "20000", "--interval", "20ms")
	p.run(t, exitNotFound, "--from", "999")
	head, err := catalog.New(objectstore.Prefix(openStore(t, p), "wordcount"), "wordcount").Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range head.Checkpoints {
		want := exitUsage // the output of later ones was committed
		if i == len(head.Checkpoints)-1 {
			want = exitOK
		}
		p.run(t, want, "--from", fmt.Sprintf("%03d", e.ID))
	}
	p.run(t, exitOK, "--from", "latest")
}

func openStore(t *testing.T, p place) objectstore.Store {
	t.Helper()
	store, _, err := storeurl.Open(t.Context(), p.store, false)
	if err != nil {
		t.Fatal(err)
	}
	return store
}
