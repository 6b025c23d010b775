// Package versitygw starts the S3 server of that name for tests: a real one,
// with signatures, conditions and multipart uploads, over a directory.
//
// The binary is named by the environment variable CKPT_VERSITYGW; tests that
// need it are skipped where it is not set. `make integration` sets it.
package versitygw

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Env names the environment variable that holds the path of the binary.
const Env = "CKPT_VERSITYGW"

// Credentials of every server that Start starts.
const (
	AccessKey = "ckpttest"
	SecretKey = "ckpttestsecret"
)

// Region of every server that Start starts.
const Region = "us-east-1"

const readyWithin = 20 * time.Second

// Server is a server that runs as a child process until the end of its test.
type Server struct {
	// Endpoint is its URL.
	Endpoint string
	// Bucket exists and is empty at first.
	Bucket string
	// Dir is the directory it stores into; the bucket is a directory of it.
	Dir string

	t    testing.TB
	addr string
	mu   sync.Mutex
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// Start starts a server with one bucket on a free port of the loopback
// interface, or skips the test if there is no binary.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{Bucket: "ckpt-test", Dir: t.TempDir(), t: t}
	if os.Getenv(Env) == "" {
		t.Skipf("%s is not set: no S3 server to test with", Env)
	}
	t.Cleanup(s.Kill)
	// The port that is free now may be taken by the time the server binds it.
	for attempt := 0; ; attempt++ {
		s.addr = freeAddr(t)
		err := s.run()
		if err == nil {
			break
		}
		if attempt == 2 {
			t.Fatalf("start versitygw: %v\n%s", err, s.log.String())
		}
	}
	s.Endpoint = "http://" + s.addr
	if err := s.createBucket(t.Context()); err != nil {
		t.Fatalf("create bucket: %v\n%s", err, s.log.String())
	}
	return s
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Kill ends the server at once, as kill -9 does. What it has stored stays.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait() // it was killed: the error says so
	s.cmd = nil
}

// Restart starts the server again after Kill, at the same address and with
// the same objects.
func (s *Server) Restart() {
	s.t.Helper()
	if err := s.run(); err != nil {
		s.t.Fatalf("restart versitygw: %v\n%s", err, s.log.String())
	}
}

// run starts the process and waits until it answers.
func (s *Server) run() error {
	s.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := exec.Command(os.Getenv(Env), "--port", s.addr, "--quiet", "--keep-alive", "--health", "/health", "posix", s.Dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	cmd.Dir = filepath.Dir(s.Dir)
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := waitReady("http://" + s.addr + "/health"); err != nil {
		cmd.Process.Kill()
		cmd.Wait() // it was killed: the error says so
		return err
	}
	s.cmd = cmd
	return nil
}

func waitReady(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("%s", resp.Status)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v: %w", readyWithin, err)
		}
	}
}

func (s *Server) createBucket(ctx context.Context) error {
	_, err := s.Client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &s.Bucket})
	return err
}

// Credentials are what the server accepts.
func (s *Server) Credentials() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, "")
}

// Client is a plain client of the server, to look behind a Store's back.
func (s *Server) Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &s.Endpoint, UsePathStyle: true, Region: Region, Credentials: s.Credentials(),
	})
}

// Setenv sets the AWS environment of the test and its children to the
// server's credentials.
func (s *Server) Setenv(t *testing.T) {
	t.Helper()
	for k, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": SecretKey, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_REGION": Region, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(k, v)
	}
}

// URL is the store URL of a prefix of the bucket, "" for all of it.
func (s *Server) URL(prefix string) string {
	path := s.Bucket
	if prefix != "" {
		path += "/" + prefix
	}
	return fmt.Sprintf("s3://%s?endpoint=%s&region=%s&path-style=true", path, s.Endpoint, Region)
}
