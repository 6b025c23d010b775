package wire

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// burst is how much of a body passes a slow link at a time.
const burst = 32 << 10

// Proxy passes HTTP requests on to an S3 server, counts them, and holds them
// to the speed of a link. Its methods may be called concurrently.
type Proxy struct {
	// URL is where it listens, on the loopback interface.
	URL string

	counter counter
	link    atomic.Pointer[rate.Limiter]
	delay   atomic.Int64
	server  *http.Server
	served  chan error
}

// NewProxy starts a proxy of the server at upstream; the caller closes it.
// Requests keep their Host header, which their signatures cover.
func NewProxy(upstream string) (*Proxy, error) {
	target, err := url.Parse(upstream)
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{URL: "http://" + l.Addr().String(), served: make(chan error, 1)}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 256, DisableCompression: true, ExpectContinueTimeout: time.Second,
			WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
		},
		// Clients that end early are none of a benchmark's business.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	p.server = &http.Server{Handler: p.handler(forward)}
	go func() { p.served <- p.server.Serve(l) }()
	return p, nil
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() error {
	err := p.server.Close()
	if served := <-p.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// SetLink holds all bodies together, in both directions, to a number of bytes
// a second; 0 lets them go as fast as they can.
func (p *Proxy) SetLink(bytesPerSecond int64) {
	if bytesPerSecond == 0 {
		p.link.Store(nil)
		return
	}
	p.link.Store(rate.NewLimiter(rate.Limit(bytesPerSecond), burst))
}

// SetDelay makes every GET of an object wait before it is passed on.
func (p *Proxy) SetDelay(d time.Duration) { p.delay.Store(int64(d)) }

// Counts returns what has passed since the start.
func (p *Proxy) Counts() Counts { return p.counter.counts() }

func (p *Proxy) handler(forward http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind := kindOf(r)
		p.counter.requests[kind].Add(1)
		if delay := time.Duration(p.delay.Load()); delay > 0 && kind == Get {
			timer := time.NewTimer(delay)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
				return
			}
		}
		r.Body = &countedBody{ReadCloser: r.Body, proxy: p, r: r}
		forward.ServeHTTP(&countedWriter{ResponseWriter: w, proxy: p, r: r}, r)
	})
}

// pass waits until n bytes may pass the link.
func (p *Proxy) pass(r *http.Request, n int) error {
	if l := p.link.Load(); l != nil && n > 0 {
		return l.WaitN(r.Context(), n)
	}
	return nil
}

type countedBody struct {
	io.ReadCloser
	proxy *Proxy
	r     *http.Request
}

func (b *countedBody) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf[:min(len(buf), burst)])
	b.proxy.counter.in.Add(int64(n))
	if wait := b.proxy.pass(b.r, n); wait != nil {
		return n, wait
	}
	return n, err
}

type countedWriter struct {
	http.ResponseWriter
	proxy *Proxy
	r     *http.Request
}

// Unwrap lets http.ResponseController through.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *countedWriter) Write(buf []byte) (written int, err error) {
	for len(buf) > 0 {
		part := buf[:min(len(buf), burst)]
		if err := w.proxy.pass(w.r, len(part)); err != nil {
			return written, err
		}
		n, err := w.ResponseWriter.Write(part)
		written += n
		w.proxy.counter.out.Add(int64(n))
		if err != nil {
			return written, err
		}
		buf = buf[len(part):]
	}
	return written, nil
}
