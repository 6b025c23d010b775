package peer

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The programs of the makefile come first, restic alone is looked for on the
// path, and what is missing says how to get it.
func TestFind(t *testing.T) {
	dir, path := t.TempDir(), t.TempDir()
	t.Setenv("PATH", path)
	t.Setenv("CKPT_RCLONE", "")
	tools := Tools{Dir: dir}
	for name, hint := range map[string]string{"rclone": "bench-tools", "restic": "apt-get"} {
		if _, err := tools.Find(name); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v, want a word on %s", name, err, hint)
		}
		if err := os.WriteFile(filepath.Join(path, name), []byte("#!/bin/sh\n"), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tools.Find("rclone"); !errors.Is(err, ErrMissing) {
		t.Errorf("rclone is not pinned, and was taken: %v", err)
	}
	if got, err := tools.Find("restic"); err != nil || got != filepath.Join(path, "restic") {
		t.Errorf("restic: %s, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rclone"), nil, 0o777); err != nil {
		t.Fatal(err)
	}
	if got, err := tools.Find("rclone"); err != nil || got != filepath.Join(dir, "rclone") {
		t.Errorf("rclone: %s, %v", got, err)
	}
	t.Setenv("CKPT_RCLONE", "/elsewhere")
	if got, err := tools.Find("rclone"); err != nil || got != "/elsewhere" {
		t.Errorf("rclone of the environment: %s, %v", got, err)
	}
}

// A later upload of the classic way sends the new tables only, and the small
// files again.
func TestClassicUploadsWhatIsNew(t *testing.T) {
	var mu sync.Mutex
	var puts []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPut {
			puts = append(puts, filepath.Base(r.URL.Path))
		}
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	c, err := OpenClassic(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	raw := Raw{Client: Client(server.URL), Prefix: "p", Parallel: 2}
	tables := make(map[string]int)
	for i := range 3 {
		if err := c.Put(fmt.Appendf(nil, "key-%d", i), []byte("value")); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, fmt.Sprint("checkpoint-", i))
		if err := c.Checkpoint(to); err != nil {
			t.Fatal(err)
		}
		sent, err := c.Upload(t.Context(), raw, to)
		if err != nil || sent == 0 {
			t.Fatalf("sent %d bytes: %v", sent, err)
		}
		if !slices.ContainsFunc(puts, func(name string) bool { return strings.HasPrefix(name, "MANIFEST") }) {
			t.Errorf("upload %d has no manifest: %v", i, puts)
		}
		for _, name := range puts {
			if strings.HasSuffix(name, ".sst") {
				tables[name]++
			}
		}
		puts = nil
	}
	for name, times := range tables {
		if times > 1 {
			t.Errorf("%s was uploaded %d times", name, times)
		}
	}
	if len(tables) != 3 {
		t.Errorf("%d tables were uploaded, want 3: one a flush", len(tables))
	}
	if value, ok, err := c.Get([]byte("key-1")); err != nil || !ok || string(value) != "value" {
		t.Errorf("get: %q, %t, %v", value, ok, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}
