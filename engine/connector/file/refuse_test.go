package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
)

func TestSplitsRefuses(t *testing.T) {
	outside := writeFile(t, filepath.Join(t.TempDir(), "secret"), "x\n")
	tests := []struct {
		name  string
		setup func(dir string) string
		is    error
	}{
		{"missing", func(dir string) string { return filepath.Join(dir, "none") }, fs.ErrNotExist},
		{"empty directory", func(dir string) string { return dir }, fs.ErrNotExist},
		{"link out of the directory", func(dir string) string {
			if err := os.Symlink(outside, filepath.Join(dir, "out")); err != nil {
				t.Skip("no symbolic links here")
			}
			return dir
		}, nil},
		{"dangling link", func(dir string) string {
			if err := os.Symlink("nowhere", filepath.Join(dir, "out")); err != nil {
				t.Skip("no symbolic links here")
			}
			return dir
		}, fs.ErrNotExist},
		{"name that is not UTF-8", func(dir string) string {
			if err := os.WriteFile(filepath.Join(dir, "\xff"), []byte("x\n"), 0o644); err != nil {
				t.Skip("no such names here")
			}
			return dir
		}, fs.ErrInvalid},
		{"device", func(string) string { return os.DevNull }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := tt.setup(t.TempDir())
			s, err := New(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Splits(t.Context())
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	_, err := New("", Options{Passes: -1, SplitBytes: -2, MaxLineBytes: -3, BatchLines: -4})
	for _, want := range []string{"path", "Passes", "SplitBytes", "MaxLineBytes", "BatchLines"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestChangedInput(t *testing.T) {
	text := "one\ntwo\nthree\nfour\n"
	tests := []struct {
		name   string
		change func(t *testing.T, path string)
		is     error
	}{
		{"vanished", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrNotExist},
		{"shorter", func(t *testing.T, path string) { writeFile(t, path, text[:len(text)-1]) }, ErrChanged},
		{"empty", func(t *testing.T, path string) { writeFile(t, path, "") }, ErrChanged},
		{"other lines", func(t *testing.T, path string) { writeFile(t, path, strings.Repeat("x", 100)) }, ErrChanged},
		{"longer", func(t *testing.T, path string) { writeFile(t, path, text+"five\n") }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, filepath.Join(t.TempDir(), "in.txt"), text)
			r, err := restored(t, path, Options{BatchLines: 2}, splitsOf(t, path, Options{}))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Poll(t.Context(), func(string) {}); err != nil {
				t.Fatal(err)
			}
			snap, err := r.Snapshot(1)
			if err != nil {
				t.Fatal(err)
			}
			tt.change(t, path)
			r, err = restored(t, path, Options{}, snap)
			var lines []string
			if err == nil {
				lines, err = drain(t.Context(), r)
			}
			if tt.is == nil {
				if err != nil || !slices.Equal(lines, []string{"three", "four"}) {
					t.Errorf("lines %q, error %v", lines, err)
				}
				return
			}
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), path) || len(lines) > 0 {
				t.Errorf("lines %q, error %v", lines, err)
			}
		})
	}
}

func TestShrinksWhileRead(t *testing.T) {
	text := strings.Repeat("0123456789\n", 20_000)
	path := writeFile(t, filepath.Join(t.TempDir(), "in.txt"), text)
	r, err := restored(t, path, Options{BatchLines: 1}, splitsOf(t, path, Options{SplitBytes: 1 << 20}))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Poll(t.Context(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, blockBytes+100); err != nil {
		t.Fatal(err)
	}
	if _, err := drain(t.Context(), r); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
}

func TestOtherFileRefused(t *testing.T) {
	dir := t.TempDir()
	a := writeFile(t, filepath.Join(dir, "a"), "a\n")
	b := writeFile(t, filepath.Join(dir, "b"), "b\n")
	if _, err := restored(t, b, Options{}, splitsOf(t, a, Options{})); !errors.Is(err, ErrChanged) {
		t.Errorf("error %v", err)
	}
}

func TestMaxLineBytes(t *testing.T) {
	for _, limit := range []int{10, 100_000} {
		for _, tt := range []struct {
			name string
			text string
			ok   bool
		}{
			{"just", strings.Repeat("x", limit) + "\r\nrest\n", true},
			{"over", "a\n" + strings.Repeat("x", limit+1) + "\nrest\n", false},
			{"far over", "a\n" + strings.Repeat("x", 5*limit) + "\nrest\n", false},
			{"over at the end", "a\n" + strings.Repeat("x", limit+1), false},
		} {
			t.Run(fmt.Sprint(tt.name, "/", limit), func(t *testing.T) {
				path := writeFile(t, filepath.Join(t.TempDir(), "in.txt"), tt.text)
				r, err := restored(t, path, Options{MaxLineBytes: limit}, splitsOf(t, path, Options{}))
				if err != nil {
					t.Fatal(err)
				}
				_, err = drain(t.Context(), r)
				if tt.ok != (err == nil) {
					t.Fatalf("error %v", err)
				}
				if err != nil && (!strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "at byte 2 ")) {
					t.Errorf("error %v names no place", err)
				}
			})
		}
	}
}

func TestBadSplitsRefused(t *testing.T) {
	path := writeFile(t, filepath.Join(t.TempDir(), "in"), "a\nb\n")
	for _, s := range []manifest.Split{
		{ID: "in:0-4", Position: nil},
		{ID: "in:0-4", Position: []byte(`{"path":"in"`)},
		{ID: "in:0-4", Position: []byte(`{"path":"in","start":0,"end":3,"size":4}`)},
		{ID: "../in:0-4", Position: []byte(`{"path":"../in","start":0,"end":4,"size":4}`)},
		{ID: "/etc/passwd:0-4", Position: []byte(`{"path":"/etc/passwd","start":0,"end":4,"size":4}`)},
		{ID: ".:0-4", Position: []byte(`{"path":".","start":0,"end":4,"size":4}`)},
		{ID: "in:0-5", Position: []byte(`{"path":"in","start":0,"end":5,"size":4}`)},
		{ID: "in:0-0", Position: []byte(`{"path":"in","start":0,"end":0,"size":4}`)},
		{ID: "in:0-4", Position: []byte(`{"path":"in","start":0,"end":4,"size":4,"offset":4}`)},
		{ID: "in:0-4", Position: []byte(`{"path":"in","start":0,"end":4,"size":4,"pass":-1}`)},
	} {
		if _, err := restored(t, path, Options{}, []manifest.Split{s}); err == nil {
			t.Errorf("split %q at %s was taken", s.ID, s.Position)
		}
	}
}
