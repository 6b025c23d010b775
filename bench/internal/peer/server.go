package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// What every server is started with.
const (
	AccessKey = "ckptbench"
	SecretKey = "ckptbenchsecret"
	Region    = "us-east-1"
	Bucket    = "bench"
)

const readyWithin = 30 * time.Second

// Server is an S3 server that runs as a child process.
type Server struct {
	Kind     string // "versitygw" or "minio"
	Endpoint string
	// Dir is where it keeps the objects. A versitygw keeps each in the file of
	// its key under Dir/Bucket.
	Dir string

	cmd *exec.Cmd
	log bytes.Buffer
}

// StartServer starts a server of a kind from its binary on a free port, with
// an empty Bucket. The caller closes it.
func StartServer(ctx context.Context, kind, binary, dir string) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	s := &Server{Kind: kind, Endpoint: "http://" + addr, Dir: dir}
	var health string
	switch kind {
	case "versitygw":
		s.cmd = exec.Command(binary, "--port", addr, "--quiet", "--keep-alive", "--health", "/health", "posix", dir)
		s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
		health = "/health"
	case "minio":
		s.cmd = exec.Command(binary, "server", "--quiet", "--address", addr, "--console-address", "127.0.0.1:0", dir)
		s.cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+AccessKey, "MINIO_ROOT_PASSWORD="+SecretKey, "MINIO_UPDATE=off")
		health = "/minio/health/ready"
	default:
		return nil, fmt.Errorf("start server: no kind %q", kind)
	}
	dieWithParent(s.cmd)
	s.cmd.Dir = filepath.Dir(dir)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", kind, err)
	}
	if err := s.ready(ctx, health); err != nil {
		s.Close()
		return nil, fmt.Errorf("start %s: %w\n%s", kind, err, s.log.String())
	}
	return s, nil
}

// ready waits until the server answers, and makes the bucket.
func (s *Server) ready(ctx context.Context, health string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+health, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			err = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
	_, err := Client(s.Endpoint).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(Bucket)})
	return err
}

// Close ends the server. What it stored stays.
func (s *Server) Close() {
	s.cmd.Process.Kill()
	s.cmd.Wait() // it was killed: the error says so
}

// Credentials are what every server accepts.
func Credentials() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, "")
}

// Client is a plain client of a server. Its payloads are not hashed for the
// signature and answers not checked, as in the fastest use of the SDK.
func Client(endpoint string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &endpoint, UsePathStyle: true, Region: Region, Credentials: Credentials(),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		HTTPClient:                 &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	}, func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	})
}
