package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
)

const page = `before
<!-- curve size -->
old
<!-- end -->
between
<!-- curve unknown -->
kept
<!-- end -->
after
`

func TestReport(t *testing.T) {
	dir := t.TempDir()
	tuning := filepath.Join(dir, "tuning.md")
	d := &figures.Data{Commit: "abc", Config: map[string]string{"state_mb": "1"}, Samples: []figures.Sample{
		{Figure: figures.Link, Unit: "s", Ours: 2, Peer: 1}, {Figure: figures.Throughput, Unit: "lines/s", Ours: 1, Peer: 1},
		{Figure: figures.EagerRestore, Unit: "s", Ours: 2, Peer: 1},
	}, Points: []figures.Point{{Plot: figures.PlotSize, Series: "T", X: 100, Y: 1}, {Plot: figures.PlotSize, Series: "R", X: 200, Y: 2}},
		Skipped: []figures.Skipped{{What: "restic", Why: "missing"}}}
	if err := d.Write(filepath.Join(dir, "samples.json")); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		tuning: page, filepath.Join(dir, "notes.md"): "# Notes\n\n## " + figures.Link + "\n\nBecause.\n\n## " + figures.Throughput + "\n\nJust so.\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if code := run([]string{dir, tuning}, &out, &out); code != 0 {
		t.Fatalf("exit %d: %s", code, out.String())
	}
	if want := "1 of 3 bars hold"; !strings.Contains(out.String(), want) {
		t.Errorf("output %q, want %q in it", out.String(), want)
	}
	readme := read(t, filepath.Join(dir, "README.md"))
	for _, want := range []string{
		"| 2 | <= 1.15 | **no** | 1 |", "Not met: 2, the bar is <= 1.15.\nBecause.", "\nJust so.\n", "No reason is known yet.",
		"| 1 | >= 0.95 | yes | 1 |", "skipped: restic: missing", "commit: abc", "](size.svg)",
	} {
		if !strings.Contains(readme, want) {
			t.Errorf("table has no %q:\n%s", want, readme)
		}
	}
	filled := read(t, tuning)
	for _, want := range []string{"before\n", "| 100 | 1 |  |\n| 200 |  | 2 |\n", "between\n", "\nkept\n", "after\n"} {
		if !strings.Contains(filled, want) {
			t.Errorf("page has no %q:\n%s", want, filled)
		}
	}
	if strings.Contains(filled, "old") {
		t.Error("the old table is still there")
	}
	if again, err := fill(filled, figures.Plots(d)); err != nil || again != filled {
		t.Errorf("filled again, it is another page (%v)", err)
	}
}

func TestReportRefusesBadPages(t *testing.T) {
	for _, page := range []string{"<!-- curve x", "<!-- curve x --> no end"} {
		if _, err := fill(page, nil); err == nil {
			t.Errorf("%q was taken", page)
		}
	}
	var out strings.Builder
	if code := run(nil, &out, &out); code != 2 {
		t.Errorf("no arguments: exit %d, want 2", code)
	}
	if code := run([]string{t.TempDir(), "x"}, &out, &out); code != 1 {
		t.Errorf("no samples: exit %d, want 1", code)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
