package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/file"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
	"github.com/ckpt-io/ckpt/retention"
)

func TestExitCode(t *testing.T) {
	tests := []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{fmt.Errorf("a: %w", &manifest.NewerFormatError{Have: 1, Want: 2}), 1},
		{exit.Local(fs.ErrPermission), 1},
		{exit.Local(fs.ErrNotExist), 4},
		{workerError{errors.New("exit status 7"), 7}, 7},
		{retention.ErrBadPlan, 1},
		{exit.Usagef("x"), 2},
		{fmt.Errorf("a: %w", storeurl.ErrBadURL), 2},
		{fmt.Errorf("a: %w", &manifest.CorruptError{Key: "k", Err: fs.ErrNotExist}), 3},
		{withHint(manifest.ErrCorrupt, "x"), 3},
		{catalog.ErrNotFound, 4},
		{objectstore.ErrNoBucket, 4},
		{fmt.Errorf("a: %w", fs.ErrNotExist), 4},
		{catalog.ErrFenced, 5},
		{objectstore.ErrUnavailable, 6},
		{objectstore.ErrPermission, 6},
		{objectstore.ErrConditionsIgnored, 6},
		{objectstore.ErrUnknownOutcome, 6},
		{catalog.ErrUnresolved, 6},
		{&objectstore.DeleteError{Failed: map[string]error{"k": objectstore.ErrPermission}}, 6},
		{errors.Join(errors.New("x"), objectstore.ErrNoSpace), 7},
		{exit.Local(&fs.PathError{Err: syscall.ENOSPC}), 7},
	}
	for _, tt := range tests {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("exit code of %v: %d, want %d", tt.err, got, tt.want)
		}
	}
}

// TestHintOfPermission: the rights of a user and those of credentials are not
// mended in the same way.
func TestHintOfPermission(t *testing.T) {
	err := &fs.PathError{Op: "mkdir", Path: "/out", Err: fs.ErrPermission}
	if hint := hintOf(exit.Local(err)); !strings.HasPrefix(hint, "this user") {
		t.Errorf("local: %q", hint)
	}
	if hint := hintOf(err); !strings.HasPrefix(hint, "the credentials") {
		t.Errorf("of the store: %q", hint)
	}
}

// runWith runs a command line and returns what it wrote.
func runWith(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestOutputLost: half a document must not look like all of it.
func TestOutputLost(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"--help"}} {
		var errs bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), fullDisk{}, &errs); code != exit.DiskFull {
			t.Errorf("%v on a full disk: exit code %d, want %d; %s", args, code, exit.DiskFull, &errs)
		}
		if !strings.Contains(errs.String(), "hint: what was printed is not all of it") {
			t.Errorf("%v on a full disk: %s", args, &errs)
		}
	}
}

func TestInterrupted(t *testing.T) {
	dir := seedDir(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	to := filepath.Join(t.TempDir(), "out")
	code := run(ctx, []string{"restore", "latest", "--to", to, "--store", "file://" + dir, "--job", "wordcount"}, nil, &out, &errs)
	if code != exit.Failure || errs.String() != "ckpt: interrupted\n" {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
	if left, _ := os.ReadDir(filepath.Dir(to)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func seedDir(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	store, err := file.Open(dir, file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := seed(t.Context(), store, "wordcount", t.TempDir(), n, manifest.PartsOptions{}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestF60_NamesCannotForgeOutput: what a store says is spelled out where a
// terminal would obey it.
func TestF60_NamesCannotForgeOutput(t *testing.T) {
	const evil = "data/\x1b[31mred\nckpt: all is well\r\u202e\x00\xff"
	var out, errs bytes.Buffer
	a := &app{stdout: &out, stderr: &errs, job: "wordcount"}
	plan := &retention.Plan{Foreign: []string{evil}, Deletes: []retention.Item{{Key: evil}}}
	if err := a.printGC(gcDoc{Plan: plan}); err != nil {
		t.Fatal(err)
	}
	if err := a.printVerify(verifyDoc{Damaged: []damageDoc{{Key: evil, Problem: evil}}}); err != nil {
		t.Fatal(err)
	}
	a.explain(t.Context(), withHint(errors.New(evil), "%s", evil))
	a.printSummary(inspectDoc{Job: evil, checkpointDoc: checkpointDoc{Kind: evil}})
	for _, text := range []string{out.String(), errs.String()} {
		if strings.ContainsAny(text, "\x1b\r\x00\u202e") || !strings.Contains(text, `\x1b[31mred\nckpt`) {
			t.Errorf("not spelled out: %q", text)
		}
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 5 << 40: "5.0 TiB", 1 << 62: "4.0 EiB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
}

// fakeS3 serves one bucket and returns a store URL in it.
func fakeS3(t *testing.T) (url string) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
	return "s3://bucket/some/prefix?region=us-east-1&path-style=true&endpoint=" + server.URL
}

// TestS3 runs every command on a bucket.
func TestS3(t *testing.T) {
	url := fakeS3(t)
	store, _, err := storeurl.Open(t.Context(), url, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := seed(t.Context(), store, "wordcount", t.TempDir(), 3, manifest.PartsOptions{}); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "out")
	for _, args := range [][]string{
		{"probe"}, {"list"}, {"inspect", "2", "--objects"}, {"verify"}, {"restore", "latest", "--to", to},
		{"gc", "--keep", "1"}, {"verify", "--quick"},
	} {
		code, stdout, stderr := runWith(t, append(args, "--store", url, "--job", "wordcount")...)
		if code != 0 || stdout == "" && args[0] != "gc" {
			t.Errorf("%v: exit code %d\n%s%s", args, code, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, "verysecret") {
			t.Errorf("%v shows the secret", args)
		}
	}
	code, stdout, _ := runWith(t, "list", "--json", "--store", url, "--job", "wordcount")
	if code != 0 || strings.Count(stdout, `"id"`) != 1 {
		t.Errorf("after gc --keep 1: exit code %d, %s", code, stdout)
	}
}

// TestF40_MissingBucket names the bucket, at once.
func TestF40_MissingBucket(t *testing.T) {
	url := strings.Replace(fakeS3(t), "s3://bucket/", "s3://elsewhere/", 1)
	for _, cmd := range []string{"list", "probe", "gc", "verify"} {
		start := time.Now()
		code, _, stderr := runWith(t, cmd, "--store", url, "--job", "x")
		if code != exit.NotFound || !strings.Contains(stderr, "elsewhere") || strings.Contains(stderr, `\n`) {
			t.Errorf("%s: exit code %d, %s", cmd, code, stderr)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s took %v", cmd, d)
		}
	}
}
