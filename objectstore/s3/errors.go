package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ckpt-io/ckpt/objectstore"
)

var errPermission = objectstore.ErrPermission

// verdict is what the error of one attempt means.
type verdict struct {
	// err is the error by the objectstore's name.
	err error
	// retry says that another attempt may succeed.
	retry bool
	// maybe says that the server may have done what was asked, or may yet.
	maybe bool
	// expired says that the credentials must be renewed first.
	expired bool
}

// answerError is an answer that does not fit the request.
type answerError struct{ why string }

func (e *answerError) Error() string { return "bad answer of the server: " + e.why }

// bodyError is a failure to read what is to be written.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// judge classifies the error of an attempt. sent says that the request was
// handed to the HTTP client.
func (s *Store) judge(err error, sent bool) verdict {
	var body *bodyError
	var cred *credentialsError
	var answer *answerError
	var resp *smithyhttp.ResponseError
	switch {
	case errors.As(err, &body):
		// Half a body is no object: the server waits for the stated length.
		return verdict{err: body}
	case errors.As(err, &cred):
		return verdict{err: cred, retry: true}
	case errors.As(err, &answer):
		return verdict{err: unavailable(answer), retry: true}
	case errors.Is(err, errChanged):
		return verdict{err: errChanged}
	case errors.As(err, &resp) && answered(resp):
		return s.judgeAnswer(err, resp)
	case isTimeout(err):
		return verdict{err: fmt.Errorf("%w: no answer in time", objectstore.ErrUnavailable), retry: true, maybe: sent}
	case !sent:
		return verdict{err: fmt.Errorf("%w: %w", objectstore.ErrRefused, err)}
	case isUntrusted(err):
		return verdict{err: fmt.Errorf("%w: %w", objectstore.ErrRefused, rootCause(err))}
	}
	return verdict{err: unavailable(rootCause(err)), retry: true, maybe: !neverConnected(err)}
}

// answered tells an answer from the SDK's stand-in for none.
func answered(resp *smithyhttp.ResponseError) bool {
	return resp.Response != nil && resp.Response.Response != nil && resp.Response.StatusCode != 0
}

// judgeAnswer classifies an answer that is an error.
func (s *Store) judgeAnswer(err error, resp *smithyhttp.ResponseError) verdict {
	status := resp.HTTPStatusCode()
	code, text := "", http.StatusText(status)
	if api := smithy.APIError(nil); errors.As(err, &api) {
		code, text = api.ErrorCode(), api.ErrorMessage()
	}
	if region := resp.Response.Header.Get("X-Amz-Bucket-Region"); region != "" && wrongRegion(status, code) && region != s.opts.Region {
		return verdict{err: fmt.Errorf("%w: bucket %q is in region %s, not %s; set region=%s",
			objectstore.ErrRefused, s.opts.Bucket, region, s.opts.Region, region)}
	}
	is := func(kind error) error { return fmt.Errorf("%w: %s: %q (HTTP %d)", kind, code, text, status) }
	if known, ok := byCode[code]; ok {
		if code == "NoSuchBucket" {
			return verdict{err: fmt.Errorf("%w: %q", objectstore.ErrNoBucket, s.opts.Bucket)}
		}
		if code == "InvalidObjectState" {
			return verdict{err: is(fmt.Errorf("%w: the object is archived; have the bucket restore it (RestoreObject), and leave the job's prefix out of lifecycle transitions", objectstore.ErrRefused))}
		}
		known.err = is(known.err)
		known.maybe = status < 300 || status >= 500 && known.retry
		return known
	}
	switch {
	case status < 300 || status >= 500:
		// 5xx may come after the write was done: from a proxy, or from a
		// server that reached only some of its disks.
		return verdict{err: is(objectstore.ErrUnavailable), retry: true, maybe: true}
	case status == http.StatusRequestedRangeNotSatisfiable:
		return verdict{err: is(errRange)}
	case status == http.StatusNotFound:
		return verdict{err: is(objectstore.ErrNotExist)}
	case status == http.StatusPreconditionFailed:
		return verdict{err: is(objectstore.ErrPrecondition)}
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return verdict{err: is(objectstore.ErrPermission)}
	case status == http.StatusConflict || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
		return verdict{err: is(objectstore.ErrUnavailable), retry: true}
	}
	return verdict{err: is(objectstore.ErrRefused)}
}

// byCode are the error codes that say more than their status, or something
// else.
var byCode = map[string]verdict{
	"NoSuchBucket":       {err: objectstore.ErrNoBucket},
	"NoSuchKey":          {err: objectstore.ErrNotExist},
	"NoSuchUpload":       {err: errNoUpload},
	"InvalidRange":       {err: errRange},
	"PreconditionFailed": {err: objectstore.ErrPrecondition},

	"AccessDenied":          {err: objectstore.ErrPermission},
	"InvalidAccessKeyId":    {err: objectstore.ErrPermission},
	"SignatureDoesNotMatch": {err: objectstore.ErrPermission},
	"XAdminUserNotFound":    {err: objectstore.ErrPermission}, // versitygw, with 404
	"ExpiredToken":          {err: objectstore.ErrPermission, retry: true, expired: true},
	"TokenRefreshRequired":  {err: objectstore.ErrPermission, retry: true, expired: true},
	// The SDK corrects its clock by the answer, so a second attempt helps.
	"RequestTimeTooSkewed": {err: objectstore.ErrRefused, retry: true},

	"BadDigest":                      {err: objectstore.ErrUnavailable, retry: true},
	"XAmzContentChecksumMismatch":    {err: objectstore.ErrUnavailable, retry: true},
	"IncompleteBody":                 {err: objectstore.ErrUnavailable, retry: true},
	"RequestTimeout":                 {err: objectstore.ErrUnavailable, retry: true},
	"InvalidObjectState":             {err: objectstore.ErrRefused}, // archived; see judgeAnswer
	"NotImplemented":                 {err: objectstore.ErrRefused}, // a condition, as a rule
	"ObjectParentIsFile":             {err: objectstore.ErrBadKey},  // a key is another's directory
	"KeyTooLongError":                {err: objectstore.ErrBadKey},
	"QuotaExceeded":                  {err: objectstore.ErrNoSpace},
	"XMinioStorageFull":              {err: objectstore.ErrNoSpace},
	"XMinioAdminBucketQuotaExceeded": {err: objectstore.ErrNoSpace},
}

// errNoUpload is a multipart upload that is not, or no longer, there.
var errNoUpload = errors.New("no such multipart upload")

// errRange is a range that begins at or past the end of its object.
var errRange = errors.New("range is past the end")

func unavailable(err error) error { return fmt.Errorf("%w: %w", objectstore.ErrUnavailable, err) }

func wrongRegion(status int, code string) bool {
	return status == http.StatusMovedPermanently || status == http.StatusTemporaryRedirect || status == http.StatusBadRequest ||
		code == "AuthorizationHeaderMalformed" || code == "PermanentRedirect"
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.As(err, &t) && t.Timeout() && !neverConnected(err)
}

// isUntrusted is a server whose certificate another attempt will not mend.
func isUntrusted(err error) bool {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

// neverConnected is a request that did not leave this machine.
func neverConnected(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

// rootCause drops the SDK's layers, which repeat the operation and the URL.
func rootCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) {
		return send.Err
	}
	return err
}
