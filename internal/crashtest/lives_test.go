//go:build unix

package crashtest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ckpt-io/ckpt/examples/text"
	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/internal/wordcheck"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/file"
	"github.com/ckpt-io/ckpt/retention"
)

// lives are those of one job, each in a process of its own.
type lives struct {
	t     *testing.T
	spec  child
	store objectstore.Store
	keys  func() []string // of all objects, listed not by our own code
	want  map[string]int64
	head  catalog.Head
	last  uint64 // the highest id that a life said it has completed
	died  int
	log   strings.Builder
}

// newLives is a job whose store is in a directory.
func newLives(t *testing.T) *lives {
	dir := filepath.Join(t.TempDir(), "store")
	store, err := file.Open(dir, file.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	l := newLivesOn(t, store, func() []string { return filesBelow(t, dir) })
	l.spec.Store = dir
	return l
}

func newLivesOn(t *testing.T, store objectstore.Store, keys func() []string) *lives {
	// From the first chapter on.
	lines := strings.SplitAfter(text.Opticks, "\n")[1000 : 1000+miniatureLines]
	input := strings.Join(lines, "")
	l := &lives{t: t, store: store, keys: keys, want: wordcheck.Count(input)}
	dir := t.TempDir()
	l.spec.miniature = miniature{
		Input: filepath.Join(dir, "text"), Output: filepath.Join(dir, "out"), State: filepath.Join(dir, "state"),
	}
	if err := os.WriteFile(l.spec.Input, []byte(input), 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// next lives one more life, at another parallelism than the last, and checks
// what it leaves. It reports whether the process was killed; else it came to
// the end.
func (l *lives) next(kill string) bool {
	l.t.Helper()
	l.spec.Parallelism, l.spec.Concurrent, l.spec.Kill = 1+l.died%3, 1+l.died%2, kill
	text, err := json.Marshal(l.spec)
	if err != nil {
		l.t.Fatal(err)
	}
	proc := start(l.t, []string{childEnv + "=" + string(text)}, os.Args[0])
	status := proc.end()
	fmt.Fprintf(&l.log, "--- life %d, killed %q\n%s", l.died, kill, proc.text())
	l.checkCompleted(proc.text())
	switch {
	case killed(status):
		l.died++
	case status != syscall.WaitStatus(0):
		l.t.Fatalf("life ended with %v:\n%s", proc.cmd.ProcessState, l.log.String())
	}
	l.checkLeft()
	return killed(status)
}

func (l *lives) mustDie(kill string) {
	l.t.Helper()
	if !l.next(kill) {
		l.t.Fatalf("the job came to its end before %q:\n%s", kill, l.log.String())
	}
}

func (l *lives) newest() manifest.ID {
	e, _ := l.head.Newest()
	return e.ID
}

var completedLine = regexp.MustCompile(`(?m)^completed (\d+)$`)

// checkCompleted demands that ids rise over all lives.
func (l *lives) checkCompleted(log string) {
	l.t.Helper()
	for _, m := range completedLine.FindAllStringSubmatch(log, -1) {
		id, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil || id <= l.last {
			l.t.Fatalf("checkpoint %s completed after %d:\n%s", m[1], l.last, l.log.String())
		}
		l.last = id
	}
}

// checkLeft checks what must hold at any moment: HEAD has not gone back, every
// listed checkpoint is whole, and the output is exactly once as far as it goes.
func (l *lives) checkLeft() {
	l.t.Helper()
	head, exists := readHead(l.t, l.store)
	if !exists && l.head.Epoch > 0 || head.Epoch < l.head.Epoch || head.NextID < l.head.NextID {
		l.t.Fatalf("HEAD went back from %+v to %+v", l.head, head)
	}
	l.head = head
	for key, want := range l.named() {
		if got, err := l.digest(key); err != nil || got != want {
			l.t.Errorf("%s: digest %s, %v, want %s:\n%s", key, got, err, want, l.log.String())
		}
	}
	l.checkOutput(true)
}

func (l *lives) checkOutput(partial bool) *wordcheck.Report {
	l.t.Helper()
	report, err := wordcheck.Check(l.spec.Output, l.want, wordcheck.Options{Partial: partial})
	if err != nil {
		l.t.Fatal(err)
	}
	if !report.OK() {
		l.t.Fatalf("%v\n%s", report, l.log.String())
	}
	return report
}

// named are the stored objects that the listed checkpoints are made of or keep
// alive, with their digests.
func (l *lives) named() map[string]manifest.Digest {
	l.t.Helper()
	named := map[string]manifest.Digest{}
	cat := catalog.New(objectstore.Prefix(l.store, jobName), jobName)
	for _, e := range l.head.Checkpoints {
		m, err := cat.Manifest(l.t.Context(), e)
		if err != nil {
			l.t.Fatalf("checkpoint %d: %v\n%s", e.ID, err, l.log.String())
		}
		named[jobName+"/"+e.ManifestKey()] = e.ManifestSHA256
		for o := range m.Objects() {
			key := jobName + "/" + o.Key
			if o.Unfinished() {
				var err error
				if o.SHA256, err = l.digest(key); errors.Is(err, objectstore.ErrNotExist) {
					continue // and perhaps never will be there
				}
			}
			named[key] = o.SHA256
		}
	}
	return named
}

func (l *lives) digest(key string) (manifest.Digest, error) {
	r, _, err := l.store.Get(l.t.Context(), key, 0, -1)
	if err != nil {
		return manifest.Digest{}, err
	}
	defer r.Close()
	h := sha256.New()
	_, err = io.Copy(h, r)
	return manifest.Digest(h.Sum(nil)), err
}

// checkEnd demands everything of a job that has come to its end after at least
// so many deaths.
func (l *lives) checkEnd(deaths int) {
	l.t.Helper()
	if l.died < deaths {
		l.t.Errorf("%d deaths, want at least %d", l.died, deaths)
	}
	if e, _ := l.head.Newest(); e.Kind != manifest.Final {
		l.t.Errorf("newest checkpoint %d is of kind %q", e.ID, e.Kind)
	}
	report := l.checkOutput(false)
	if report.Pending > 0 {
		l.t.Errorf("%d files of output are left uncommitted", report.Pending)
	}
	l.collect()
	named := map[string]bool{}
	for key := range l.named() {
		named[key] = true
	}
	compareKeys(l.t, l.keys(), named)
	l.checkState()
	l.checkNoState()
	l.t.Logf("%d deaths, %d checkpoints, %v", l.died, l.last, report)
}

// checkNoState demands that nothing is left below the job's state directory,
// but for what is named.
func (l *lives) checkNoState(but ...string) {
	l.t.Helper()
	jobs, err := filepath.Glob(filepath.Join(l.spec.State, "*"))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, dir := range jobs {
		left := slices.DeleteFunc(names(l.t, dir), func(name string) bool { return slices.Contains(but, name) })
		if len(left) > 0 {
			l.t.Errorf("state directory %s holds %q", dir, left)
		}
	}
}

// collect is what ckpt gc does.
func (l *lives) collect() {
	l.t.Helper()
	store := objectstore.Prefix(l.store, jobName)
	cat := catalog.New(store, jobName)
	plan, err := retention.NewPlan(l.t.Context(), cat, store)
	if err == nil {
		_, err = retention.Apply(l.t.Context(), cat, store, plan, retention.ApplyOptions{})
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// checkState restores the last checkpoint and compares the counts in it.
func (l *lives) checkState() {
	l.t.Helper()
	newest, _ := l.head.Newest()
	store := objectstore.Prefix(l.store, jobName)
	m, err := catalog.New(store, jobName).Manifest(l.t.Context(), newest)
	if err != nil {
		l.t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, task := range m.Operator("count").Tasks {
		dir := filepath.Join(l.t.TempDir(), "restored")
		if _, err := incremental.Restore(l.t.Context(), incremental.RestoreOptions{Store: store, State: *task.Keyed, Dir: dir}); err != nil {
			l.t.Fatal(err)
		}
		readCounts(l.t, dir, counts)
	}
	if !maps.Equal(counts, l.want) {
		l.t.Errorf("the last checkpoint holds other counts than the input: %s", difference(counts, l.want))
	}
}
