package retention_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// world is a job with one subtask, whose checkpoints name the objects that a
// test says.
type world struct {
	t     *testing.T
	mem   *objectstore.Mem
	store *storetest.Faulty // over mem; what the job and retention use
	cat   *catalog.Catalog
	owner *catalog.Owner
	n     uint64 // counts objects
	parts manifest.PartsOptions
}

func newWorld(t *testing.T) *world {
	t.Helper()
	mem := objectstore.NewMem()
	w := &world{t: t, mem: mem, store: storetest.NewFaulty(mem, 1)}
	w.cat = catalog.New(w.store, "job")
	w.takeOver()
	return w
}

// takeOver starts the job anew.
func (w *world) takeOver() {
	w.t.Helper()
	owner, err := w.cat.TakeOver(w.t.Context(), catalog.TakeOverOptions{Parts: w.parts})
	if err != nil {
		w.t.Fatal(err)
	}
	w.owner = owner
}

// upload stores an object of the task for checkpoint id in the owner's epoch.
func (w *world) upload(id manifest.ID) manifest.Object {
	w.t.Helper()
	w.n++
	name := manifest.DataName{ID: id, Epoch: w.owner.Epoch(), Operator: "count", N: w.n, Ext: manifest.ExtSST}
	return w.put(name.Key())
}

func (w *world) put(key string) manifest.Object {
	w.t.Helper()
	body := []byte("content of " + key)
	if _, err := w.mem.Put(w.t.Context(), key, objectstore.Bytes(body), objectstore.PutOptions{}); err != nil {
		w.t.Fatal(err)
	}
	return manifest.Object{Key: key, Size: int64(len(body)), SHA256: sha256.Sum256(body)}
}

// newManifest is checkpoint id of the job, which needs the given objects.
func (w *world) newManifest(id, base manifest.ID, kind manifest.Kind, needs ...manifest.Object) *manifest.Manifest {
	keyed := &manifest.KeyedState{KeyGroups: manifest.KeyGroupRange{First: 0, Last: 127}}
	for i, o := range needs {
		keyed.Deltas = append(keyed.Deltas, manifest.Delta{Position: uint64(i + 1), Object: o, Entries: 1, Bytes: 1})
	}
	return &manifest.Manifest{
		Job: "job", ID: id, Base: base, Epoch: w.owner.Epoch(), Kind: kind, Time: time.Unix(int64(id), 0),
		Operators: []manifest.Operator{{
			UID: "count", Parallelism: 1, MaxParallelism: 128, Hasher: "murmur3-32/1",
			Tasks: []manifest.Task{{Keyed: keyed}},
		}},
		Stats: manifest.Stats{Objects: int64(len(needs))},
	}
}

// commit commits checkpoint id and unlinks those in retire in the same swap.
func (w *world) commit(id manifest.ID, needs []manifest.Object, retire ...manifest.ID) (catalog.Entry, *manifest.Manifest) {
	w.t.Helper()
	m := w.newManifest(id, 0, manifest.Periodic, needs...)
	e, err := w.owner.Commit(w.t.Context(), m, func(catalog.Head) []manifest.ID { return retire })
	if err != nil {
		w.t.Fatal(err)
	}
	return e, m
}

// pin reads checkpoint id until the returned function is called.
func (w *world) pin(id manifest.ID) (release func()) {
	w.t.Helper()
	_, e, err := w.cat.Resolve(w.t.Context(), fmt.Sprint(id))
	if err != nil {
		w.t.Fatal(err)
	}
	pin, err := w.cat.Pin(w.t.Context(), e, time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	return func() {
		w.t.Helper()
		if err := pin.Release(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// stored are the keys in the store but for HEAD, ascending.
func (w *world) stored() []string {
	w.t.Helper()
	var keys []string
	for info, err := range w.mem.List(w.t.Context(), "", "") {
		if err != nil {
			w.t.Fatal(err)
		}
		if info.Key != manifest.HeadKey {
			keys = append(keys, info.Key)
		}
	}
	return keys
}

// wantStored fails unless exactly these objects and manifests are stored.
func (w *world) wantStored(want ...any) {
	w.t.Helper()
	var keys []string
	for _, x := range want {
		switch x := x.(type) {
		case manifest.Object:
			keys = append(keys, x.Key)
		case catalog.Entry:
			keys = append(keys, x.ManifestKey())
		case string:
			keys = append(keys, x)
		default:
			w.t.Fatalf("want of type %T", x)
		}
	}
	slices.Sort(keys)
	if got := w.stored(); !slices.Equal(got, keys) {
		w.t.Errorf("stored:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(keys, "\n\t"))
	}
}

// wantWhole fails unless every listed checkpoint has its manifest and objects.
func (w *world) wantWhole() {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	cat := catalog.New(w.mem, "job")
	head, err := cat.Head(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range head.Checkpoints {
		m, err := cat.Manifest(ctx, e)
		if err != nil {
			w.t.Errorf("checkpoint %d: %v", e.ID, err)
			continue
		}
		for o := range m.Objects() {
			if _, err := w.mem.Stat(ctx, o.Key); err != nil {
				w.t.Errorf("checkpoint %d lost %s: %v", e.ID, o.Key, err)
			}
		}
	}
}

func objects(os ...manifest.Object) []manifest.Object { return os }
