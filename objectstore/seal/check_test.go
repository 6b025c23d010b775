package seal_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// tampering is a store that does something to what it is given.
type tampering struct {
	objectstore.Store
	put func(objectstore.Body) objectstore.Body
}

func (s *tampering) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	return s.Store.Put(ctx, key, s.put(body), opts)
}

func TestCheck(t *testing.T) {
	text := func(objectstore.Body) objectstore.Body {
		return objectstore.Bytes([]byte("age-encryption.org/v1\nthis text must not be found in the store. "))
	}
	flip := func(b objectstore.Body) objectstore.Body {
		data := make([]byte, b.Size())
		b.ReadAt(data, 0)
		data[len(data)-1] ^= 1
		return objectstore.Bytes(data)
	}
	deny := storetest.Fail(objectstore.ErrPermission)
	for _, tc := range []struct {
		name  string
		under func(objectstore.Store) objectstore.Store
		want  error
	}{
		{"good", func(s objectstore.Store) objectstore.Store { return s }, nil},
		{"content shows", func(s objectstore.Store) objectstore.Store { return &tampering{Store: s, put: text} }, seal.ErrNotEffective},
		{"does not open", func(s objectstore.Store) objectstore.Store { return &tampering{Store: s, put: flip} }, seal.ErrNotEffective},
		{"store refuses", func(s objectstore.Store) objectstore.Store {
			return storetest.NewFaulty(s, 1, storetest.Rule{Op: storetest.Put, Do: deny})
		}, objectstore.ErrPermission},
		{"store is away", func(s objectstore.Store) objectstore.Store {
			return storetest.NewFaulty(s, 1, storetest.Rule{Op: storetest.Get, Do: storetest.Fail(objectstore.ErrUnavailable)})
		}, objectstore.ErrUnavailable},
		{"may not delete", func(s objectstore.Store) objectstore.Store {
			return storetest.NewFaulty(s, 1, storetest.Rule{Op: storetest.Delete, Do: deny})
		}, nil},
		{"lost answer", func(s objectstore.Store) objectstore.Store {
			return storetest.NewFaulty(s, 1, storetest.Rule{Op: storetest.Put, Do: storetest.LoseAnswer()})
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mem := objectstore.NewMem()
			err := newStore(t, tc.under(mem)).Check(t.Context(), "probe/")
			if !errors.Is(err, tc.want) || tc.want != seal.ErrNotEffective && errors.Is(err, seal.ErrNotEffective) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			for info := range mem.List(t.Context(), "", "") {
				if tc.name != "may not delete" {
					t.Errorf("left behind: %q", info.Key)
				}
			}
		})
	}
}

func TestNewWithoutKeys(t *testing.T) {
	for _, keys := range []*seal.Keys{nil, {}} {
		if _, err := seal.New(objectstore.NewMem(), keys); !errors.Is(err, seal.ErrNoKeys) {
			t.Errorf("got %v, want ErrNoKeys", err)
		}
	}
}
