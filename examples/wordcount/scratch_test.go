package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

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

func TestScratchIsFreshAndGoes(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "a", "b")
	s, err := openScratch(t.Context(), parent)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(s.dir) != parent || len(names(t, s.dir)) > 0 {
		t.Errorf("directory %s with %q", s.dir, names(t, s.dir))
	}
	if err := os.WriteFile(filepath.Join(s.dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, parent); !slices.Equal(got, []string{"turn.lock"}) {
		t.Errorf("left %q", got)
	}
}

func TestScratchSweepsTheDead(t *testing.T) {
	parent := t.TempDir()
	living, err := openScratch(t.Context(), parent)
	if err != nil {
		t.Fatal(err)
	}
	defer living.Close()
	// What a process that was killed leaves behind, and what is not ours.
	dead := filepath.Join(parent, "attempt-DEAD")
	for _, dir := range []string{filepath.Join(dead, "job"), filepath.Join(parent, "mine")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{dead + ".lock", filepath.Join(parent, "mine.lock")} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := openScratch(t.Context(), parent)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := names(t, parent)
	if slices.ContainsFunc(got, func(n string) bool { return strings.HasPrefix(n, "attempt-DEAD") }) {
		t.Errorf("the dead were not swept: %q", got)
	}
	for _, want := range []string{"mine", "mine.lock", filepath.Base(living.dir), filepath.Base(living.dir) + ".lock"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s was swept: %q", want, got)
		}
	}
}

func TestScratchIsNeverShared(t *testing.T) {
	parent := t.TempDir()
	var mu sync.Mutex
	seen := map[string]bool{}
	var starts sync.WaitGroup
	for range 16 {
		starts.Go(func() {
			s, err := openScratch(t.Context(), parent)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			if seen[s.dir] {
				t.Errorf("%s was given out twice", s.dir)
			}
			seen[s.dir] = true
			mu.Unlock()
			if err := os.WriteFile(filepath.Join(s.dir, "x"), nil, 0o600); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	starts.Wait()
	if got := names(t, parent); !slices.Equal(got, []string{"turn.lock"}) {
		t.Errorf("left %q", got)
	}
}

func TestScratchRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openScratch(t.Context(), file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v", err)
	}
}
