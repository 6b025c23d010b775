package seal_test

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
)

// A limit is below the encryption: it holds back what is sent, small bodies too,
// of which sealed chunks are kept. The store keeps its keys.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := objectstore.NewLimiter(objectstore.LimiterOptions{BytesPerSecond: 10_000, Burst: 10_000})
		if err != nil {
			t.Fatal(err)
		}
		sealed := newStore(t, objectstore.NewMem())
		s := objectstore.Limit(sealed, l, objectstore.Urgent)
		if got, want := objectstore.KeyIDs(s), objectstore.KeyIDs(sealed); len(got) != 1 || !slices.Equal(got, want) {
			t.Errorf("the limited store has the keys %q, want %q", got, want)
		}
		content := bytes.Repeat([]byte("content"), 20_000)
		begin := time.Now()
		if _, err := s.Put(t.Context(), "manifests/a", objectstore.Bytes(content), objectstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 12*time.Second || took > 15*time.Second {
			t.Errorf("sending %d bytes took %v", len(content), took)
		}
		got, _, err := objectstore.ReadAll(t.Context(), sealed, "manifests/a", 1<<20)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	})
}
