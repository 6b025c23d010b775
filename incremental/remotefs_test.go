package incremental

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// remoteBytes is a file system with one remote table of random bytes, /db/t.sst.
type remoteBytes struct {
	*RemoteFS
	disk    *vfs.MemFS
	store   *storetest.Faulty
	content []byte
	object  manifest.Object
	cancel  context.CancelFunc
}

const tablePath = "/db/t.sst"

func newRemoteBytes(t *testing.T, size int, rules ...storetest.Rule) *remoteBytes {
	t.Helper()
	mem := objectstore.NewMem()
	content := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(content)
	o := manifest.Object{Key: "data/t", Size: int64(size), SHA256: sha256.Sum256(content)}
	overwrite(t, mem, o.Key, content)
	r := &remoteBytes{disk: vfs.NewMem(), store: storetest.NewFaulty(mem, 1, rules...), content: content, object: o}
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	r.RemoteFS = NewRemoteFS(ctx, r.disk, r.store)
	r.pause = time.Microsecond
	if err := r.disk.MkdirAll("/db", 0o700); err != nil {
		t.Fatal(err)
	}
	r.add(tablePath, r.remote(o.Key))
	return r
}

// remote is an object of the same bytes, with the digests of its segments.
func (r *remoteBytes) remote(key string) remoteObject {
	o := r.object
	o.Key = key
	d, _ := digestFile(bytes.NewReader(r.content), o.Size, true)
	return remoteObject{Object: o, segments: d.segments}
}

// read reads a range and wants it exact, or the error.
func (r *remoteBytes) read(off, n int) error {
	f, err := r.Open(tablePath)
	if err != nil {
		return err
	}
	defer f.Close()
	got := make([]byte, n)
	if _, err := f.ReadAt(got, int64(off)); err != nil {
		return err
	}
	if !bytes.Equal(got, r.content[off:off+n]) {
		return errors.New("other bytes")
	}
	return nil
}

func (r *remoteBytes) gets() (n int) {
	for _, c := range r.store.Calls() {
		if c.Op == storetest.Get {
			n++
		}
	}
	return n
}

// A read fetches the segments it touches, once.
func TestRemoteReadsBySegment(t *testing.T) {
	size := 10*segmentSize + 100
	r := newRemoteBytes(t, size)
	for _, c := range []struct{ off, n, gets int }{
		{size - 50, 50, 1},
		{size - 100, 100, 1},
		{3*segmentSize + 10, 10, 2},
		{3 * segmentSize, segmentSize, 2},
		{2*segmentSize - 1, 2, 3}, // two that are missing, in one
		{0, size, 5},              // what is left: before the fourth, and after
	} {
		if err := r.read(c.off, c.n); err != nil || r.gets() != c.gets {
			t.Errorf("read %d at %d: %v, %d gets so far, want %d", c.n, c.off, err, r.gets(), c.gets)
		}
	}
}

