//go:build unix

package crashtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ckpt-io/ckpt/internal/versitygw"
	"github.com/ckpt-io/ckpt/internal/wordcheck"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
)

const (
	opticks = "../../examples/text/opticks.txt"
	jobName = "wordcount"
)

// Exit codes of both programs.
const (
	exitOK     = 0
	exitFenced = 5
)

// place is where one job lives.
type place struct {
	t             *testing.T
	input         string
	loops         int64 // how often the input is read
	output, state string
	url           string
	env           []string // of the programs, besides the test's own
	// keys lists the keys of the store's objects, not by our own code.
	keys func() []string
}

func newPlace(t *testing.T) *place {
	dir := t.TempDir()
	return &place{
		t: t, input: opticks, loops: 1,
		output: filepath.Join(dir, "out"), state: filepath.Join(dir, "state"),
	}
}

// onDirectory is a place with its store in a directory.
func onDirectory(t *testing.T) *place {
	p := newPlace(t)
	dir := filepath.Join(t.TempDir(), "store")
	p.url = "file://" + filepath.ToSlash(dir)
	p.keys = func() []string { return filesBelow(t, dir) }
	return p
}

// filesBelow lists the files below dir, which may not exist, but not a store's
// temporaries.
func filesBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && rel == ".tmp":
			return fs.SkipDir
		case !d.IsDir():
			names = append(names, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}

// onS3 is a place with its store on a real S3 server.
func onS3(t *testing.T) *place {
	srv := versitygw.Start(t)
	srv.Setenv(t)
	p := newPlace(t)
	p.url = srv.URL("jobs")
	p.keys = func() []string { return keysBelow(t, srv, "jobs/") }
	return p
}

func keysBelow(t *testing.T, srv *versitygw.Server, prefix string) (keys []string) {
	t.Helper()
	pages := s3.NewListObjectsV2Paginator(srv.Client(), &s3.ListObjectsV2Input{Bucket: &srv.Bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			keys = append(keys, strings.TrimPrefix(*o.Key, prefix))
		}
	}
	return keys
}

// start starts wordcount.
func (p *place) start(more ...string) *process {
	p.t.Helper()
	args := append([]string{
		"--input", p.input, "--output", p.output, "--store", p.url, "--job", jobName, "--state-dir", p.state,
		"--loop", fmt.Sprint(p.loops),
	}, more...)
	return start(p.t, p.env, program(p.t, "wordcount"), args...)
}

// run runs wordcount to its end.
func (p *place) run(more ...string) {
	p.t.Helper()
	p.start(more...).wantExit(exitOK)
}

// ckpt runs the command line on the job, which must succeed, and returns what
// it printed.
func (p *place) ckpt(args ...string) []byte {
	p.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(p.t.Context(), program(p.t, "ckpt"), append(args, "--store", p.url, "--job", jobName)...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		p.t.Fatalf("ckpt %s: %v\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.Bytes()
}

// head reads HEAD, which may not exist yet.
func (p *place) head() (head catalog.Head, exists bool) {
	p.t.Helper()
	store, _, err := storeurl.Open(p.t.Context(), p.url, true)
	if err != nil {
		p.t.Fatal(err)
	}
	if c, ok := store.(interface{ Close() error }); ok {
		defer c.Close()
	}
	return readHead(p.t, store)
}

func readHead(t *testing.T, store objectstore.Store) (head catalog.Head, exists bool) {
	t.Helper()
	head, err := catalog.New(objectstore.Prefix(store, jobName), jobName).Head(context.WithoutCancel(t.Context()))
	if isNotFound(err) {
		return head, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return head, true
}

// expected are the counts of the whole input, counted in sequence.
func (p *place) expected() map[string]int64 {
	p.t.Helper()
	content, err := os.ReadFile(p.input)
	if err != nil {
		p.t.Fatal(err)
	}
	return wordcheck.Times(wordcheck.Count(string(content)), p.loops)
}

// checkOutput demands output that is exactly once: all of it, or with partial
// as much as there can be of it at any moment. It returns the number of files
// that are not committed.
func (p *place) checkOutput(partial bool) (pending int) {
	p.t.Helper()
	report, err := wordcheck.Check(p.output, p.expected(), wordcheck.Options{Partial: partial})
	if err != nil {
		p.t.Fatal(err)
	}
	if !report.OK() {
		p.t.Fatal(report)
	}
	p.t.Log(report)
	return report.Pending
}
