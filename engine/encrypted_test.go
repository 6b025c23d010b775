package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
)

// newKey is a secret key as a line of a key file.
func newKey(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

func keysOf(t *testing.T, lines ...string) *seal.Keys {
	t.Helper()
	k, err := seal.ReadKeys(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// secretWord is a key of the state that does not compress.
func secretWord(r record) string {
	sum := sha256.Sum256([]byte(r.Word))
	return hex.EncodeToString(sum[:])
}

// secretly is counting by secret words.
func secretly(src engine.Source[record], sink engine.Sink[counted]) *engine.Job {
	job := engine.NewJob("count")
	counts := engine.Process(engine.KeyBy(engine.From(job, "numbers", src), state.String, secretWord), "count", newCounter)
	engine.To(counts, "out", sink)
	return job
}

// shown are the stored objects that show content: a key of the state, which a
// table may hold compressed, the end of a table, the beginning of a manifest.
func shown(t *testing.T, store objectstore.Store) (names []string) {
	t.Helper()
	secrets := []string{"ckptmfst", "\xf0\x9f\xaa\xb3\xf0\x9f\xaa\xb3"}
	for i := range 23 {
		secrets = append(secrets, secretWord(record{Word: fmt.Sprint("w", i)})[:16])
	}
	for info, err := range store.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := objectstore.ReadAll(t.Context(), store, info.Key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range secrets {
			if bytes.Contains(b, []byte(s)) {
				names = append(names, info.Key)
				break
			}
		}
	}
	return names
}

// An encrypted job is exactly once over crashes, rescaling, both ways of
// restoring and a change of its key, and no stored object shows its content.
func TestEncryptedJob(t *testing.T) {
	const splits, n = 4, 300
	first, second := newKey(t), newKey(t)
	store, out := objectstore.NewMem(), newWorld()
	src := &numbers{splits: splits, records: n, chunk: 20}
	encrypted := func(p int, keys ...string) engine.Config {
		cfg := config(t, store, p)
		cfg.Keys = keysOf(t, keys...)
		if p == 3 {
			cfg.Restore = state.Lazy
		}
		return cfg
	}
	interrupt(t, secretly(src, out), encrypted(2, first), 3)
	interrupt(t, secretly(src, out), encrypted(3, first), 3)
	interrupt(t, secretly(src, out), encrypted(3, second, first), 3)
	run(t, secretly(src, out), encrypted(3, second, first))
	out.check(t, splits, n)
	if names := shown(t, store); len(names) > 0 {
		t.Errorf("these objects show content: %q", names)
	}
	h := head(t, store)
	newest, _ := h.Newest()
	if h.Format != 2 || h.Keys[len(h.Keys)-1].ID != keysOf(t, second).IDs()[0] || len(newest.KeyIDs) == 0 {
		t.Errorf("HEAD of format %d with keys %v, newest checkpoint %v", h.Format, h.Keys, newest.KeyIDs)
	}

	// The same job without keys shows it all: the test would notice.
	plain := objectstore.NewMem()
	run(t, secretly(src, newWorld()), config(t, plain, 2))
	if names := strings.Join(shown(t, plain), " "); !strings.Contains(names, manifest.DataPrefix) || !strings.Contains(names, manifest.ManifestsPrefix) {
		t.Errorf("a plain job shows its content in %q only", names)
	}
}

// A start with keys that do not fit ends at once and changes nothing.
func TestEncryptionRefused(t *testing.T) {
	first, second := newKey(t), newKey(t)
	for _, tc := range []struct {
		name        string
		begun, goes []string
		want        error
	}{
		{"without keys", []string{first}, nil, objectstore.ErrKey},
		{"another key", []string{first}, []string{second}, objectstore.ErrKey},
		{"keys for a plain job", nil, []string{first}, catalog.ErrEncryption},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := objectstore.NewMem()
			with := func(keys []string) engine.Config {
				cfg := config(t, store, 1)
				if keys != nil {
					cfg.Keys = keysOf(t, keys...)
				}
				return cfg
			}
			src := &numbers{splits: 1, records: 100, chunk: 20}
			interrupt(t, secretly(src, newWorld()), with(tc.begun), 2)
			before := head(t, store)
			failed := 0
			cfg := with(tc.goes)
			cfg.Events.Failed = func(f engine.Failed) { failed++ }
			for _, fresh := range []bool{false, true} {
				cfg.Fresh = fresh
				if err := engine.Run(t.Context(), secretly(src, newWorld()), cfg); !errors.Is(err, tc.want) {
					t.Errorf("fresh %v: %v, want %v", fresh, err, tc.want)
				}
			}
			if failed != 2 {
				t.Errorf("it was tried %d times, want twice", failed)
			}
			if after := head(t, store); after.Swap != before.Swap {
				t.Error("HEAD was changed")
			}
		})
	}
}

// A job whose encryption does not take effect does not begin.
func TestEncryptionNotEffective(t *testing.T) {
	store := &opener{Store: objectstore.NewMem()}
	cfg := config(t, store, 1)
	cfg.Keys = keysOf(t, newKey(t))
	err := engine.Run(t.Context(), secretly(&numbers{splits: 1, records: 10, chunk: 5}, newWorld()), cfg)
	if !errors.Is(err, seal.ErrNotEffective) {
		t.Errorf("got %v, want ErrNotEffective", err)
	}
	for info := range store.List(t.Context(), "", "") {
		t.Errorf("%q was stored", info.Key)
	}
	cfg.Keys = &seal.Keys{}
	if err := engine.Run(t.Context(), secretly(&numbers{splits: 1}, newWorld()), cfg); !errors.Is(err, seal.ErrNoKeys) {
		t.Errorf("without a key: %v", err)
	}
}

// opener is a store that stores something else than it is given.
type opener struct{ objectstore.Store }

func (o *opener) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	return o.Store.Put(ctx, key, objectstore.Bytes(bytes.Repeat([]byte("x"), int(body.Size()))), opts)
}
