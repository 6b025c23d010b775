package storeurl_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/internal/versitygw"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storeurl"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		in, canonical string
		want          storeurl.URL
	}{
		{"file:///a/b", "", storeurl.URL{Scheme: "file", Dir: "/a/b"}},
		{"file://localhost/a/b/", "file:///a/b", storeurl.URL{Scheme: "file", Dir: "/a/b"}},
		{"file:///a/../b//c", "file:///b/c", storeurl.URL{Scheme: "file", Dir: "/b/c"}},
		{"file:///with%20space/%C3%A4", "", storeurl.URL{Scheme: "file", Dir: "/with space/ä"}},
		{"file:///a?unsafe-single-writer=true", "", storeurl.URL{Scheme: "file", Dir: "/a", UnsafeSingleWriter: true}},
		{"s3://bucket", "", storeurl.URL{Scheme: "s3", Bucket: "bucket"}},
		{"s3://bucket/", "s3://bucket", storeurl.URL{Scheme: "s3", Bucket: "bucket"}},
		{"s3://my-bucket.example/a/b/", "s3://my-bucket.example/a/b", storeurl.URL{Scheme: "s3", Bucket: "my-bucket.example", Prefix: "a/b"}},
		{
			"s3://b/p?endpoint=http://127.0.0.1:9000&region=eu-west-1&path-style=true&unsafe-single-writer=false",
			"s3://b/p?endpoint=http%3A%2F%2F127.0.0.1%3A9000&path-style=true&region=eu-west-1",
			storeurl.URL{Scheme: "s3", Bucket: "b", Prefix: "p", Endpoint: "http://127.0.0.1:9000", Region: "eu-west-1", PathStyle: true},
		},
	} {
		got, err := storeurl.Parse(tc.in)
		if err != nil || got != tc.want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", tc.in, got, err, tc.want)
			continue
		}
		canonical := tc.canonical
		if canonical == "" {
			canonical = tc.in
		}
		if s := got.String(); s != canonical {
			t.Errorf("Parse(%q).String() = %q, want %q", tc.in, s, canonical)
		}
		if again, err := storeurl.Parse(got.String()); err != nil || again != got {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", got.String(), again, err, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const secret = "wJalrXUtnFEMI"
	for _, tc := range []struct{ in, want string }{
		{"", "empty"},
		{"/abs/dir", "no scheme"},
		{"dir", "no scheme"},
		{"gs://bucket", `unknown scheme "gs"; known are file:// and s3://`},
		{"file://dir", "file:///dir"},
		{"file:dir", "no //"},
		{"file:///", ""}, // the root directory is a directory
		{"file:///a?region=x", `unknown parameter "region"`},
		{"file:///a%00b", "absolute path"},
		{"s3:///prefix", "names no bucket"},
		{"s3://host:9000/bucket", "names no bucket"},
		{"s3://bucket/a//b", "empty segment"},
		{"s3://bucket/a/../b", "relative segment"},
		{"s3://bucket#x", "fragment"},
		{"s3://bucket?regoin=x", `unknown parameter "regoin"`},
		{"s3://bucket?region=x&region=y", "2 times"},
		{"s3://bucket?path-style=yes", "want true or false"},
		{"s3://bucket?endpoint=127.0.0.1:9000", "want http://host:port"},
		{"s3://bucket?endpoint=http://key:" + secret + "@host", "credentials"},
		{"s3://bucket?secret-key=" + secret, `unknown parameter "secret-key"`},
		{"s3://bucket?secret=%zz" + secret, "not well formed"},
		{"s3://key:" + secret + "@bucket", "credentials"},
		{"s3://key:" + secret + "%@bucket", "not a URL"},
	} {
		_, err := storeurl.Parse(tc.in)
		if tc.want == "" {
			if err != nil {
				t.Errorf("Parse(%q): %v", tc.in, err)
			}
			continue
		}
		if !errors.Is(err, storeurl.ErrBadURL) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Parse(%q): %v, want ErrBadURL with %q", tc.in, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("Parse(%q) shows the secret: %v", tc.in, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"file:///a", "s3://b/p?endpoint=http://h&region=r&path-style=true", "s3://b?%zz", "file://x/%00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := storeurl.Parse(raw)
		if err != nil {
			return
		}
		if again, err := storeurl.Parse(u.String()); err != nil || again != u {
			t.Errorf("Parse(%q) = %+v; Parse(%q) = %+v, %v", raw, u, u.String(), again, err)
		}
	})
}

func TestOpenFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "store")
	_, _, err := storeurl.Open(t.Context(), "file://"+dir, false)
	if !errors.Is(err, objectstore.ErrNoBucket) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Open of a missing directory: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a reading Open created the directory: %v", err)
	}
	s, u, err := storeurl.Open(t.Context(), "file://"+dir, true)
	if err != nil || u.Dir != dir {
		t.Fatalf("Open = %+v, %v", u, err)
	}
	if _, err := s.Put(t.Context(), "k", objectstore.Bytes([]byte("x")), objectstore.PutOptions{}); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "k")); err != nil || string(b) != "x" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestIntegrationOpenS3(t *testing.T) {
	srv := versitygw.Start(t)
	srv.Setenv(t)
	s, u, err := storeurl.Open(t.Context(), srv.URL("some/prefix"), true)
	if err != nil || u.Bucket != srv.Bucket {
		t.Fatalf("Open = %+v, %v", u, err)
	}
	if _, err := s.Put(t.Context(), "k", objectstore.Bytes([]byte("x")), objectstore.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(srv.Dir, srv.Bucket, "some", "prefix", "k")); err != nil || string(b) != "x" {
		t.Errorf("the server's directory holds %q, %v", b, err)
	}
}
