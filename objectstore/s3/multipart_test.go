package s3_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ckpt-io/ckpt/internal/versitygw"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

const partSize = 5 << 20

func inParts(o *s3.Options) { o.PartSize, o.MultipartAbove = partSize, partSize }

// large is a body of three parts, the last of them short.
func large() []byte {
	b := make([]byte, 2*partSize+12345)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func putLarge(ctx context.Context, s objectstore.Store, body []byte, opts objectstore.PutOptions) (objectstore.Info, error) {
	return s.Put(ctx, "large", objectstore.Bytes(body), opts)
}

// uploads counts the multipart uploads that a server keeps.
func uploads(t *testing.T, opts s3.Options) int {
	t.Helper()
	api := awss3.New(awss3.Options{BaseEndpoint: &opts.Endpoint, UsePathStyle: true, Region: opts.Region, Credentials: opts.Credentials})
	out, err := api.ListMultipartUploads(t.Context(), &awss3.ListMultipartUploadsInput{Bucket: &opts.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	return len(out.Uploads)
}

func TestMultipart(t *testing.T) {
	t.Run("fake", func(t *testing.T) { testMultipart(t, fake(t)) })
}

func TestIntegrationMultipart(t *testing.T) {
	opts := integration(versitygw.Start(t))
	written := testMultipart(t, opts)
	s, _ := wiredTo(t, opts, nil, inParts)
	if got := wantBody(t, s, "large", string(large())); got.ETag != written.ETag {
		t.Errorf("ETag %s after Put, %s after Get", written.ETag, got.ETag)
	}
	_, err := putLarge(t.Context(), s, large(), absent)
	wantError(t, "second create", err, objectstore.ErrPrecondition)
	if n := uploads(t, opts); n != 0 {
		t.Errorf("%d multipart uploads left", n)
	}
}

func testMultipart(t *testing.T, opts s3.Options) objectstore.Info {
	t.Helper()
	s, w := wiredTo(t, opts, upTo("part", 2, answer(503, "SlowDown")), inParts)
	body := large()
	info, err := putLarge(t.Context(), s, body, absent)
	if err != nil || info.Size != int64(len(body)) || info.Key != "large" {
		t.Fatalf("Put = %+v, %v", info, err)
	}
	wantBody(t, s, "large", string(body))
	if w.sent("part") != 5 || w.sent("put") != 0 {
		t.Errorf("%d parts and %d PUTs, want 3 parts and 2 retries", w.sent("part"), w.sent("put"))
	}
	for _, r := range w.seen {
		if kindOf(r) == "part" && r.Header.Get("X-Amz-Content-Sha256") != "UNSIGNED-PAYLOAD" {
			t.Errorf("a part is sent with payload hash %s", r.Header.Get("X-Amz-Content-Sha256"))
		}
	}
	if n := uploads(t, opts); n != 0 {
		t.Errorf("%d multipart uploads left", n)
	}
	return info
}

func TestMultipartThreshold(t *testing.T) {
	for _, tc := range []struct{ size, parts, puts int }{
		{partSize, 0, 1},
		{partSize + 1, 2, 0},
		{2 * partSize, 2, 0},
	} {
		s, w := wired(t, nil, inParts)
		body := large()[:tc.size]
		if _, err := putLarge(t.Context(), s, body, objectstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if w.sent("part") != tc.parts || w.sent("put") != tc.puts {
			t.Errorf("%d bytes took %d parts and %d PUTs, want %d and %d", tc.size, w.sent("part"), w.sent("put"), tc.parts, tc.puts)
		}
		wantBody(t, s, "large", string(body))
	}
}

// TestF31_PartFailsForEver aborts the upload and leaves nothing behind.
func TestF31_PartFailsForEver(t *testing.T) {
	for name, f := range map[string]fault{"503": answer(503, "SlowDown"), "403": answer(403, "AccessDenied"), "lost": lostRequest} {
		t.Run(name, func(t *testing.T) {
			opts := fake(t)
			s, w := wiredTo(t, opts, nil, inParts)
			w.script = func(kind string, n int) fault {
				if kind == "part" && n >= 3 {
					return f
				}
				return nil
			}
			_, err := putLarge(t.Context(), s, large(), absent)
			if err == nil || errors.Is(err, objectstore.ErrUnknownOutcome) {
				t.Errorf("Put: %v, though the object was never completed", err)
			}
			if w.sent("abort") != 1 || w.sent("complete") != 0 || uploads(t, opts) != 0 {
				t.Errorf("%d aborts, %d completes, %d uploads left", w.sent("abort"), w.sent("complete"), uploads(t, opts))
			}
			_, err = s.Stat(t.Context(), "large")
			wantError(t, "Stat", err, objectstore.ErrNotExist)
		})
	}
}

func TestMultipartAbortsWhenCancelled(t *testing.T) {
	opts := fake(t)
	ctx, cancel := contextWithCancel(t)
	s, w := wiredTo(t, opts, upTo("part", 1, func(http.RoundTripper, *http.Request) (*http.Response, error) {
		cancel()
		return nil, context.Canceled
	}), inParts)
	_, err := putLarge(ctx, s, large(), absent)
	wantError(t, "Put", err, context.Canceled)
	if errors.Is(err, objectstore.ErrUnknownOutcome) || w.sent("abort") != 1 || uploads(t, opts) != 0 {
		t.Errorf("Put: %v, %d aborts, %d uploads left", err, w.sent("abort"), uploads(t, opts))
	}
}

// TestF32_ErrorInsideOK has a complete answered by 200 with an error in its
// body, as S3 does when it fails after it began to answer.
func TestF32_ErrorInsideOK(t *testing.T) {
	s, w := wired(t, always("complete", answer(200, "InternalError")), inParts)
	_, err := putLarge(t.Context(), s, large(), absent)
	wantError(t, "Put", err, objectstore.ErrUnknownOutcome)
	if w.sent("complete") != 8 || w.sent("abort") != 1 {
		t.Errorf("%d completes, %d aborts", w.sent("complete"), w.sent("abort"))
	}
	s, _ = wired(t, upTo("complete", 2, answer(200, "InternalError")), inParts)
	if _, err := putLarge(t.Context(), s, large(), absent); err != nil {
		t.Errorf("Put after 2 such answers: %v", err)
	}
	wantBody(t, s, "large", string(large()))
}

// TestCompleteAnswerLost loses the answer to a complete that was done: the
// upload is gone when it is tried again, and the object is there.
func TestCompleteAnswerLost(t *testing.T) {
	s, _ := wired(t, upTo("complete", 1, lostAnswer), inParts)
	_, err := putLarge(t.Context(), s, large(), absent)
	wantError(t, "Put", err, objectstore.ErrUnknownOutcome)
	wantBody(t, s, "large", string(large()))
}

// failing cannot be read in its last part.
type failing struct{ *bytes.Reader }

var errDisk = errors.New("disk on fire")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > 2*partSize {
		return 0, errDisk
	}
	return f.Reader.ReadAt(p, off)
}

func TestMultipartOfBrokenBody(t *testing.T) {
	opts := fake(t)
	s, _ := wiredTo(t, opts, nil, inParts)
	_, err := s.Put(t.Context(), "large", failing{bytes.NewReader(large())}, absent)
	wantError(t, "Put", err, errDisk)
	if errors.Is(err, objectstore.ErrUnknownOutcome) || uploads(t, opts) != 0 {
		t.Errorf("Put: %v, %d uploads left", err, uploads(t, opts))
	}
}
