package catalog

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// keyed is a store that says it encrypts.
type keyed struct {
	objectstore.Store
	ids []string
}

func (k keyed) KeyIDs() []string { return k.ids }

// withKeys is a process's view of the job by way of keys; none: it has none.
func withKeys(w *world, ids ...string) *Catalog {
	if len(ids) == 0 {
		return w.catalog()
	}
	return New(keyed{w, ids}, job)
}

// naming is a checkpoint that names one object of each epoch.
func naming(o *Owner, id, base manifest.ID, epochs ...manifest.Epoch) *manifest.Manifest {
	m := checkpoint(o, id, base)
	op := manifest.Operator{UID: "op", Parallelism: 1, MaxParallelism: 1, Tasks: make([]manifest.Task, 1)}
	for _, e := range epochs {
		name := manifest.DataName{ID: id, Epoch: e, Operator: "op", N: uint64(e), Ext: manifest.ExtSST}
		op.Tasks[0].Reserved = append(op.Tasks[0].Reserved, manifest.Object{Key: name.Key(), Size: 1})
	}
	m.Operators = []manifest.Operator{op}
	return m
}

func mustCommit(t *testing.T, o *Owner, m *manifest.Manifest, retire ...manifest.ID) {
	t.Helper()
	if _, err := o.Commit(t.Context(), m, func(Head) []manifest.ID { return retire }); err != nil {
		t.Fatal(err)
	}
}

// Each checkpoint lists the keys it takes, and an old key is forgotten when no
// checkpoint takes it any more.
func TestKeyRotation(t *testing.T) {
	w := newWorld()
	first := takeOver(t, withKeys(w, "aa"))
	mustCommit(t, first, naming(first, 1, 0, 1))

	second := takeOver(t, withKeys(w, "bb", "aa"))
	mustCommit(t, second, naming(second, 2, 1, 1, 2))
	mustCommit(t, second, naming(second, 3, 2, 2))
	head := readHead(t, withKeys(w, "bb", "aa"))
	if want := []Key{{"aa", 1}, {"bb", 2}}; !reflect.DeepEqual(head.Keys, want) || head.Format != 2 {
		t.Errorf("format %d, keys %v, want %v", head.Format, head.Keys, want)
	}
	for i, want := range [][]string{{"aa"}, {"aa", "bb"}, {"bb"}} {
		e := head.Checkpoints[i]
		m, err := withKeys(w, "bb", "aa").Manifest(t.Context(), e)
		if err != nil || !slices.Equal(e.KeyIDs, want) || !slices.Equal(m.KeyIDs, want) {
			t.Errorf("checkpoint %d takes %v, want %v; %v", e.ID, e.KeyIDs, want, err)
		}
	}
	// Without the old key, what needs it is refused and the rest is not.
	_, err := withKeys(w, "bb").Manifest(t.Context(), head.Checkpoints[1])
	if keyErr, ok := errors.AsType[*objectstore.KeyError](err); !ok || !slices.Equal(keyErr.Want, []string{"aa"}) {
		t.Errorf("read without the old key: %v", err)
	}
	if _, err := withKeys(w, "bb").TakeOver(t.Context(), TakeOverOptions{}); !errors.Is(err, objectstore.ErrKey) {
		t.Errorf("take over without the old key: %v", err)
	}
	mustCommit(t, second, naming(second, 4, 3, 2), 1, 2)
	if got, want := readHead(t, w.catalog()).Keys, []Key{{"bb", 2}}; !reflect.DeepEqual(got, want) {
		t.Errorf("after the last use of the old key: %v, want %v", got, want)
	}
	third := takeOver(t, withKeys(w, "bb"))
	mustCommit(t, third, naming(third, 5, 4, 2, 3))
	if got := readHead(t, w.catalog()).Checkpoints[2].KeyIDs; !slices.Equal(got, []string{"bb"}) {
		t.Errorf("the newest checkpoint takes %v", got)
	}
}

// A job with checkpoints is all encrypted or all plain. A refusal changes
// nothing; HEAD and pins are read without keys.
func TestEncryptionIsNotMixed(t *testing.T) {
	for _, tc := range []struct {
		name          string
		begun, goesOn []string
		want          error
	}{
		{"plain, then encrypted", nil, []string{"aa"}, ErrEncryption},
		{"encrypted, then plain", []string{"aa"}, nil, ErrEncryption},
		{"encrypted, then plain: names the key", []string{"aa"}, nil, objectstore.ErrKey},
		{"another key", []string{"aa"}, []string{"bb"}, objectstore.ErrKey},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			// A job without checkpoints may be changed.
			takeOver(t, withKeys(w, tc.goesOn...))
			o := takeOver(t, withKeys(w, tc.begun...))
			mustCommit(t, o, naming(o, 1, 0, 2))
			before := w.bytesOf(t, manifest.HeadKey)
			other := withKeys(w, tc.goesOn...)
			if _, err := other.TakeOver(t.Context(), TakeOverOptions{}); !errors.Is(err, tc.want) {
				t.Errorf("take over: %v, want %v", err, tc.want)
			}
			if string(w.bytesOf(t, manifest.HeadKey)) != string(before) {
				t.Error("HEAD was changed")
			}
			head := readHead(t, other)
			if _, err := other.Manifest(t.Context(), head.Checkpoints[0]); !errors.Is(err, tc.want) {
				t.Errorf("read manifest: %v, want %v", err, tc.want)
			}
		})
	}
}
