package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ckpt-io/ckpt/internal/fakes3"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

// wire is an HTTP transport on which a test does things to requests.
type wire struct {
	next http.RoundTripper
	// script says what happens to the n-th request, from 1, of its kind.
	script func(kind string, n int) fault

	mu    sync.Mutex
	count map[string]int
	seen  []*http.Request
}

// fault does something to a request instead of sending it. nil sends it.
type fault func(next http.RoundTripper, r *http.Request) (*http.Response, error)

// wired is a store on a fake server with a script.
func wired(t *testing.T, script func(kind string, n int) fault, change ...func(*s3.Options)) (*s3.Store, *wire) {
	t.Helper()
	return wiredTo(t, fake(t), script, change...)
}

func wiredTo(t *testing.T, opts s3.Options, script func(kind string, n int) fault, change ...func(*s3.Options)) (*s3.Store, *wire) {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	w := &wire{next: transport, script: script, count: map[string]int{}}
	opts.Transport = w
	for _, c := range change {
		c(&opts)
	}
	return open(t, opts), w
}

// always does the same to all requests of one kind.
func always(kind string, f fault) func(string, int) fault { return upTo(kind, 1<<30, f) }

// upTo does the same to the first n requests of one kind.
func upTo(kind string, n int, f fault) func(string, int) fault {
	return func(k string, i int) fault {
		if k == kind && i <= n {
			return f
		}
		return nil
	}
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := kindOf(r)
	w.mu.Lock()
	w.count[kind]++
	n := w.count[kind]
	w.seen = append(w.seen, r)
	w.mu.Unlock()
	if w.script != nil {
		if f := w.script(kind, n); f != nil {
			return f(w.next, r)
		}
	}
	return w.next.RoundTrip(r)
}

func (w *wire) sent(kind string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count[kind]
}

// kindOf names the operation of a request.
func kindOf(r *http.Request) string {
	q := r.URL.Query()
	object := strings.Count(strings.Trim(r.URL.Path, "/"), "/") > 0
	switch {
	case q.Has("delete"):
		return "delete"
	case q.Has("uploads"):
		return "begin"
	case q.Has("partNumber"):
		return "part"
	case q.Has("uploadId") && r.Method == http.MethodPost:
		return "complete"
	case q.Has("uploadId"):
		return "abort"
	case !object && r.Method == http.MethodGet:
		return "list"
	case !object && r.Method == http.MethodHead:
		return "bucket"
	}
	return strings.ToLower(r.Method)
}

// lostAnswer sends the request and loses the answer.
func lostAnswer(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	resp, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
}

// lostRequest loses the request after its body was read.
func lostRequest(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
}

// silence never answers.
func silence(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// answer gives an S3 error without asking the server.
func answer(status int, code string, headers ...string) fault {
	return func(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			io.Copy(io.Discard, r.Body)
			r.Body.Close()
		}
		body := ""
		if code != "" && r.Method != http.MethodHead {
			body = fmt.Sprintf("<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>a message</Message></Error>", code)
		}
		h := http.Header{"Content-Type": {"application/xml"}}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return &http.Response{
			StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		}, nil
	}
}

// editBody sends the request and changes the answer's body.
func editBody(edit func([]byte) []byte) fault {
	return func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		b = edit(b)
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
		resp.Header.Set("Content-Length", fmt.Sprint(len(b)))
		return resp, err
	}
}

// cutBody breaks the answer's body off after n bytes.
func cutBody(n int64) fault {
	return wrapBody(func(_ context.Context, r io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(r, n), iotest.ErrReader(errors.New("connection reset by peer")))
	})
}

// stallBody stops sending the answer's body after n bytes.
func stallBody(n int64) fault {
	return wrapBody(func(ctx context.Context, r io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(r, n), readFunc(func([]byte) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}))
	})
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func wrapBody(wrap func(context.Context, io.Reader) io.Reader) fault {
	return func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil {
			resp.Body = struct {
				io.Reader
				io.Closer
			}{wrap(r.Context(), resp.Body), resp.Body}
		}
		return resp, err
	}
}

// inBubble is a store on a server without a network, for use under synctest.
func inBubble(t *testing.T, script func(kind string, n int) fault, change ...func(*s3.Options)) (*s3.Store, *wire) {
	t.Helper()
	srv, err := fakes3.New()
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{next: srv, script: script, count: map[string]int{}}
	opts := s3.Options{
		Bucket: fakes3.Bucket, Endpoint: "http://s3.invalid", Region: "us-east-1", PathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
		Transport:   w,
	}
	for _, c := range change {
		c(&opts)
	}
	return open(t, opts), w
}
