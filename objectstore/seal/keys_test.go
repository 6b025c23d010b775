package seal_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
)

func readBad(file string) (*seal.Keys, error) { return seal.ReadKeys(strings.NewReader(file)) }

// checkSilent prints v in all ways and looks for the secret.
func checkSilent(t *testing.T, secret string, v any) {
	t.Helper()
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb, v)
	}
	js, _ := json.Marshal(v)
	b.Write(js)
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
	body := secret[len("AGE-SECRET-KEY-PQ-1"):]
	for _, s := range []string{body, body[:20], hex.EncodeToString([]byte(body[:20]))} {
		if strings.Contains(strings.ToUpper(b.String()), strings.ToUpper(s)) {
			t.Errorf("%T shows its secret: %s", v, b.String())
		}
	}
}

func TestReadKeys(t *testing.T) {
	one, two := newIdentity(t), newHybrid(t)
	file := "# created: 2026\r\n# public key: age1\n\n  " + one + "  \r\n" + two + "\n" + one
	keys, err := seal.ReadKeys(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.ParseX25519Identity(one)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(id.Recipient().String()))
	if ids := keys.IDs(); len(ids) != 2 || ids[0] != hex.EncodeToString(sum[:8]) || !slices.Equal(ids[1:], readKeys(t, two).IDs()) {
		t.Errorf("ids are %v", ids)
	}
	for _, bad := range []string{"", "# nothing\n", one + "\nrubbish", "\x00\xff", strings.Repeat("#\n", 1<<20)} {
		if _, err := seal.ReadKeys(strings.NewReader(bad)); !errors.Is(err, seal.ErrBadKeys) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if ids := (*seal.Keys)(nil).IDs(); len(ids) != 0 {
		t.Errorf("no keys have ids %v", ids)
	}
}

func TestLoadKeys(t *testing.T) {
	name := filepath.Join(t.TempDir(), "key")
	if _, _, err := seal.LoadKeys(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: true, 0o604: true} {
		os.Remove(name)
		if err := os.WriteFile(name, []byte(newIdentity(t)), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		keys, exposed, err := seal.LoadKeys(name)
		if err != nil || len(keys.IDs()) != 1 || exposed != (want && runtime.GOOS != "windows") {
			t.Errorf("mode %v: %v, exposed %v, %v", mode, keys, exposed, err)
		}
	}
}

// The secret shows in nothing that is printed.
func TestF61_KeysAreNotPrinted(t *testing.T) {
	for _, line := range []string{newIdentity(t), newHybrid(t)} {
		checkSilent(t, line, readKeys(t, line))
		checkSilent(t, line, newStore(t, objectstore.NewMem(), line))
	}
	for _, bad := range []string{
		newIdentity(t) + "x", "x" + newIdentity(t), newHybrid(t) + "0", "AGE-PLUGIN-YUBIKEY-1QQQQQQQQQQQQQQQQQQQQQQQ",
		strings.ToLower(newIdentity(t)) + "\x00", strings.Repeat("A", 100_000),
	} {
		_, err := readBad(bad)
		if !errors.Is(err, seal.ErrBadKeys) {
			t.Fatalf("%q: %v", bad, err)
		}
		if strings.Contains(strings.ToUpper(err.Error()), strings.ToUpper(bad[25:35])) {
			t.Errorf("the error shows what is in the file: %v", err)
		}
	}
}
