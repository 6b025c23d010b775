package wordcheck

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCount(t *testing.T) {
	got := Count(" the  cat\nthe\tdog\r\n\n")
	want := map[string]int64{"the": 2, "cat": 1, "dog": 1}
	if !maps.Equal(got, want) {
		t.Errorf("Count = %v, want %v", got, want)
	}
	if got := Times(want, 3); got["the"] != 6 || want["the"] != 2 {
		t.Errorf("Times = %v, and the counts given are now %v", got, want)
	}
}

func TestCheck(t *testing.T) {
	want := map[string]int64{"a": 3, "b": 1}
	tests := []struct {
		name    string
		files   map[string]string
		partial bool
		wrong   []string
	}{
		{"whole", map[string]string{"part-0-1": "a\t1\nb\t1\na\t2\n", "part-0-2": "a\t3\n"}, false, nil},
		{"by number, not by text", map[string]string{"part-0-9": "a\t1\n", "part-0-10": "a\t2\na\t3\nb\t1\n"}, false, nil},
		{"word moves between subtasks", map[string]string{"part-1-1": "a\t1\na\t2\n", "part-0-2": "a\t3\nb\t1\n"}, false, nil},
		{"other files", map[string]string{"part-0-1": "a\t1\na\t2\na\t3\nb\t1\n", "notes": "x", "part-0-1.tmp": "x", "part-00-1": "x"}, false, nil},
		{"missing", map[string]string{"part-0-1": "a\t1\na\t3\n"}, false, []string{`missing: "a" 2`, `missing: "b" 1`}},
		{"partial", map[string]string{"part-0-1": "a\t1\na\t2\n"}, true, nil},
		{"partial with a hole", map[string]string{"part-0-1": "a\t1\na\t3\n"}, true, []string{`missing: "a" 2`}},
		{"duplicate", map[string]string{"part-0-1": "a\t1\na\t2\na\t2\na\t3\nb\t1\n"}, false, []string{`duplicate: "a" 2 at part-0-1:3`}},
		{"duplicate in another part", map[string]string{"part-0-1": "a\t1\na\t2\na\t3\nb\t1\n", "part-1-2": "b\t1\n"}, false, []string{`duplicate: "b" 1 at part-1-2:1`}},
		{"out of order", map[string]string{"part-0-1": "a\t1\na\t3\na\t2\nb\t1\n"}, false, []string{`out of order: "a" 2 at part-0-1:3`}},
		{"surplus", map[string]string{"part-0-1": "a\t1\na\t2\na\t3\na\t4\nb\t1\n"}, false, []string{`surplus: "a" 4 at part-0-1:4`}},
		{"unknown word", map[string]string{"part-0-1": "a\t1\na\t2\na\t3\nb\t1\nc\t1\n"}, false, []string{`surplus: "c" 1 at part-0-1:5`}},
		{"malformed", map[string]string{"part-0-1": "a\t1\na\t2\na\t3\nb\t1\nb\n\t1\nb\t0\nb\tx\nb\t1"}, false,
			[]string{`malformed: "b" at part-0-1:5`, `malformed: "\t1" at part-0-1:6`, `malformed: "b\t0" at part-0-1:7`, `malformed: "b\tx" at part-0-1:8`, `malformed: "b\t1" at part-0-1:9`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Check(write(t, tt.files), want, Options{Partial: tt.partial})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range r.Differences {
				got = append(got, d.String())
			}
			if !slices.Equal(got, tt.wrong) || r.OK() != (len(tt.wrong) == 0) {
				t.Errorf("OK %v, differences:\n%s\nwant:\n%s", r.OK(), strings.Join(got, "\n"), strings.Join(tt.wrong, "\n"))
			}
		})
	}
}

func TestCheckFigures(t *testing.T) {
	dir := write(t, map[string]string{
		"part-0-1": "a\t1\n", "part-1-1": "b\t1\nb\t2\n",
		".pending/part-0-0-epoch-1": "a\t2\n",
	})
	r, err := Check(dir, map[string]int64{"a": 1, "b": 2}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Parts != 2 || r.Lines != 3 || r.Words != 2 || r.Pending != 1 || !r.OK() {
		t.Errorf("got %+v", r)
	}
}

func TestCheckBoundsDifferences(t *testing.T) {
	r, err := Check(filepath.Join(t.TempDir(), "none"), map[string]int64{"a": 100}, Options{MaxDifferences: 3})
	if err != nil {
		t.Fatal(err)
	}
	if r.Wrong != 100 || len(r.Differences) != 3 || r.OK() {
		t.Errorf("wrong %d, listed %d", r.Wrong, len(r.Differences))
	}
}

// TestCheckFindsEveryMutation takes one line away, doubles one and swaps two
// lines of one word, at every place, and sees each found.
func TestCheckFindsEveryMutation(t *testing.T) {
	want := map[string]int64{"a": 5, "b": 5}
	var lines []string
	for i := 1; i <= 5; i++ {
		lines = append(lines, fmt.Sprintf("a\t%d", i), fmt.Sprintf("b\t%d", i))
	}
	ok := func(lines []string) bool {
		c := newChecker(want, Options{})
		c.part("part-0-1", strings.Join(lines, "\n")+"\n")
		c.finish()
		return c.report.OK()
	}
	if !ok(lines) {
		t.Fatal("the right lines are refused")
	}
	for i := range lines {
		if ok(slices.Delete(slices.Clone(lines), i, i+1)) {
			t.Errorf("line %d missing: not found", i)
		}
		if ok(slices.Insert(slices.Clone(lines), i, lines[i])) {
			t.Errorf("line %d doubled: not found", i)
		}
		if i+2 < len(lines) {
			swapped := slices.Clone(lines)
			swapped[i], swapped[i+2] = swapped[i+2], swapped[i]
			if ok(swapped) {
				t.Errorf("lines %d and %d swapped: not found", i, i+2)
			}
		}
	}
}