// Many readers at once and hydration beside them read what is there. Nothing is
// fetched twice, but what a reader did not want to wait for.
func TestRemoteConcurrentReaders(t *testing.T) {
	size := 40*segmentSize + 1
	r := newRemoteBytes(t, size)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for range 200 {
				off := rng.IntN(size)
				if err := r.read(off, 1+rng.IntN(min(3*segmentSize, size-off))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		if err := r.Hydrate(HydrateOptions{}); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	var fetched int64
	for _, c := range r.store.Calls() {
		fetched += min(c.Length, int64(size)-c.Offset)
	}
	if fetched < int64(size) || fetched > 2*int64(size) {
		t.Errorf("%d bytes were fetched of %d", fetched, size)
	}
	r.wantLocal(t)
}

// wantLocal wants nothing of the table to be remote any more.
func (r *remoteBytes) wantLocal(t *testing.T) {
	t.Helper()
	if left := r.Objects(); len(left) != 0 {
		t.Errorf("still remote: %v", left)
	}
	names, err := r.disk.List("/db")
	if err != nil || !slices.Equal(names, []string{"t.sst"}) {
		t.Errorf("local files are %q, %v", names, err)
	}
	r.store.Add(storetest.Rule{Do: storetest.Fail(errors.New("asked again"))})
	if err := r.read(0, len(r.content)); err != nil {
		t.Errorf("read locally: %v", err)
	}
}

// What a store does that comes right when asked again is not noticed.
func TestRemoteStoreFaultsThatPass(t *testing.T) {
	for name, rules := range map[string][]storetest.Rule{
		"unavailable":  {{Op: storetest.Get, Chance: 0.4, Do: storetest.Fail(objectstore.ErrUnavailable)}},
		"cut":          {{Op: storetest.Get, Chance: 0.4, Do: storetest.CutBody(segmentSize * 3 / 2)}},
		"cut at once":  {{Op: storetest.Get, Chance: 0.4, Do: storetest.CutBody(0)}},
		"truncated":    {{Op: storetest.Get, Chance: 0.4, Do: storetest.Truncate(10)}},
		"every one is": {{Op: storetest.Get, Do: storetest.Truncate(segmentSize + 1)}}, // there is progress
		"flipped once": {{Op: storetest.Get, Nth: 1, Do: storetest.FlipByte(3)}},
		"spoiled":      {{Op: storetest.Get, Chance: 0.4, Do: storetest.Fail(objectstore.ErrDamaged)}},
		"slow":         {{Op: storetest.Get, Do: storetest.Delay(time.Millisecond)}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRemoteBytes(t, 40*segmentSize+17, rules...)
			var last int64
			err := r.Hydrate(HydrateOptions{Progress: func(done, total int64) { last = done }})
			if err != nil || last != r.object.Size {
				t.Fatalf("hydrate: %v, %d bytes", err, last)
			}
			r.wantLocal(t)
		})
	}
}

// What is wrong for good ends in an error that says so, for every reader, and
// never looks like a file that does not exist.
func TestRemoteStoreFaultsThatStay(t *testing.T) {
	flipped := storetest.Rule{Op: storetest.Get, Do: storetest.FlipByte(3)}
	for name, c := range map[string]struct {
		rule    storetest.Rule
		damage  func(t *testing.T, r *remoteBytes)
		corrupt bool
		want    error
	}{
		"unavailable": {rule: storetest.Rule{Op: storetest.Get, Do: storetest.Fail(objectstore.ErrUnavailable)}, want: objectstore.ErrUnavailable},
		"no bytes":    {rule: storetest.Rule{Op: storetest.Get, Do: storetest.Truncate(0)}, want: io.EOF},
		"flipped":     {rule: flipped, corrupt: true},
		"not ours":    {rule: storetest.Rule{Op: storetest.Get, Do: storetest.Fail(objectstore.ErrDamaged)}, corrupt: true, want: objectstore.ErrDamaged},
		"plain":       {rule: storetest.Rule{Op: storetest.Get, Do: storetest.Fail(objectstore.ErrNotEncrypted)}, corrupt: true},
		"other bytes": {corrupt: true, damage: func(t *testing.T, r *remoteBytes) {
			overwrite(t, r.store, r.object.Key, make([]byte, r.object.Size))
		}},
		"longer": {corrupt: true, damage: func(t *testing.T, r *remoteBytes) {
			overwrite(t, r.store, r.object.Key, append(slices.Clone(r.content), 1))
		}},
		"missing": {corrupt: true, damage: func(t *testing.T, r *remoteBytes) { overwrite(t, r.store, r.object.Key, nil) }},
		"missing in the middle": {corrupt: true, damage: func(t *testing.T, r *remoteBytes) {
			if err := r.read(0, 10); err != nil {
				t.Fatal(err)
			}
			overwrite(t, r.store, r.object.Key, nil)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRemoteBytes(t, 40*segmentSize+17)
			if c.damage != nil {
				c.damage(t, r)
			}
			if c.rule.Op != "" {
				r.store.Add(c.rule)
			}
			hydrated := r.Hydrate(HydrateOptions{})
			for what, err := range map[string]error{"hydrate": hydrated, "read": r.read(39*segmentSize, 100)} {
				var corrupt *manifest.CorruptError
				if errors.Is(err, fs.ErrNotExist) || err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%s: %v", what, err)
				}
				if errors.As(err, &corrupt) != c.corrupt || c.corrupt && corrupt.Key != r.object.Key {
					t.Errorf("%s: %v, want a corrupt object: %t", what, err, c.corrupt)
				}
			}
			if names, _ := r.disk.List("/db"); slices.Contains(names, "t.sst") {
				t.Error("the table has its name")
			}
		})
	}
}

// F34: bytes that were spoiled on their way are asked for again before anybody
// sees them, whether there are digests of segments or not.
func TestF34_RemoteSpoiledOnTheWay(t *testing.T) {
	for _, opaque := range []bool{false, true} {
		r := newRemoteBytes(t, 2*segmentSize, storetest.Rule{Op: storetest.Get, Nth: 1, Do: storetest.FlipByte(3)})
		if opaque {
			r.add(tablePath, remoteObject{Object: r.object})
		}
		if err := r.read(0, 10); err != nil {
			t.Errorf("opaque=%t: %v", opaque, err)
		}
		if err := r.Hydrate(HydrateOptions{}); err != nil {
			t.Errorf("opaque=%t: hydrate: %v", opaque, err)
		}
		r.wantLocal(t)
	}
}

