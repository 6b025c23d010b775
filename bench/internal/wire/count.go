package wire

import (
	"net/http"
	"strings"
	"sync/atomic"
)

// Kind is what a request asks of an object store.
type Kind int

// The kinds. Multipart begins, completes or aborts an upload in parts; Copy
// is done by the server alone.
const (
	Put Kind = iota
	Part
	Multipart
	Copy
	Get
	Head
	List
	Delete
	Other
	kinds
)

var kindNames = [kinds]string{"put", "part", "multipart", "copy", "get", "head", "list", "delete", "other"}

func (k Kind) String() string { return kindNames[k] }

// kindOf classifies a path-style S3 request.
func kindOf(r *http.Request) Kind {
	query := r.URL.Query()
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.Method == http.MethodPut && key != "":
		switch {
		case query.Has("partNumber"):
			return Part
		case r.Header.Get("X-Amz-Copy-Source") != "":
			return Copy
		}
		return Put
	case r.Method == http.MethodPost && (query.Has("uploads") || query.Has("uploadId")),
		r.Method == http.MethodDelete && query.Has("uploadId"):
		return Multipart
	case r.Method == http.MethodPost && query.Has("delete"), r.Method == http.MethodDelete && key != "":
		return Delete
	case r.Method == http.MethodGet && key != "":
		return Get
	case r.Method == http.MethodGet:
		return List
	case r.Method == http.MethodHead:
		return Head
	}
	return Other
}

// Counts are requests by Kind and the bytes of their bodies.
type Counts struct {
	Requests [kinds]int64
	In       int64 // bytes to the store
	Out      int64 // bytes from the store
}

// Sub returns what came after o.
func (c Counts) Sub(o Counts) Counts {
	for i := range c.Requests {
		c.Requests[i] -= o.Requests[i]
	}
	c.In -= o.In
	c.Out -= o.Out
	return c
}

// Total is the number of requests of all kinds, without those given.
func (c Counts) Total(without ...Kind) int64 {
	var n int64
	for _, r := range c.Requests {
		n += r
	}
	for _, k := range without {
		n -= c.Requests[k]
	}
	return n
}

// ByKind names the requests of each kind that there were.
func (c Counts) ByKind() map[string]int64 {
	out := make(map[string]int64)
	for k, n := range c.Requests {
		if n != 0 {
			out[Kind(k).String()] = n
		}
	}
	return out
}

// counter is a Counts that may be used concurrently.
type counter struct {
	requests [kinds]atomic.Int64
	in, out  atomic.Int64
}

func (c *counter) counts() Counts {
	out := Counts{In: c.in.Load(), Out: c.out.Load()}
	for i := range out.Requests {
		out.Requests[i] = c.requests[i].Load()
	}
	return out
}
