//go:build unix

package crashtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/internal/wordcheck"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
)

func isNotFound(err error) bool { return errors.Is(err, catalog.ErrNotFound) }

// audit demands everything of a job that has ended: its output, its
// checkpoints, its store and its working directory, as the ckpt program and
// plain Pebble see them.
func (p *place) audit() {
	p.t.Helper()
	if n := p.checkOutput(false); n > 0 {
		p.t.Errorf("%d files of output are left uncommitted", n)
	}
	p.ckpt("gc")
	p.ckpt("verify", "all")
	ids := p.auditObjects()
	for _, id := range ids {
		got := p.restored(id)
		if want := p.written(id); !maps.Equal(got, want) {
			p.t.Errorf("checkpoint %d holds other counts than the output up to it: %s", id, difference(got, want))
		}
		if id == ids[len(ids)-1] && !maps.Equal(got, p.expected()) {
			p.t.Errorf("the last checkpoint holds other counts than the input: %s", difference(got, p.expected()))
		}
	}
	if left := names(p.t, p.state); len(left) > 0 {
		p.t.Errorf("state directory holds %q", left)
	}
}

// auditObjects compares what is stored with what the listed checkpoints name.
// It returns their ids.
func (p *place) auditObjects() (ids []manifest.ID) {
	p.t.Helper()
	var list []struct{ ID manifest.ID }
	p.decode(&list, "list", "--json")
	named := map[string]bool{}
	for _, c := range list {
		ids = append(ids, c.ID)
		var doc struct {
			Manifest struct{ Key string }
			Objects  []struct{ Key string }
		}
		p.decode(&doc, "inspect", fmt.Sprint(uint64(c.ID)), "--objects", "--json")
		named[doc.Manifest.Key] = true
		for _, o := range doc.Objects {
			named[o.Key] = true
		}
	}
	compareKeys(p.t, p.keys(), named)
	return ids
}

// compareKeys compares the keys of a store with those that checkpoints name.
func compareKeys(t *testing.T, stored []string, named map[string]bool) {
	t.Helper()
	missing := maps.Clone(named)
	for _, key := range stored {
		switch {
		case named[key]:
			delete(missing, key)
		case strings.HasPrefix(key, jobName+"/"+manifest.DataPrefix),
			strings.HasPrefix(key, jobName+"/"+manifest.ManifestsPrefix),
			strings.HasPrefix(key, jobName+"/"+manifest.PinsPrefix):
			t.Errorf("%s is stored and named by no checkpoint", key)
		}
	}
	for key := range missing {
		t.Errorf("%s is named by a checkpoint and not stored", key)
	}
	if len(named) == 0 {
		t.Error("no checkpoint names anything")
	}
}

func (p *place) decode(v any, args ...string) {
	p.t.Helper()
	out := p.ckpt(args...)
	if err := json.Unmarshal(out, v); err != nil {
		p.t.Fatalf("ckpt %s: %v in\n%s", strings.Join(args, " "), err, out)
	}
}

// restored are the counts in a checkpoint, by way of ckpt restore.
func (p *place) restored(id manifest.ID) map[string]int64 {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "restored")
	p.ckpt("restore", fmt.Sprint(uint64(id)), "--to", dir)
	counts := map[string]int64{}
	subtasks := filepath.Join(dir, "count")
	for _, name := range names(p.t, subtasks) {
		readCounts(p.t, filepath.Join(subtasks, name), counts)
	}
	return counts
}

// readCounts adds the counts in a Pebble database to counts.
func readCounts(t *testing.T, dir string, counts map[string]int64) {
	t.Helper()
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{t}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		word, ok := strings.CutPrefix(string(it.Key()[2:]), "\x05count")
		if !ok {
			continue // the state's description
		}
		n, err := state.Int64.Decode(it.Value())
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := counts[word]; twice {
			t.Errorf("%q is counted by two subtasks", word)
		}
		counts[word] = n
	}
	if err := it.Error(); err != nil {
		t.Fatal(err)
	}
}

// quiet is a Pebble logger for tests.
type quiet struct{ t *testing.T }

func (quiet) Infof(string, ...any)                { /* of no interest */ }
func (q quiet) Errorf(format string, args ...any) { q.t.Errorf(format, args...) }
func (q quiet) Fatalf(format string, args ...any) { q.t.Fatalf(format, args...) }

// written are the counts that the committed output has reached with
// checkpoint id.
func (p *place) written(id manifest.ID) map[string]int64 {
	p.t.Helper()
	parts, err := wordcheck.Parts(p.output)
	if err != nil {
		p.t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, part := range parts {
		if part.Checkpoint > uint64(id) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(p.output, part.Name))
		if err != nil {
			p.t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			word, _, _ := strings.Cut(line, "\t")
			counts[word]++
		}
	}
	return counts
}

// difference describes how counts differ.
func difference(got, want map[string]int64) string {
	sum := func(m map[string]int64) (n int64) {
		for _, v := range m {
			n += v
		}
		return n
	}
	for word, n := range want {
		if got[word] != n {
			return fmt.Sprintf("%d of %d words instead of %d of %d; %q %d times instead of %d",
				sum(got), len(got), sum(want), len(want), word, got[word], n)
		}
	}
	return fmt.Sprintf("%d words instead of %d", len(got), len(want))
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
