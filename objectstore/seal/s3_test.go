package seal_test

import (
	"io"
	"log"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

// fakeS3 is a store on an S3 server in this process, with parts as small as
// they may be.
func fakeS3(t *testing.T) *s3.Store {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	s, err := s3.Open(t.Context(), s3.Options{
		Bucket: "bucket", Endpoint: srv.URL, Region: "us-east-1", PathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
		RetryDelay:  time.Millisecond, MultipartAbove: 6 << 20, PartSize: 5 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Parts are sealed in parallel, and their bounds are not those of chunks.
func TestMultipart(t *testing.T) {
	s := newStore(t, fakeS3(t))
	want := content(17<<20 + 123)
	if _, err := s.Put(t.Context(), "data/x", objectstore.Bytes(want), objectstore.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int64{{0, -1}, {5 << 20, 128 << 10}, {17 << 20, 1000}} {
		checkRange(t, s, "data/x", want, r[0], r[1])
	}
}
