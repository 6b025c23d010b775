package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
)

func testIfAbsent(t *testing.T, s objectstore.Store) {
	absent := objectstore.PutOptions{IfAbsent: true}
	put(t, s, "k", "one", absent)
	_, err := s.Put(t.Context(), "k", objectstore.Bytes([]byte("two")), absent)
	wantError(t, "second create", err, objectstore.ErrPrecondition)
	_, err = s.Put(t.Context(), "k", objectstore.Bytes([]byte("one")), absent)
	wantError(t, "second create with equal bytes", err, objectstore.ErrPrecondition)
	wantBody(t, s, "k", "one")
	if err := s.Delete(t.Context(), "k"); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	put(t, s, "k", "three", absent)
	wantBody(t, s, "k", "three")
}

func testIfMatch(t *testing.T, s objectstore.Store) {
	replace := func(etag, body string) error {
		_, err := s.Put(t.Context(), "k", objectstore.Bytes([]byte(body)), objectstore.PutOptions{IfMatch: etag})
		return err
	}
	first := put(t, s, "k", "one", objectstore.PutOptions{IfAbsent: true})
	read := wantBody(t, s, "k", "one")
	if err := replace(read.ETag, "two"); err != nil {
		t.Fatalf("replace by the ETag of a Get: %v", err)
	}
	wantError(t, "replace by a stale ETag", replace(first.ETag, "three"), objectstore.ErrPrecondition)
	wantBody(t, s, "k", "two")
	stat, err := s.Stat(t.Context(), "k")
	if err != nil {
		t.Fatalf("Stat: %v", err)
	}
	if err := replace(stat.ETag, "four"); err != nil {
		t.Fatalf("replace by the ETag of a Stat: %v", err)
	}
	fifth := put(t, s, "k", "five", objectstore.PutOptions{})
	if err := replace(fifth.ETag, "six"); err != nil {
		t.Fatalf("replace by the ETag of a Put: %v", err)
	}
	wantBody(t, s, "k", "six")
	if err := s.Delete(t.Context(), "k"); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	wantError(t, "replace a missing object", replace(fifth.ETag, "seven"), objectstore.ErrPrecondition)
	_, err = s.Stat(t.Context(), "k")
	wantError(t, "Stat", err, objectstore.ErrNotExist)
}

const racers, rounds = 16, 20

func testRaceIfAbsent(t *testing.T, s objectstore.Store) {
	for round := range rounds {
		raceOnce(t, s, fmt.Sprintf("race/%d", round), objectstore.PutOptions{IfAbsent: true})
	}
}

func testRaceIfMatch(t *testing.T, s objectstore.Store) {
	etag := put(t, s, "race", "start", objectstore.PutOptions{}).ETag
	for range rounds {
		etag = raceOnce(t, s, "race", objectstore.PutOptions{IfMatch: etag})
	}
}

// raceOnce lets writers do one conditional Put at the same time, checks that
// exactly one is told that it won and that its bytes are there, and returns
// their ETag.
func raceOnce(t *testing.T, s objectstore.Store, key string, opts objectstore.PutOptions) string {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	start := make(chan struct{})
	var winners []string
	for i := range racers {
		wg.Go(func() {
			<-start
			body := fmt.Sprintf("%s %s %d", key, opts.IfMatch, i)
			_, err := s.Put(t.Context(), key, objectstore.Bytes([]byte(body)), opts)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				winners = append(winners, body)
			case !errors.Is(err, objectstore.ErrPrecondition):
				t.Errorf("Put in a race: %v", err)
			}
		})
	}
	close(start)
	wg.Wait()
	if len(winners) != 1 {
		t.Fatalf("%d of %d racers won %q", len(winners), racers, key)
	}
	return wantBody(t, s, key, winners[0]).ETag
}

// testReadWhileWritten checks that a reader sees one version or another of an
// object, never a mixture or a part, and a description that fits.
func testReadWhileWritten(t *testing.T, s objectstore.Store) {
	const size = 300_000
	versions := []string{strings.Repeat("a", size), strings.Repeat("b", size-1)}
	written := map[string]byte{} // by ETag, which equal content need not share
	for _, v := range versions {
		written[put(t, s, "k", v, objectstore.PutOptions{}).ETag] = v[0]
	}
	read := map[string]byte{}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for i := range 40 {
			v := versions[i%2]
			info, err := s.Put(t.Context(), "k", objectstore.Bytes([]byte(v)), objectstore.PutOptions{})
			if err != nil {
				t.Errorf("Put: %v", err)
			}
			written[info.ETag] = v[0]
		}
	})
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		b, info, err := objectstore.ReadAll(t.Context(), s, "k", size)
		if err != nil {
			t.Errorf("read: %v", err)
			break
		}
		if v := versions[b[0]-'a']; string(b) != v || info.Size != int64(len(v)) {
			t.Errorf("read %d bytes beginning with %q and %+v", len(b), b[0], info)
		}
		read[info.ETag] = b[0]
	}
	wg.Wait()
	for etag, first := range read {
		if written[etag] != first {
			t.Errorf("read content %q with ETag %s, which was written with %q", first, etag, written[etag])
		}
	}
}

func testProbe(t *testing.T, s objectstore.Store) {
	if _, err := objectstore.Probe(t.Context(), s, "probe/"); err != nil {
		t.Errorf("Probe: %v", err)
	}
	wantKeys(t, s, "", "")
}
