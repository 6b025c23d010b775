package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
)

// wantKeys checks a whole listing.
func wantKeys(t *testing.T, s objectstore.Store, prefix, after string, want ...string) {
	t.Helper()
	if got := keys(t, s, prefix, after); !slices.Equal(got, want) {
		t.Errorf("List(%q, %q) = %q, want %q", prefix, after, got, want)
	}
}

func keys(t *testing.T, s objectstore.Store, prefix, after string) []string {
	t.Helper()
	var got []string
	for info, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatalf("List(%q, %q): %v", prefix, after, err)
		}
		got = append(got, info.Key)
	}
	return got
}

// testListOrder lists keys around the slash in byte order: '-' and '.' sort
// before it, digits and letters after.
func testListOrder(t *testing.T, s objectstore.Store) {
	all := []string{
		"A", "B/x", "HEAD", "a-b", "a-b-/z", "a.b/c", "a.b0", "a/b", "a/c-", "a/c/d", "a/c/e/f", "a/c0",
		"a0", "ab", "ab-", "ab.c/d", "b", "ä/ö", "日本",
	}
	slices.Sort(all)
	for _, k := range slices.Backward(all) {
		put(t, s, k, k, objectstore.PutOptions{})
	}
	prefixes := []string{"", "a", "a-", "a/", "a/c", "a/c/", "a/c/e/f", "a/c/e/f/", "ab", "b", "x", "x/y", "日"}
	afters := append([]string{"", "0", "a", "a/", "a/b", "a/c", "a/c.", "a/c/", "a/c/d", "a/c/e", "a/c/zzz", "a/c0", "z", "~"}, all...)
	for _, prefix := range prefixes {
		for _, after := range afters {
			var want []string
			for _, k := range all {
				if strings.HasPrefix(k, prefix) && k > after {
					want = append(want, k)
				}
			}
			wantKeys(t, s, prefix, after, want...)
		}
	}
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil || info.Size != int64(len(info.Key)) || info.LastModified.IsZero() || info.Date.IsZero() {
			t.Errorf("List yields %+v, %v", info, err)
		}
	}
}

func testListEnds(t *testing.T, s objectstore.Store) {
	wantKeys(t, s, "", "")
	for _, k := range []string{"a/1", "b/2", "c/3"} {
		put(t, s, k, "x", objectstore.PutOptions{})
	}
	var got []string
	for info := range s.List(t.Context(), "", "") {
		got = append(got, info.Key)
		if len(got) == 2 {
			break
		}
	}
	if !slices.Equal(got, []string{"a/1", "b/2"}) {
		t.Errorf("a listing left early gave %q", got)
	}
	// A listing can be ranged over again and sees what is there then.
	list := s.List(t.Context(), "", "a/1")
	for range list {
		break
	}
	put(t, s, "b/1", "x", objectstore.PutOptions{})
	got = nil
	for info := range list {
		got = append(got, info.Key)
	}
	if !slices.Equal(got, []string{"b/1", "b/2", "c/3"}) {
		t.Errorf("the second time the listing gave %q", got)
	}
}

// testManyObjects lists and deletes more objects than one request of S3 takes.
func testManyObjects(t *testing.T, s objectstore.Store) {
	const n = 1205
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("many/%02x/%05d", i%7, i))
	}
	next := make(chan string)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for k := range next {
				if _, err := s.Put(t.Context(), k, objectstore.Bytes([]byte(k)), objectstore.PutOptions{IfAbsent: true}); err != nil {
					t.Errorf("Put %q: %v", k, err)
				}
			}
		})
	}
	for _, k := range want {
		next <- k
	}
	close(next)
	wg.Wait()
	slices.Sort(want)
	if got := keys(t, s, "many/", ""); !slices.Equal(got, want) {
		t.Errorf("List gave %d keys, want %d in order", len(got), n)
	}
	if got := keys(t, s, "", want[500]); !slices.Equal(got, want[501:]) {
		t.Errorf("List after the 501st gave %d keys, want %d in order", len(got), n-501)
	}
	keep := want[n-3:]
	if err := s.Delete(t.Context(), want[:n-3]...); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	wantKeys(t, s, "", "", keep...)
}

func testDelete(t *testing.T, s objectstore.Store) {
	for _, k := range []string{"d/a", "d/b", "d/c"} {
		put(t, s, k, "x", objectstore.PutOptions{})
	}
	if err := s.Delete(t.Context()); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
	if err := s.Delete(t.Context(), "d/a", "d/missing", "missing", "d/c", "d/a"); err != nil {
		t.Errorf("Delete of two that are there, one of them twice, and two that are not: %v", err)
	}
	wantKeys(t, s, "", "", "d/b")
	if err := s.Delete(t.Context(), "d"); err != nil {
		t.Errorf("Delete of what is no object: %v", err)
	}
	wantKeys(t, s, "", "", "d/b")
}
