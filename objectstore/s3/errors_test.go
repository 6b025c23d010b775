package s3_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

func contextWithCancel(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}

// countConns counts the connections that a store opens.
func countConns(t *testing.T, opts *s3.Options) func() int64 {
	var n atomic.Int64
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	opts.Transport = transport
	return n.Load
}

// everyCall makes each call of a store once and returns their errors.
func everyCall(t *testing.T, s objectstore.Store) map[string]error {
	errs := map[string]error{}
	_, errs["Stat"] = s.Stat(t.Context(), "k")
	_, _, errs["Get"] = s.Get(t.Context(), "k", 0, -1)
	_, _, errs["Get of nothing"] = s.Get(t.Context(), "k", 0, 0)
	_, errs["Put"] = s.Put(t.Context(), "k", objectstore.Bytes([]byte("x")), objectstore.PutOptions{})
	_, errs["Put if absent"] = s.Put(t.Context(), "k", objectstore.Bytes([]byte("x")), absent)
	_, errs["Put if match"] = s.Put(t.Context(), "k", objectstore.Bytes([]byte("x")), objectstore.PutOptions{IfMatch: `"x"`})
	errs["Delete"] = s.Delete(t.Context(), "k", "l")
	for _, err := range s.List(t.Context(), "", "") {
		errs["List"] = err
	}
	return errs
}

func TestF40_MissingBucket(t *testing.T) {
	opts := fake(t)
	opts.Bucket = "no-such-bucket"
	s, w := wiredTo(t, opts, nil)
	for what, err := range everyCall(t, s) {
		wantError(t, what, err, objectstore.ErrNoBucket)
		if !strings.Contains(err.Error(), "no-such-bucket") || errors.Is(err, objectstore.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := len(w.seen); n > 10 {
		t.Errorf("8 calls took %d requests: a missing bucket is retried", n)
	}
}

func TestStatAsksForTheBucketOnce(t *testing.T) {
	s, w := wired(t, nil)
	for range 3 {
		_, err := s.Stat(t.Context(), "missing")
		wantError(t, "Stat", err, objectstore.ErrNotExist)
	}
	if n := w.sent("bucket"); n != 1 {
		t.Errorf("asked for the bucket %d times", n)
	}
}

func TestF41_WrongRegion(t *testing.T) {
	for name, f := range map[string]fault{
		"301": answer(301, "PermanentRedirect", "X-Amz-Bucket-Region", "eu-west-3"),
		"400": answer(400, "AuthorizationHeaderMalformed", "X-Amz-Bucket-Region", "eu-west-3"),
		"307": answer(307, "TemporaryRedirect", "X-Amz-Bucket-Region", "eu-west-3"),
	} {
		t.Run(name, func(t *testing.T) {
			s, w := wired(t, func(string, int) fault { return f })
			for what, err := range everyCall(t, s) {
				wantError(t, what, err, objectstore.ErrRefused)
				if !strings.Contains(err.Error(), `"bucket" is in region eu-west-3, not us-east-1`) {
					t.Errorf("%s: %v, does not name the region", what, err)
				}
			}
			if n := len(w.seen); n != 8 {
				t.Errorf("8 calls took %d requests", n)
			}
		})
	}
}

func TestPermissionDenied(t *testing.T) {
	for name, f := range map[string]fault{
		"denied":    answer(403, "AccessDenied"),
		"signature": answer(403, "SignatureDoesNotMatch"),
		"401":       answer(401, ""),
	} {
		t.Run(name, func(t *testing.T) {
			s, w := wired(t, func(string, int) fault { return f })
			for what, err := range everyCall(t, s) {
				wantError(t, what, err, objectstore.ErrPermission)
			}
			if n := len(w.seen); n != 8 {
				t.Errorf("8 calls took %d requests", n)
			}
		})
	}
}

// rotating hands out new credentials each time the cache asks.
type rotating struct{ n atomic.Int64 }

func (r *rotating) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "key" + string('0'+rune(r.n.Add(1))), SecretAccessKey: "secret"}, nil
}

func TestExpiredCredentialsAreRenewed(t *testing.T) {
	s, w := wired(t, upTo("put", 1, answer(400, "ExpiredToken")), func(o *s3.Options) {
		o.Credentials = aws.NewCredentialsCache(&rotating{})
	})
	if err := put(t.Context(), s, "k", "body", absent); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"Credential=key1/", "Credential=key2/"} {
		if got := w.seen[i].Header.Get("Authorization"); !strings.Contains(got, want) {
			t.Errorf("request %d is signed as %q, want %q", i, got, want)
		}
	}
	s, w = wired(t, always("put", answer(400, "ExpiredToken")), func(o *s3.Options) { o.MaxAttempts = 3 })
	wantError(t, "Put", put(t.Context(), s, "k", "body", absent), objectstore.ErrPermission)
	if w.sent("put") != 3 {
		t.Errorf("%d PUTs", w.sent("put"))
	}
}

