package seal_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
)

// discard is a store that reads what it is given as often as a real one does
// (a checksum, then the request).
type discard struct {
	objectstore.Store
	passes int
}

func (d *discard) Put(_ context.Context, _ string, body objectstore.Body, _ objectstore.PutOptions) (objectstore.Info, error) {
	for range d.passes {
		buf := make([]byte, 256<<10)
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.NewSectionReader(body, 0, body.Size()), buf); err != nil {
			return objectstore.Info{}, err
		}
	}
	return objectstore.Info{Size: body.Size()}, nil
}

func BenchmarkPut(b *testing.B) {
	const size = 64 << 20
	body := objectstore.Bytes(content(size))
	for _, passes := range []int{1, 2} {
		under := &discard{passes: passes}
		for name, s := range map[string]objectstore.Store{"plain": under, "sealed": newStore(b, under)} {
			b.Run(fmt.Sprintf("%s/passes=%d", name, passes), func(b *testing.B) {
				b.SetBytes(size)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.Put(b.Context(), "data/x", body, objectstore.PutOptions{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	const size = 64 << 20
	mem := objectstore.NewMem()
	sealed := newStore(b, mem)
	put(b, mem, "plain", content(size))
	put(b, sealed, "sealed", content(size))
	for _, r := range []struct {
		name   string
		off, n int64
	}{{"whole", 0, -1}, {"segment", 5 << 20, 128 << 10}} {
		for key, s := range map[string]objectstore.Store{"plain": mem, "sealed": sealed} {
			b.Run(r.name+"/"+key, func(b *testing.B) {
				b.ReportAllocs()
				buf := make([]byte, 256<<10)
				var n int64
				for b.Loop() {
					body, _, err := s.Get(b.Context(), key, r.off, r.n)
					if err != nil {
						b.Fatal(err)
					}
					if n, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{body}, buf); err != nil {
						b.Fatal(err)
					}
					body.Close()
				}
				b.SetBytes(n)
			})
		}
	}
}

func BenchmarkHeader(b *testing.B) {
	for name, line := range map[string]string{"x25519": newIdentity(b), "hybrid": newHybrid(b)} {
		mem := objectstore.NewMem()
		b.Run(name+"/put", func(b *testing.B) {
			s := newStore(b, mem, line)
			for b.Loop() {
				put(b, s, "data/x", nil)
			}
		})
		b.Run(name+"/get", func(b *testing.B) {
			for b.Loop() {
				if _, err := readAll(b, newStore(b, mem, line), "data/x", 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
