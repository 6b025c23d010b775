package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

const job = "word-count"

// world is a store with faults in front of it and a record of every HEAD that
// was ever in place behind it.
type world struct {
	*storetest.Faulty
	past *history
}

func newWorld(rules ...storetest.Rule) *world {
	past := &history{Mem: objectstore.NewMem()}
	return &world{Faulty: storetest.NewFaulty(past, 1, rules...), past: past}
}

// catalog is one process's view of the job.
func (w *world) catalog() *Catalog { return New(w, job) }

// history is a store that keeps every HEAD.
type history struct {
	*objectstore.Mem
	mu    sync.Mutex
	heads []Head
}

func (h *history) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	if key != manifest.HeadKey {
		return h.Mem.Put(ctx, key, body, opts)
	}
	data := make([]byte, body.Size())
	if _, err := body.ReadAt(data, 0); err != nil && int64(len(data)) != body.Size() {
		return objectstore.Info{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	info, err := h.Mem.Put(ctx, key, objectstore.Bytes(data), opts)
	if head, bad := decodeHead(data, job); err == nil && bad == nil {
		h.heads = append(h.heads, head)
	}
	return info, err
}

func (h *history) all() []Head {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.heads)
}

// listed reports whether some HEAD ever listed a checkpoint.
func (h *history) listed(e Entry) bool {
	return slices.ContainsFunc(h.all(), func(head Head) bool {
		found, ok := head.Find(e.ID)
		return ok && found.ManifestSHA256 == e.ManifestSHA256
	})
}

func takeOver(t testing.TB, c *Catalog) *Owner {
	t.Helper()
	o, err := c.TakeOver(t.Context(), TakeOverOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// checkpoint is a manifest of an owner's.
func checkpoint(o *Owner, id, base manifest.ID) *manifest.Manifest {
	return &manifest.Manifest{Job: job, ID: id, Epoch: o.Epoch(), Kind: manifest.Periodic, Base: base}
}

func commit(t testing.TB, o *Owner, id, base manifest.ID, retire ...manifest.ID) Entry {
	t.Helper()
	e, err := o.Commit(t.Context(), checkpoint(o, id, base), func(Head) []manifest.ID { return retire })
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func readHead(t testing.TB, c *Catalog) Head {
	t.Helper()
	h, err := c.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ids(h Head) []manifest.ID {
	out := []manifest.ID{}
	for _, e := range h.Checkpoints {
		out = append(out, e.ID)
	}
	return out
}

func wantIDs(t testing.TB, h Head, want ...manifest.ID) {
	t.Helper()
	if got := ids(h); !slices.Equal(got, want) {
		t.Errorf("HEAD lists %v, want %v", got, want)
	}
}

// calls are those so far, as lines.
func (w *world) calls() []string {
	var out []string
	for _, c := range w.Calls() {
		out = append(out, c.String())
	}
	return out
}

// bytesOf reads an object behind the faults.
func (w *world) bytesOf(t testing.TB, key string) []byte {
	t.Helper()
	data, _, err := objectstore.ReadAll(t.Context(), w.past, key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// place puts an object behind the faults.
func (w *world) place(t testing.TB, key string, data []byte) {
	t.Helper()
	if _, err := w.past.Mem.Put(t.Context(), key, objectstore.Bytes(data), objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func head(key string, op storetest.Op, do storetest.Action) storetest.Rule {
	return storetest.Rule{Op: op, Key: "^" + key + "$", Do: do}
}

func nth(n int, r storetest.Rule) storetest.Rule {
	r.Nth = n
	return r
}

var errTooLate = errors.New("too late")

func contextWithTimeout(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(t.Context(), d, errTooLate)
}

func digest(data []byte) manifest.Digest { return sha256.Sum256(data) }

// newerManifest is a whole one of a format to come.
func newerManifest() []byte {
	data := binary.BigEndian.AppendUint16([]byte("ckptmfst"), manifest.Format+1)
	data = append(data, "what only they understand"...)
	sum := sha256.Sum256(data)
	return append(data, sum[:]...)
}