// A reader that waits for the store, and hydration, end with the context.
func TestRemoteCancelled(t *testing.T) {
	before := runtime.NumGoroutine()
	begun := make(chan struct{}, 10)
	r := newRemoteBytes(t, 40*segmentSize, storetest.Rule{Op: storetest.Get, Do: storetest.At(storetest.Before, func(ctx context.Context, _ storetest.Call) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})})
	errs := make(chan error, 3)
	go func() { errs <- r.read(39*segmentSize, 10) }()
	<-begun
	go func() { errs <- r.read(39*segmentSize, 10) }() // waits for the first
	go func() { errs <- r.Hydrate(HydrateOptions{}) }()
	<-begun
	r.cancel()
	for range 3 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("ends with %v", err)
		}
	}
	finishes(t, "goroutines", func() {
		for runtime.NumGoroutine() > before+2 { // finishes' own, and its test's
			runtime.Gosched()
		}
	})
}

// Names behave as those of files do.
func TestRemoteNames(t *testing.T) {
	r := newRemoteBytes(t, 2*segmentSize)
	other := manifest.Object{Key: "data/u", Size: 10}
	r.add("/db/u.sst", remoteObject{Object: other})
	if err := r.read(0, 1); err != nil { // makes the partial file
		t.Fatal(err)
	}
	list := func(dir string, want ...string) {
		t.Helper()
		names, err := r.List(dir)
		slices.Sort(names)
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("list %s: %q, %v; want %q", dir, names, err, want)
		}
	}
	list("/db", "t.sst", "u.sst")
	info, err := r.Stat(tablePath)
	if err != nil || info.Size() != r.object.Size || info.Name() != "t.sst" || info.IsDir() {
		t.Errorf("stat: %v, %v", info, err)
	}
	if err := vfs.LinkOrCopy(r, tablePath, "/db/u.sst"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("link over another: %v", err)
	}
	if err := r.Rename("/db", "/moved"); err != nil {
		t.Fatal(err)
	}
	list("/moved", "t.sst", "u.sst")
	if o, ok := r.RemoteFS.object("/moved/u.sst"); !ok || o != other {
		t.Errorf("moved table is %v, %t", o, ok)
	}
	if err := r.Remove("/moved/t.sst"); err != nil {
		t.Fatal(err)
	}
	list("/moved", "u.sst")
	if names, _ := r.disk.List("/moved"); len(names) != 0 {
		t.Errorf("left %q", names)
	}
	if err := r.RemoveAll("/moved"); err != nil || len(r.Objects()) != 0 {
		t.Errorf("remove all: %v, left %v", err, r.Objects())
	}
}

// A table that is removed while others are hydrated is done with, whether
// something of it is there or not.
func TestHydrateRemovedTables(t *testing.T) {
	r := newRemoteBytes(t, 2*segmentSize)
	for _, name := range []string{"a", "b"} {
		overwrite(t, r.store, "data/"+name, r.content)
		r.add("/db/"+name+".sst", r.remote("data/"+name))
	}
	err := r.Hydrate(HydrateOptions{Parallel: 1, Progress: func(done, _ int64) {
		if done > r.object.Size {
			t.Error("a removed table was hydrated")
		}
		if err := errors.Join(r.read(0, 1), r.Remove(tablePath), r.Remove("/db/b.sst")); err != nil {
			t.Error(err)
		}
	}})
	names, _ := r.disk.List("/db")
	if err != nil || !slices.Equal(names, []string{"a.sst"}) {
		t.Errorf("hydrate: %v, local files are %q", err, names)
	}
}

// Tables that are read are hydrated first.
func TestHydrateOrder(t *testing.T) {
	r := newRemoteBytes(t, 2*segmentSize)
	for _, name := range []string{"a", "b", "c"} {
		overwrite(t, r.store, "data/"+name, r.content)
		r.add("/db/"+name+".sst", r.remote("data/"+name))
	}
	if err := r.read(0, 1); err != nil {
		t.Fatal(err)
	}
	r.store.Forget()
	if err := r.Hydrate(HydrateOptions{Parallel: 1}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range r.store.Calls() {
		got = append(got, c.Key)
	}
	if want := []string{"data/t", "data/a", "data/b", "data/c"}; !slices.Equal(got, want) {
		t.Errorf("fetched %q, want %q", got, want)
	}
}