// TestF43_PartsAfterExpiry: of a large object that is being uploaded when the
// credentials expire, only the parts that were refused go up again.
func TestF43_PartsAfterExpiry(t *testing.T) {
	expired := func(kind string, n int) fault {
		if kind == "part" && n == 2 {
			return answer(400, "ExpiredToken")
		}
		return nil
	}
	s, w := wired(t, expired, inParts, func(o *s3.Options) {
		o.Credentials, o.PartConcurrency = aws.NewCredentialsCache(&rotating{}), 1
	})
	if _, err := putLarge(t.Context(), s, large(), absent); err != nil {
		t.Fatal(err)
	}
	wantBody(t, s, "large", string(large()))
	if w.sent("begin") != 1 || w.sent("part") != 4 || w.sent("abort") != 0 {
		t.Errorf("%d uploads begun, %d parts sent, %d aborts; want 1, 3 and a retry, none", w.sent("begin"), w.sent("part"), w.sent("abort"))
	}
	keys := map[string]bool{}
	for _, r := range w.seen {
		keys[strings.SplitN(r.Header.Get("Authorization"), "/", 2)[0]] = true
	}
	if len(keys) != 2 {
		t.Errorf("requests are signed by %v, want the old and the new credentials", keys)
	}
}

// TestF45_Archived: what a lifecycle rule has moved out of reach is refused with
// what to do about it, at once.
func TestF45_Archived(t *testing.T) {
	s, w := wired(t, always("get", answer(403, "InvalidObjectState")))
	_, _, err := s.Get(t.Context(), "k", 0, -1)
	wantError(t, "Get", err, objectstore.ErrRefused)
	if err == nil || !strings.Contains(err.Error(), "archived") || !strings.Contains(err.Error(), "RestoreObject") || w.sent("get") != 1 {
		t.Errorf("Get: %v after %d requests", err, w.sent("get"))
	}
}

func noAWS(t *testing.T) {
	for _, k := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_ENDPOINT_URL"} {
		t.Setenv(k, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
}

func TestOpenWithoutCredentials(t *testing.T) {
	noAWS(t)
	_, err := s3.Open(t.Context(), s3.Options{Bucket: "b"})
	wantError(t, "Open", err, objectstore.ErrPermission)
	if err != nil && !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("Open: %v, does not say what to do", err)
	}
}

func TestOpenRefusesOptions(t *testing.T) {
	_, err := s3.Open(t.Context(), s3.Options{
		Bucket: "a/b", Endpoint: "https://key:hunter2@host", MaxAttempts: -1, MultipartAbove: 6 << 30, PartSize: 1,
	})
	if err == nil {
		t.Fatal("Open took them")
	}
	for _, want := range []string{"bucket name", "credentials", "MaxAttempts", "MultipartAbove", "PartSize"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Open does not refuse %s: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Open shows a secret: %v", err)
	}
}

func TestRefusedConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	opts := fake(t)
	opts.Endpoint = "http://" + l.Addr().String()
	for what, err := range everyCall(t, open(t, opts)) {
		wantError(t, what, err, objectstore.ErrUnavailable)
		if errors.Is(err, objectstore.ErrUnknownOutcome) {
			t.Errorf("%s: %v, though nothing was sent", what, err)
		}
	}
}

func TestUntrustedCertificate(t *testing.T) {
	untrusted := func(http.RoundTripper, *http.Request) (*http.Response, error) {
		return nil, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	}
	s, w := wired(t, func(string, int) fault { return untrusted })
	for what, err := range everyCall(t, s) {
		wantError(t, what, err, objectstore.ErrRefused)
	}
	if n := len(w.seen); n != 8 {
		t.Errorf("8 calls took %d requests", n)
	}
}

func TestOneAttemptIsBounded(t *testing.T) {
	s, w := wired(t, func(_ string, n int) fault {
		if n == 1 {
			return silence
		}
		return nil
	}, func(o *s3.Options) { o.AttemptTimeout = 200 * time.Millisecond })
	if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, objectstore.ErrNotExist) {
		t.Errorf("Stat: %v", err)
	}
	for _, err := range s.List(t.Context(), "", "") {
		t.Errorf("List: %v", err)
	}
	if w.sent("head") != 2 || w.sent("list") != 2 {
		t.Errorf("%d HEADs, %d LISTs", w.sent("head"), w.sent("list"))
	}
}
