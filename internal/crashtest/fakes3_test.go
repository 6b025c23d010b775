//go:build unix

package crashtest

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// The server accepts any credentials; these occur nowhere by chance.
const (
	fakeBucket = "bucket"
	fakeSecret = "wJalrXUtnFEMI0K7MDENG0bPxRfiCYEXAMPLEKEY"
	fakeToken  = "IQoJb3JpZ2luX2VjEXAMPLETOKEN"
)

// gate lets requests through, or makes them wait.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed while the gate is open
}

func newGate() *gate {
	g := &gate{opened: make(chan struct{})}
	close(g.opened)
	return g
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
	default:
		close(g.opened)
	}
}

// pass waits until the gate is open, and reports false if the client went
// away meanwhile.
func (g *gate) pass(r *http.Request) bool {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	select {
	case <-opened:
		return true
	case <-r.Context().Done():
		return false
	}
}

// fakeS3 starts an S3 server in this process, behind a gate.
func fakeS3(t *testing.T) (endpoint string, backend *s3mem.Backend, g *gate) {
	t.Helper()
	backend = s3mem.New()
	if err := backend.CreateBucket(fakeBucket); err != nil {
		t.Fatal(err)
	}
	g = newGate()
	server := gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.pass(r) {
			server.ServeHTTP(w, r)
		}
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(func() {
		g.open()
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL, backend, g
}

// onFakeS3 is a place with its store on an S3 server in this process.
func onFakeS3(t *testing.T) (*place, *s3mem.Backend, *gate) {
	endpoint, backend, g := fakeS3(t)
	p := newPlace(t)
	p.env = []string{
		"AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=" + fakeSecret, "AWS_SESSION_TOKEN=" + fakeToken, "AWS_PROFILE=",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
	}
	p.url = "s3://" + fakeBucket + "/jobs?endpoint=" + endpoint + "&region=us-east-1&path-style=true"
	p.keys = func() []string { return fakeKeys(t, backend, "jobs/") }
	return p, backend, g
}

func fakeKeys(t *testing.T, backend *s3mem.Backend, prefix string) (keys []string) {
	t.Helper()
	list, err := backend.ListBucket(fakeBucket, &gofakes3.Prefix{}, gofakes3.ListBucketPage{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list.Contents {
		if key, ok := strings.CutPrefix(o.Key, prefix); ok {
			keys = append(keys, key)
		}
	}
	return keys
}
