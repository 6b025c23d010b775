package state

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
)

func mustValue[T any](t *testing.T, s *Store, name string, c Codec[T]) *Value[T] {
	t.Helper()
	v, err := NewValue(s, name, c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustSetKey(t *testing.T, s *Store, group uint16, key string) {
	t.Helper()
	if err := s.SetKey(group, []byte(key)); err != nil {
		t.Fatal(err)
	}
}

func TestValuesOfKeysAndStatesAreApart(t *testing.T) {
	s := newJob(t, testOptions(t)).store
	count := mustValue(t, s, "count", Int64)
	counter := mustValue(t, s, "counter", Int64)
	type place struct {
		v     *Value[int64]
		group uint16
		key   string
	}
	places := []place{{count, 0, "a"}, {count, 1, "a"}, {count, 1, "era"}, {counter, 1, "a"}, {count, 1, ""}, {counter, 1, ""}}
	for i, p := range places {
		mustSetKey(t, s, p.group, p.key)
		if got, ok, err := p.v.Get(); ok || err != nil {
			t.Fatalf("place %d holds %d before it was set, %v", i, got, err)
		}
		if err := p.v.Set(int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range places {
		mustSetKey(t, s, p.group, p.key)
		if got, ok, err := p.v.Get(); got != int64(i) || !ok || err != nil {
			t.Errorf("place %d = %d, %v, %v", i, got, ok, err)
		}
		if err := p.v.Clear(); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := p.v.Get(); ok || err != nil {
			t.Errorf("place %d is there after Clear, %v", i, err)
		}
	}
}

func TestValueNeedsKeyAndName(t *testing.T) {
	s := newJob(t, testOptions(t)).store
	v := mustValue(t, s, "count", Int64)
	if _, _, err := v.Get(); !errors.Is(err, ErrNoKey) {
		t.Errorf("get without a key: %v", err)
	}
	if err := v.Set(1); !errors.Is(err, ErrNoKey) {
		t.Errorf("set without a key: %v", err)
	}
	if err := v.Clear(); !errors.Is(err, ErrNoKey) {
		t.Errorf("clear without a key: %v", err)
	}
	for _, name := range []string{"", "a b", "a/b", ".."} {
		if _, err := NewValue(s, name, Int64); err == nil {
			t.Errorf("state name %q was taken", name)
		}
	}
}

// A state read with another codec, kind or key codec than it was written with
// is refused, also after a restore, and what it holds is not harmed.
func TestB46_WrongCodecIsRefused(t *testing.T) {
	opts := testOptions(t)
	opts.KeyCodec = String.Name()
	j := newJob(t, opts)
	mustSetKey(t, j.store, 1, "a")
	if err := mustValue(t, j.store, "count", Int64).Set(7); err != nil {
		t.Fatal(err)
	}
	j.trigger(manifest.Periodic)
	c := j.commit()

	open := func(keyCodec string) *Store {
		o := opts
		o.Store, o.Epoch, o.NextID, o.Restored = j.objects, 9, 9, c.keyed
		o.KeyCodec, o.Dir = keyCodec, filepath.Join(t.TempDir(), "s")
		s, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		mustSetKey(t, s, 1, "a")
		return s
	}
	var incompatible *IncompatibleStateError
	s := open(String.Name())
	wrong := mustValue(t, s, "count", String)
	for what, err := range map[string]error{"set": wrong.Set("x"), "clear": wrong.Clear()} {
		if !errors.As(err, &incompatible) || incompatible.State != "count" || incompatible.Have != "value int64/1 by string/1" {
			t.Errorf("%s with another codec: %v", what, err)
		}
	}
	if got, ok, err := mustValue(t, s, "count", Int64).Get(); got != 7 || !ok || err != nil {
		t.Errorf("value afterwards = %d, %v, %v", got, ok, err)
	}
	if _, _, err := mustValue(t, open(Int64.Name()), "count", Int64).Get(); !errors.As(err, &incompatible) {
		t.Errorf("get with another codec of keys: %v", err)
	}
}

func TestValueCodecErrorsNameTheState(t *testing.T) {
	s := newJob(t, testOptions(t)).store
	mustSetKey(t, s, 0, "k")
	v := mustValue(t, s, "shape", JSON[any]())
	if err := v.Set(func() {}); err == nil || err.Error()[:20] != `write state "shape":` {
		t.Errorf("set of what JSON cannot hold: %v", err)
	}
	if _, ok, err := v.Get(); ok || err != nil {
		t.Errorf("after a failed set: %v, %v", ok, err)
	}
}
