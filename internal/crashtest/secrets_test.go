//go:build unix

package crashtest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/ckpt-io/ckpt/manifest"
)

// TestF61_SecretsNowhere runs a job on S3 through its life and looks for the
// credentials in everything that comes out of it: logs, errors, output, every
// stored object and what the command line prints.
func TestF61_SecretsNowhere(t *testing.T) {
	t.Parallel()
	p, backend, _ := onFakeS3(t)
	s := &scan{place: p, secrets: []string{fakeSecret, fakeToken}}

	proc := p.start(slowly...)
	proc.mustSee(`msg="checkpoint completed"`, 1)
	older := p.start(slowly...)
	older.mustSee(`msg="checkpoint completed"`, 1)
	proc.wantExit(exitFenced)
	older.kill()
	older.end()
	last := p.start()
	last.wantExit(exitOK)
	for _, proc := range []*process{proc, older, last} {
		s.text("a log", proc.text())
	}
	for _, args := range []string{
		"list", "list --json", "inspect latest --objects", "inspect latest --objects --json", "verify all --json",
		"gc --dry-run --json", "gc --json", "probe --json", "version", "inspect 99999", "restore latest --to " + filepath.Join(p.output, "part-0-1"),
	} {
		s.command("ckpt", p.url, strings.Fields(args)...)
	}
	s.badStores()
	s.objects(backend)
	s.files(p.output)
	s.files(p.state)
	if s.scanned < 50_000 {
		t.Errorf("only %d bytes were looked at", s.scanned)
	}
}

// badStores are stores that are refused, or not there.
func (s *scan) badStores() {
	for _, bad := range []string{
		strings.Replace(s.url, fakeBucket, "nobucket", 1),
		strings.Replace(s.url, "region=us-east-1", "region=us-east-1&secret="+fakeSecret, 1),
		"s3://key:" + fakeSecret + "@bucket/jobs?region=us-east-1",
		"s3://" + fakeSecret + "@bucket/jobs?region=us-east-1",
		"s3://bucket/jobs?endpoint=http://key:" + fakeSecret + "@127.0.0.1:1&region=us-east-1",
		"s3://bucket/jobs?region=us-east-1&endpoint=http://key:" + fakeSecret + "@%zz",
		"file://key:" + fakeSecret + "@/tmp",
		"gs://key:" + fakeSecret + "@bucket",
		"s3://key:" + fakeSecret + "@bucket/%zz",
	} {
		s.command("ckpt", bad, "list")
		s.command("wordcount", bad, "--input", s.input, "--output", s.output, "--state-dir", s.state)
	}
}

// scan looks for secrets.
type scan struct {
	*place
	secrets []string
	scanned int
}

func (s *scan) text(where, text string) {
	s.t.Helper()
	s.scanned += len(text)
	for _, secret := range s.secrets {
		if at := strings.Index(text, secret); at >= 0 {
			s.t.Errorf("%s holds a secret: %q", where, text[max(0, at-100):min(len(text), at+len(secret)+20)])
		}
	}
}

// command runs a program, whatever it exits with, and scans what it prints.
func (s *scan) command(name, url string, args ...string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), program(s.t, name), append(args, "--store", url, "--job", jobName)...)
	cmd.Env = append(os.Environ(), s.env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	s.text(fmt.Sprintf("what %s %s says", name, strings.Join(args, " ")), string(out))
}

// objects scans what is stored, as it is and decoded.
func (s *scan) objects(backend *s3mem.Backend) {
	s.t.Helper()
	for _, key := range fakeKeys(s.t, backend, "") {
		o, err := backend.GetObject(fakeBucket, key, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		content, err := io.ReadAll(o.Contents)
		if err != nil {
			s.t.Fatal(err)
		}
		s.text(key, key+string(content))
		for name, value := range o.Metadata {
			// The fake keeps the headers of the request too.
			if strings.HasPrefix(strings.ToLower(name), "x-amz-meta-") {
				s.text("metadata of "+key, name+value)
			}
		}
		if strings.HasSuffix(key, ".manifest") {
			m, err := manifest.Decode(bytes.Clone(content))
			if err != nil {
				s.t.Fatal(err)
			}
			for _, op := range m.Operators {
				for _, task := range op.Tasks {
					for _, h := range task.Handles {
						s.text("a handle in "+key, string(h))
					}
					for _, split := range task.Splits {
						s.text("a split in "+key, split.ID+string(split.Position))
					}
				}
			}
			s.text(key, fmt.Sprintf("%+v", m))
		}
	}
}

func (s *scan) files(dir string) {
	s.t.Helper()
	for _, name := range filesBelow(s.t, dir) {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			s.t.Fatal(err)
		}
		s.text(name, string(content))
	}
}
