package file

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest"
)

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func splitsOf(t *testing.T, path string, opts Options) []manifest.Split {
	t.Helper()
	s, err := New(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	splits, err := s.Splits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return splits
}

func restored(t *testing.T, path string, opts Options, splits []manifest.Split) (engine.SourceReader[string], error) {
	t.Helper()
	s, err := New(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Reader(engine.SourceContext{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, r.Restore(t.Context(), splits)
}

// drain polls until the input ends.
func drain(ctx context.Context, r engine.SourceReader[string]) (lines []string, err error) {
	for {
		err := r.Poll(ctx, func(l string) { lines = append(lines, l) })
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
	}
}

func readAll(t *testing.T, path string, opts Options, splits []manifest.Split) []string {
	t.Helper()
	r, err := restored(t, path, opts, splits)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := drain(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// scanned is what bufio.ScanLines makes of text.
func scanned(text string) (lines []string) {
	s := bufio.NewScanner(strings.NewReader(text))
	s.Buffer(nil, 1<<30)
	for s.Scan() {
		lines = append(lines, s.Text())
	}
	return lines
}

func TestLinesAreThoseOfScanLines(t *testing.T) {
	texts := map[string]string{
		"empty":            "",
		"one":              "a\n",
		"no last newline":  "a\nb",
		"empty lines":      "\n\na\n\n",
		"CRLF":             "a\r\nb\r\n\r\nc\r",
		"CR inside":        "a\rb\r\r\n",
		"not UTF-8":        "\xff\xfe\n\x00\n",
		"long line":        strings.Repeat("x", 200_000) + "\nshort\n" + strings.Repeat("y", 70_000),
		"line of a block":  strings.Repeat("x", blockBytes-1) + "\n" + strings.Repeat("y", blockBytes) + "\nz\n",
		"many":             strings.Repeat("to be or not to be\n", 20_000),
		"only newlines":    strings.Repeat("\n", 3000),
		"CR at split ends": strings.Repeat("ab\r\n", 1000),
	}
	for name, text := range texts {
		for _, splitBytes := range []int64{0, 1, 3, 1000, 100_000} {
			if splitBytes == 1 && len(text) > 10_000 {
				continue // as many splits as lines
			}
			t.Run(fmt.Sprintf("%s/%d", name, splitBytes), func(t *testing.T) {
				path := writeFile(t, filepath.Join(t.TempDir(), "in.txt"), text)
				opts := Options{SplitBytes: splitBytes}
				got := readAll(t, path, opts, splitsOf(t, path, opts))
				if want := scanned(text); !slices.Equal(got, want) {
					t.Errorf("%d lines, want %d", len(got), len(want))
				}
			})
		}
	}
}

// TestSplitsCoverTheFile checks that splits begin where lines begin and leave
// no byte out.
func TestSplitsCoverTheFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var text strings.Builder
		for range rng.IntN(50) {
			text.WriteString(strings.Repeat("x", rng.IntN(30)) + "\n")
		}
		text.WriteString(strings.Repeat("y", rng.IntN(3)))
		path := writeFile(t, filepath.Join(t.TempDir(), "in"), text.String())
		splitBytes := 1 + rng.Int64N(60)
		var next int64
		for _, s := range splitsOf(t, path, Options{SplitBytes: splitBytes}) {
			c, err := parseSplit(s)
			if err != nil {
				t.Fatal(err)
			}
			if c.Start != next || c.Start > 0 && text.String()[c.Start-1] != '\n' {
				t.Fatalf("split %s begins badly, after %d bytes", s.ID, next)
			}
			if c.End-c.Start < splitBytes && c.End != int64(text.Len()) {
				t.Fatalf("split %s is shorter than %d bytes", s.ID, splitBytes)
			}
			next = c.End
		}
		if next != int64(text.Len()) {
			t.Fatalf("splits end at %d of %d", next, text.Len())
		}
	}
}

// TestRestoreAnywhere stops after every Poll, restores the splits in new
// readers of another number, and must see each line the right number of times.
func TestRestoreAnywhere(t *testing.T) {
	dir := t.TempDir()
	want := map[string]int{}
	for f := range 3 {
		var text strings.Builder
		for i := range 40 {
			line := fmt.Sprintf("%d/%d", f, i)
			want[line] = 3
			text.WriteString(line + "\r\n"[i%2:])
		}
		writeFile(t, filepath.Join(dir, fmt.Sprint("d", f%2), fmt.Sprint("f", f)), text.String())
	}
	opts := Options{Passes: 3, SplitBytes: 50, BatchLines: 7}
	rng := rand.New(rand.NewPCG(3, 4))
	splits := splitsOf(t, dir, opts)
	got := map[string]int{}
	for lives := 0; len(splits) > 0; lives++ {
		p := 1 + rng.IntN(5)
		dealt := make([][]manifest.Split, p)
		for i, s := range splits {
			dealt[i%p] = append(dealt[i%p], s)
		}
		splits = nil
		exhausted := 0
		for i := range p {
			r, err := restored(t, dir, opts, dealt[i])
			if err != nil {
				t.Fatal(err)
			}
			err = nil
			for range rng.IntN(4) {
				if err = r.Poll(t.Context(), func(l string) { got[l]++ }); err != nil {
					break
				}
			}
			if errors.Is(err, io.EOF) || len(dealt[i]) == 0 {
				exhausted++
			} else if err != nil {
				t.Fatal(err)
			}
			snap, err := r.Snapshot(manifest.ID(lives + 1))
			if err != nil {
				t.Fatal(err)
			}
			splits = append(splits, snap...)
		}
		if exhausted == p {
			break
		}
		rng.Shuffle(len(splits), func(i, j int) { splits[i], splits[j] = splits[j], splits[i] })
	}
	if len(got) != len(want) {
		t.Errorf("%d different lines, want %d", len(got), len(want))
	}
	for line, n := range want {
		if got[line] != n {
			t.Errorf("line %q came %d times, want %d", line, got[line], n)
		}
	}
}

func TestMorePassesAfterTheEnd(t *testing.T) {
	path := writeFile(t, filepath.Join(t.TempDir(), "in"), "a\nb\n")
	r, err := restored(t, path, Options{Passes: 2}, splitsOf(t, path, Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if lines, err := drain(t.Context(), r); err != nil || len(lines) != 4 {
		t.Fatalf("%q, %v", lines, err)
	}
	snap, err := r.Snapshot(1)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, path, Options{Passes: 2}, snap); len(got) != 0 {
		t.Errorf("exhausted splits gave %q", got)
	}
	if got := readAll(t, path, Options{Passes: 3}, snap); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("a third pass gave %q", got)
	}
}

func TestPassesEndTogether(t *testing.T) {
	path := writeFile(t, filepath.Join(t.TempDir(), "in"), "1\n2\n3\n")
	opts := Options{Passes: 2, SplitBytes: 1}
	if got := readAll(t, path, opts, splitsOf(t, path, opts)); !slices.Equal(got, []string{"1", "2", "3", "1", "2", "3"}) {
		t.Errorf("order %q", got)
	}
}

func TestLeastAdvancedFirst(t *testing.T) {
	path := writeFile(t, filepath.Join(t.TempDir(), "in"), "1\n2\n")
	opts := Options{Passes: 2, SplitBytes: 1}
	splits := splitsOf(t, path, opts)
	c, err := parseSplit(splits[0])
	if err != nil {
		t.Fatal(err)
	}
	c.Pass = 1
	if splits[0], err = c.split(); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, path, opts, splits); !slices.Equal(got, []string{"2", "1", "2"}) {
		t.Errorf("order %q", got)
	}
}

func TestSplitThatEndsWithALine(t *testing.T) {
	path := writeFile(t, filepath.Join(t.TempDir(), "in"), "abc\ndef\nghi\n")
	if splits := splitsOf(t, path, Options{SplitBytes: 4}); len(splits) != 3 {
		t.Errorf("splits %v, want one for each line", splits)
	}
}

// TestLongLineIsNotReadWhole cuts the file behind the limit: who reads on
// misses what is gone.
func TestLongLineIsNotReadWhole(t *testing.T) {
	path := writeFile(t, filepath.Join(t.TempDir(), "in"), "a\n"+strings.Repeat("x", 1_000_000))
	r, err := restored(t, path, Options{MaxLineBytes: 100_000}, splitsOf(t, path, Options{SplitBytes: 2_000_000}))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Poll(t.Context(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 300_000); err != nil {
		t.Fatal(err)
	}
	if err := r.Poll(t.Context(), func(string) {}); err == nil || !strings.Contains(err.Error(), "longer than 100000") {
		t.Errorf("error %v", err)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "b"), "b\n")
	writeFile(t, filepath.Join(dir, "a", "z"), "az\n")
	writeFile(t, filepath.Join(dir, "empty"), "")
	writeFile(t, filepath.Join(dir, ".hidden"), "no\n")
	writeFile(t, filepath.Join(dir, ".git", "x"), "no\n")
	if err := os.Symlink("b", filepath.Join(dir, "c")); err != nil {
		t.Skip("no symbolic links here")
	}
	if got := readAll(t, dir, Options{}, splitsOf(t, dir, Options{})); !slices.Equal(got, []string{"az", "b", "b"}) {
		t.Errorf("lines %q", got)
	}
}

// TestSplitsShareTheWork reads one file with three readers.
func TestSplitsShareTheWork(t *testing.T) {
	text := strings.Repeat("to be or not to be\n", 5000)
	path := writeFile(t, filepath.Join(t.TempDir(), "in"), text)
	splits := splitsOf(t, path, Options{SplitBytes: 1000})
	total := 0
	for i := range 3 {
		var mine []manifest.Split
		for j := i; j < len(splits); j += 3 {
			mine = append(mine, splits[j])
		}
		n := len(readAll(t, path, Options{}, mine))
		if n < 1000 {
			t.Errorf("reader %d had %d of 5000 lines", i, n)
		}
		total += n
	}
	if total != 5000 {
		t.Errorf("%d lines, want 5000", total)
	}
}

func FuzzParseSplit(f *testing.F) {
	f.Add("in:0-4", []byte(`{"path":"in","start":0,"end":4,"size":4,"offset":2}`))
	f.Fuzz(func(t *testing.T, id string, position []byte) {
		c, err := parseSplit(manifest.Split{ID: id, Position: position})
		if err != nil {
			return
		}
		split, err := c.split()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseSplit(split)
		if err != nil || *again != *c {
			t.Errorf("%+v came back as %+v, %v", c, again, err)
		}
	})
}

func BenchmarkPoll(b *testing.B) {
	path := filepath.Join(b.TempDir(), "in")
	text := strings.Repeat("The quick brown fox jumps over the lazy dog\n", 100_000)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	s, err := New(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	splits, err := s.Splits(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		r, err := s.Reader(engine.SourceContext{})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Restore(b.Context(), splits); err != nil {
			b.Fatal(err)
		}
		for err == nil {
			err = r.Poll(b.Context(), func(string) {})
		}
		r.Close()
	}
}
