package wire

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
)

func TestKindOf(t *testing.T) {
	for _, c := range []struct {
		method, url, copyOf string
		want                Kind
	}{
		{"PUT", "/b/data/a", "", Put},
		{"PUT", "/b/data/a?partNumber=3&uploadId=x", "", Part},
		{"PUT", "/b/data/a", "/b/c", Copy},
		{"PUT", "/b", "", Other},
		{"POST", "/b/a?uploads", "", Multipart},
		{"POST", "/b/a?uploadId=x", "", Multipart},
		{"DELETE", "/b/a?uploadId=x", "", Multipart},
		{"POST", "/b/?delete", "", Delete},
		{"DELETE", "/b/a", "", Delete},
		{"GET", "/b/a", "", Get},
		{"GET", "/b/?list-type=2", "", List},
		{"GET", "/b", "", List},
		{"HEAD", "/b/a", "", Head},
		{"HEAD", "/b", "", Head},
	} {
		r := httptest.NewRequest(c.method, c.url, nil)
		if c.copyOf != "" {
			r.Header.Set("X-Amz-Copy-Source", c.copyOf)
		}
		if got := kindOf(r); got != c.want {
			t.Errorf("%s %s: %v, want %v", c.method, c.url, got, c.want)
		}
	}
}

// echo answers with what it is sent, and notes the Host it was asked for.
func startEcho(t *testing.T) (*Proxy, *string) {
	t.Helper()
	host := new(string)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*host = r.Host
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client sees a short answer
		}
		w.Write(body)
	}))
	t.Cleanup(upstream.Close)
	p, err := NewProxy(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, host
}

func do(t *testing.T, method, url string, body []byte) []byte {
	t.Helper()
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestProxyCountsWhatPasses(t *testing.T) {
	p, host := startEcho(t)
	body := bytes.Repeat([]byte("12345"), 20_000)
	before := p.Counts()
	for range 3 {
		if got := do(t, "PUT", p.URL+"/b/key", body); !bytes.Equal(got, body) {
			t.Fatalf("answer has %d bytes, want %d", len(got), len(body))
		}
	}
	do(t, "GET", p.URL+"/b/key", nil)
	if want := strings.TrimPrefix(p.URL, "http://"); *host != want {
		t.Errorf("host is %q at the server, want %q", *host, want)
	}
	c := p.Counts().Sub(before)
	if c.Requests[Put] != 3 || c.Requests[Get] != 1 || c.Total() != 4 || c.Total(Get) != 3 {
		t.Errorf("requests %v", c.ByKind())
	}
	if want := int64(3 * len(body)); c.In != want || c.Out != want {
		t.Errorf("%d bytes in, %d out, want %d", c.In, c.Out, want)
	}
	if again := p.Counts().Sub(p.Counts()); again != (Counts{}) {
		t.Errorf("nothing passed, and %+v was counted", again)
	}
}

// A link lets no more through than its rate, whatever the machine does: only
// the lower bound of the time is certain.
func TestProxyHoldsToTheLink(t *testing.T) {
	p, _ := startEcho(t)
	p.SetLink(4 << 20)
	body := make([]byte, 256<<10)
	begin := time.Now()
	do(t, "PUT", p.URL+"/b/key", body) // and back again
	floor := time.Duration(float64(2*len(body)-burst) / (4 << 20) * float64(time.Second))
	if took := time.Since(begin); took < floor {
		t.Errorf("%d bytes passed both ways in %v, want %v or more", len(body), took, floor)
	}
}

func TestProxyDelaysGets(t *testing.T) {
	p, _ := startEcho(t)
	const delay = 30 * time.Millisecond
	p.SetDelay(delay)
	begin := time.Now()
	do(t, "GET", p.URL+"/b/key", nil)
	if took := time.Since(begin); took < delay {
		t.Errorf("a GET took %v, want %v or more", took, delay)
	}
}

func TestStoreCounts(t *testing.T) {
	s := NewStore(objectstore.NewMem())
	ctx := t.Context()
	if _, err := s.Put(ctx, "a", objectstore.Bytes([]byte("12345")), objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	data, _, err := objectstore.ReadAll(ctx, s, "a", 10)
	if err != nil || len(data) != 5 {
		t.Fatalf("read %q, %v", data, err)
	}
	if _, err := s.Stat(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	for _, err := range s.List(ctx, "", "") {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(ctx, "a", "b"); err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"put": 1, "get": 1, "head": 1, "list": 1, "delete": 2}
	c := s.Counts()
	for kind, n := range want {
		if c.ByKind()[kind] != n {
			t.Errorf("%s: %d, want %d", kind, c.ByKind()[kind], n)
		}
	}
	if c.In != 5 || c.Out != 5 || c.Total() != 6 {
		t.Errorf("%+v", c)
	}
}
