package s3_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/ckpt-io/ckpt/internal/versitygw"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

const bucket = "bucket"

// fake starts an S3 server in this process and returns options for it.
func fake(t *testing.T) s3.Options {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket(bucket); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return s3.Options{
		Bucket: bucket, Endpoint: srv.URL, Region: "us-east-1", PathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
		RetryDelay:  time.Millisecond,
	}
}

func open(t *testing.T, opts s3.Options) *s3.Store {
	t.Helper()
	if opts.Transport == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 64
		t.Cleanup(transport.CloseIdleConnections)
		opts.Transport = transport
	}
	s, err := s3.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objectstore.Store { return open(t, fake(t)) })
}

func TestConformanceDefaultTransport(t *testing.T) {
	opts := fake(t)
	s, err := s3.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := objectstore.Probe(t.Context(), s, "probe/"); err != nil {
		t.Error(err)
	}
}

func TestIntegrationConformance(t *testing.T) {
	srv := versitygw.Start(t)
	var n atomic.Int64
	storetest.Run(t, func(t *testing.T) objectstore.Store {
		s := open(t, integration(srv))
		return objectstore.Prefix(s, fmt.Sprint("test", n.Add(1)))
	})
}

func integration(srv *versitygw.Server) s3.Options {
	return s3.Options{
		Bucket: srv.Bucket, Endpoint: srv.Endpoint, Region: versitygw.Region, PathStyle: true, Credentials: srv.Credentials(),
	}
}
