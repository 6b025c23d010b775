package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/internal/wordcheck"
)

// The program runs and goes on encrypted, refuses keys that do not fit, and
// shows its key nowhere.
func TestKeyFile(t *testing.T) {
	p := newPlace(t)
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first, second := newIdentity(t), newIdentity(t)
	key := write("key", first+"\n", 0o600)
	log := p.run(t, exit.OK, "--key-file", key)
	p.check(t, 1, wordcheck.Options{})
	log += p.run(t, exit.OK, "--key-file", write("rotated", second+"\n"+first+"\n", 0o600))
	log += p.run(t, exit.Usage)
	if !strings.Contains(log, "hint: give the file that holds the keys named") {
		t.Errorf("no hint: %s", log)
	}
	log += p.run(t, exit.Usage, "--key-file", write("other", newIdentity(t), 0o600))
	log += p.run(t, exit.Usage, "--key-file", write("broken", first[:40], 0o600))
	log += p.run(t, exit.Usage, "--key-file", filepath.Join(dir, "absent"))
	secrets := []string{first[20:40], second[20:40]}
	for _, s := range secrets {
		if strings.Contains(log, s) {
			t.Errorf("a log shows a key")
		}
	}
	// The store, the output and the state directory do not hold it either.
	root := filepath.Dir(p.output)
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(root, path))
		for _, s := range secrets {
			if strings.Contains(string(b), s) {
				t.Errorf("%s shows a key", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func newIdentity(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}
