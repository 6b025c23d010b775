// Package s3 is an object store in an S3 bucket: of AWS, or of any server that
// speaks its protocol and keeps to the conditions of PutObject.
//
// It uses conditions only on plain PutObject, where every server tried keeps
// to them, and retries on its own: the SDK would answer its own repeated
// conditional write with "precondition failed", which here is an unknown
// outcome. Payloads are not hashed for the signature but carry a CRC-32C.
//
// What the objects mean, and settling unknown outcomes, is left to the
// packages above.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

// Options are the settings of a Store. Only Bucket is required.
type Options struct {
	Bucket string
	// Endpoint is the URL of a server other than AWS.
	Endpoint string
	// Region defaults to that of the AWS configuration, else us-east-1.
	Region string
	// PathStyle puts the bucket into the path instead of the host name, as
	// most servers other than AWS need it.
	PathStyle bool
	// Credentials default to the AWS chain: environment, shared files, role.
	Credentials aws.CredentialsProvider
	// Transport replaces the HTTP transport.
	Transport http.RoundTripper

	// MaxAttempts bounds the attempts of one request, 8 by default. With the
	// default RetryDelay a server that refuses connections is given up after
	// about 10 s.
	MaxAttempts int
	// RetryDelay is the pause before the second attempt, 100 ms by default;
	// it doubles up to 5 s, with jitter.
	RetryDelay time.Duration
	// AttemptTimeout bounds each attempt, 30 s by default, to which comes
	// what its body takes at 256 KiB/s.
	AttemptTimeout time.Duration
	// MultipartAbove is the largest object written by one request, 64 MiB by
	// default and at most 5 GiB. Larger ones go up in parts.
	MultipartAbove int64
	// PartSize is the size of a part, 16 MiB by default and at least 5 MiB;
	// it grows where an object would need more than 10,000.
	PartSize int64
	// PartConcurrency is how many parts of one object go up at a time, 4 by
	// default.
	PartConcurrency int
}

const (
	maxSinglePut = 5 << 30
	minPartSize  = 5 << 20
	maxParts     = 10_000
	minRate      = 256 << 10 // bytes/s below which a transfer counts as stalled
	maxDelay     = 5 * time.Second
	idleConns    = 128 // per host, so that no parallel transfer reconnects
)

func (o Options) withDefaults() Options {
	setDefault(&o.MaxAttempts, 8)
	setDefault(&o.RetryDelay, 100*time.Millisecond)
	setDefault(&o.AttemptTimeout, 30*time.Second)
	setDefault(&o.MultipartAbove, 64<<20)
	setDefault(&o.PartSize, 16<<20)
	setDefault(&o.PartConcurrency, 4)
	return o
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Bucket == "" || strings.ContainsAny(o.Bucket, "/?#\\ ") {
		bad("invalid bucket name %q", o.Bucket)
	}
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			bad("endpoint is not an http or https URL")
		case u.User != nil:
			bad("endpoint holds credentials, which belong into the AWS environment")
		}
	}
	if o.MaxAttempts < 0 || o.RetryDelay < 0 || o.AttemptTimeout < 0 || o.PartConcurrency < 0 {
		bad("negative MaxAttempts, RetryDelay, AttemptTimeout or PartConcurrency")
	}
	if o.MultipartAbove < 0 || o.MultipartAbove > maxSinglePut {
		bad("MultipartAbove %d is not within 0 and 5 GiB", o.MultipartAbove)
	}
	if o.PartSize != 0 && (o.PartSize < minPartSize || o.PartSize > maxSinglePut) {
		bad("PartSize %d is not within 5 MiB and 5 GiB", o.PartSize)
	}
	return errors.Join(errs...)
}

// Store is an object store in a bucket. Its zero value is not usable.
type Store struct {
	opts     Options
	api      *awss3.Client
	creds    *credentials
	unquoted atomic.Bool
	// bucketSeen is set once the bucket was seen to exist. Until then a Stat
	// that finds nothing asks whether it is the bucket that is missing.
	bucketSeen atomic.Bool
}

// Open makes the client of a bucket. It obtains credentials, and fails with
// [objectstore.ErrPermission] if there are none, but sends the bucket nothing:
// a bucket that is missing shows in the first call, as ErrNoBucket.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("open s3 store: %w", err)
	}
	opts = opts.withDefaults()
	var load []func(*config.LoadOptions) error
	if opts.Region != "" {
		load = append(load, config.WithRegion(opts.Region))
	}
	if opts.Credentials != nil {
		load = append(load, config.WithCredentialsProvider(opts.Credentials))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("open s3 store: load AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	opts.Region = cfg.Region
	s := &Store{opts: opts, creds: &credentials{cfg.Credentials}}
	if _, err := s.creds.Retrieve(ctx); err != nil {
		return nil, fmt.Errorf("open s3 store: %w", err)
	}
	s.api = awss3.NewFromConfig(cfg, s.configure)
	return s, nil
}

// configure sets what the SDK would do otherwise: retry with a budget shared
// by all requests, and compute and check checksums of its own choice.
func (s *Store) configure(o *awss3.Options) {
	if s.opts.Endpoint != "" {
		o.BaseEndpoint = aws.String(s.opts.Endpoint)
	}
	o.UsePathStyle = s.opts.PathStyle
	o.Credentials = s.creds
	o.Retryer = aws.NopRetryer{}
	o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	o.Logger = logging.Nop{} // a library does not write to standard error
	o.DisableLogOutputChecksumValidationSkipped = true
	o.HTTPClient = &client{newHTTPClient(s.opts.Transport, o.HTTPClient)}
}

func newHTTPClient(transport http.RoundTripper, configured aws.HTTPClient) aws.HTTPClient {
	if transport != nil {
		return &http.Client{Transport: transport}
	}
	b, ok := configured.(*awshttp.BuildableClient)
	if !ok {
		b = awshttp.NewBuildableClient()
	}
	return b.WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns = 2 * idleConns
		t.MaxIdleConnsPerHost = idleConns
		t.DisableCompression = true // ranges and sizes are of the stored bytes
		t.ReadBufferSize = 64 << 10
		t.WriteBufferSize = 64 << 10
	})
}

// UnquoteETags implements objectstore.ETagUnquoter.
func (s *Store) UnquoteETags(unquoted bool) bool {
	s.unquoted.Store(unquoted)
	return true
}
