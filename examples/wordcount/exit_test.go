package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
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
		{denied, exit.Store, "the credentials"},
		{exit.Local(denied), exit.Failure, "this user"},
		{&engine.TaskError{Operator: "output", Err: denied}, exit.Failure, "this user"},
		{&engine.TaskError{Operator: "lines", Err: denied}, exit.Failure, "this user"},
		{&engine.TaskError{Operator: "count", Err: denied}, exit.Store, "the credentials"},
		{&engine.TaskError{Operator: "lines", Err: fs.ErrNotExist}, exit.NotFound, "check --input"},
		{&engine.TaskError{Operator: "lines", Err: refused}, exit.Failure, "check that the peer"},
		{fmt.Errorf("a: %w: %w", objectstore.ErrUnavailable, refused), exit.Store, "check the endpoint"},
		{fmt.Errorf("a: %w", engine.ErrOutputBeyond), exit.Usage, "start without --from"},
		{fmt.Errorf("a: %w", catalog.ErrNotFound), exit.NotFound, "ckpt list"},
		{fmt.Errorf("a: %w", &objectstore.KeyError{Want: []string{"x"}}), exit.Usage, "give the file that holds the keys"},
		{fmt.Errorf("a: %w: %w", catalog.ErrEncryption, objectstore.ErrNotEncrypted), exit.Usage, "the job's checkpoints are not"},
		{fmt.Errorf("a: %w", seal.ErrNotEffective), exit.Store, ""},
		{fmt.Errorf("a: %w", objectstore.ErrDamaged), exit.Corrupt, ""},
		{fmt.Errorf("a: %w", catalog.ErrHeadLost), exit.Failure, "put the last version of HEAD back"},
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
	if stderr := p.run(t, exit.NotFound); !strings.Contains(stderr, "holds no files") || strings.Contains(stderr, "restarting") {
		t.Errorf("stderr %q", stderr)
	}
	if _, err := os.Stat(filepath.Join(strings.TrimPrefix(p.store, "file://"), "wordcount")); err == nil {
		t.Error("the refused job was begun")
	}
}

func TestFrom(t *testing.T) {
	p := newPlace(t)
	p.run(t, exit.NotFound, "--from", "latest")
	leavesNoStore(t, p)
	p.run(t, exit.OK, "--rate", "20000", "--interval", "20ms")
	p.run(t, exit.NotFound, "--from", "999")
	head, err := catalog.New(objectstore.Prefix(storeOf(t, p), "wordcount"), "wordcount").Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range head.Checkpoints {
		want := exit.Usage // the output of later ones was committed
		if i == len(head.Checkpoints)-1 {
			want = exit.OK
		}
		p.run(t, want, "--from", fmt.Sprintf("%03d", e.ID))
	}
	p.run(t, exit.OK, "--from", "latest")
}

// leavesNoStore checks that a start which was refused made nothing.
func leavesNoStore(t *testing.T, p place) {
	t.Helper()
	if _, _, err := storeurl.Open(t.Context(), p.store, false); !errors.Is(err, objectstore.ErrNoBucket) {
		t.Errorf("the store is there: %v", err)
	}
}

func storeOf(t *testing.T, p place) objectstore.Store {
	t.Helper()
	store, _, err := storeurl.Open(t.Context(), p.store, false)
	if err != nil {
		t.Fatal(err)
	}
	return store
}
