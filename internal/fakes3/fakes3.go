// Package fakes3 is an S3 server without a network, for tests: requests go from
// the HTTP client straight to gofakes3, so that it also works with the clock of
// testing/synctest. What it serves is left to its users, who look at and fail
// requests by kind.
package fakes3

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// Bucket is the one bucket of a Server.
const Bucket = "bucket"

// Kind is an operation of S3.
type Kind string

// The kinds of requests.
const (
	Put        Kind = "put"
	Get        Kind = "get"
	Head       Kind = "head"
	List       Kind = "list"
	Delete     Kind = "delete"
	Begin      Kind = "begin"    // CreateMultipartUpload
	Part       Kind = "part"     // UploadPart
	Complete   Kind = "complete" // CompleteMultipartUpload
	Abort      Kind = "abort"    // AbortMultipartUpload
	HeadBucket Kind = "bucket"   // HeadBucket
)

// Server is an http.RoundTripper that answers itself. It may be used
// concurrently.
type Server struct {
	// Before, if not nil, sees each request first and may answer it in the
	// server's place, by a response or an error. It is set before first use.
	Before func(kind Kind, r *http.Request) (*http.Response, error)

	handler http.Handler

	mu    sync.Mutex
	count map[Kind]int
}

// New returns a server with an empty bucket.
func New() (*Server, error) {
	backend := s3mem.New()
	if err := backend.CreateBucket(Bucket); err != nil {
		return nil, err
	}
	handler := gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	return &Server{handler: handler, count: make(map[Kind]int)}, nil
}

// RoundTrip implements http.RoundTripper.
func (s *Server) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := KindOf(r)
	s.mu.Lock()
	s.count[kind]++
	s.mu.Unlock()
	if s.Before != nil {
		if resp, err := s.Before(kind, r); resp != nil || err != nil {
			return resp, err
		}
	}
	answered := make(chan *http.Response, 1)
	go func() {
		in := r.Clone(r.Context())
		in.RequestURI, in.Host = r.URL.RequestURI(), r.URL.Host
		if in.Body == nil {
			in.Body = http.NoBody
		}
		if r.ContentLength >= 0 {
			in.Header.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
		}
		rec := httptest.NewRecorder()
		s.handler.ServeHTTP(rec, in)
		in.Body.Close()
		resp := rec.Result()
		resp.Request = r
		answered <- resp
	}()
	select {
	case resp := <-answered:
		return resp, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// Requests is how many requests of each kind have come so far.
func (s *Server) Requests() map[Kind]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[Kind]int, len(s.count))
	for k, n := range s.count {
		out[k] = n
	}
	return out
}

// KindOf names the operation of a request in path style.
func KindOf(r *http.Request) Kind {
	q := r.URL.Query()
	object := strings.Count(strings.Trim(r.URL.Path, "/"), "/") > 0
	switch {
	case q.Has("delete"):
		return Delete
	case q.Has("uploads"):
		return Begin
	case q.Has("partNumber"):
		return Part
	case q.Has("uploadId") && r.Method == http.MethodPost:
		return Complete
	case q.Has("uploadId"):
		return Abort
	case !object && r.Method == http.MethodGet:
		return List
	case !object && r.Method == http.MethodHead:
		return HeadBucket
	}
	return Kind(strings.ToLower(r.Method))
}

// Error is an S3 error as a response. The request's body is read first, as a
// server does.
func Error(r *http.Request, status int, code string) (*http.Response, error) {
	if r.Body != nil {
		_, err := io.Copy(io.Discard, r.Body)
		if err = errors.Join(err, r.Body.Close()); err != nil {
			return nil, err
		}
	}
	rec := httptest.NewRecorder()
	rec.Header().Set("Content-Type", "application/xml")
	rec.WriteHeader(status)
	if r.Method != http.MethodHead {
		rec.WriteString(`<?xml version="1.0"?><Error><Code>` + code + `</Code><Message>a message</Message></Error>`)
	}
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}
