// Package storeurl turns the URL of a store, as command lines and
// configurations give it, into the store. What the URL says about checking the
// store ([URL.UnsafeSingleWriter]) is left to the caller to act on.
//
//	file:///absolute/dir
//	s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1&path-style=true
//
// Both also take unsafe-single-writer=true. Credentials are never part of a
// URL: they come from the AWS default chain.
package storeurl

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/file"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

// ErrBadURL is a URL that names no store we know how to open. The text around
// it says what is wrong and never shows a value that could be a secret.
var ErrBadURL = errors.New("invalid store URL")

// Schemes a URL may have.
const (
	SchemeFile = "file"
	SchemeS3   = "s3"
)

// URL is a parsed store URL.
type URL struct {
	Scheme string
	// Dir is the directory of a file store, in the spelling of this system.
	Dir string
	// Bucket, Prefix (without slashes at its ends), Endpoint, Region and
	// PathStyle describe an S3 store. All but Bucket may be empty.
	Bucket, Prefix, Endpoint, Region string
	PathStyle                        bool
	// UnsafeSingleWriter says that the user vouches for there being only one
	// writer, so that the store need not keep to conditions.
	UnsafeSingleWriter bool
}

// Parse reads a store URL. Its errors are [ErrBadURL].
func Parse(raw string) (URL, error) {
	u, err := parse(raw)
	if err != nil {
		return URL{}, fmt.Errorf("%w: %w", ErrBadURL, err)
	}
	return u, nil
}

func parse(raw string) (URL, error) {
	if raw == "" {
		return URL{}, errors.New("it is empty; give file:///absolute/dir or s3://bucket/prefix")
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's error quotes the input, which may hold a password.
		return URL{}, errors.New("it is not a URL; give file:///absolute/dir or s3://bucket/prefix")
	}
	switch {
	case u.User != nil:
		return URL{}, errors.New("it holds credentials; leave them to the AWS environment variables, profile or role")
	case u.Fragment != "" || u.Opaque != "":
		return URL{}, errors.New("it has a fragment, or no // after its scheme")
	}
	switch u.Scheme {
	case SchemeFile:
		return parseFile(u)
	case SchemeS3:
		return parseS3(u)
	case "":
		return URL{}, errors.New("it has no scheme; give file:///absolute/dir or s3://bucket/prefix")
	}
	return URL{}, fmt.Errorf("unknown scheme %q; known are file:// and s3://", u.Scheme)
}

func parseFile(u *url.URL) (URL, error) {
	if u.Host != "" && u.Host != "localhost" {
		return URL{}, fmt.Errorf("a file URL has three slashes and an absolute path: file:///%s%s", u.Host, u.Path)
	}
	dir := u.Path
	if runtime.GOOS == "windows" {
		dir = strings.TrimPrefix(dir, "/") // file:///C:/dir
	}
	dir = filepath.FromSlash(dir)
	if !filepath.IsAbs(dir) || strings.ContainsRune(dir, 0) {
		return URL{}, errors.New("a file URL needs an absolute path: file:///absolute/dir")
	}
	out := URL{Scheme: SchemeFile, Dir: filepath.Clean(dir)}
	err := parameters(u, map[string]func(string) error{"unsafe-single-writer": boolean(&out.UnsafeSingleWriter)})
	return out, err
}

func parseS3(u *url.URL) (URL, error) {
	out := URL{Scheme: SchemeS3, Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	if out.Bucket == "" || strings.Contains(out.Bucket, ":") {
		return URL{}, errors.New("it names no bucket: s3://bucket/prefix, and a server as ?endpoint=http://host:port")
	}
	if out.Prefix != "" {
		if err := objectstore.ValidKey(out.Prefix); err != nil {
			return URL{}, err
		}
	}
	err := parameters(u, map[string]func(string) error{
		"endpoint":             endpoint(&out.Endpoint),
		"region":               text(&out.Region),
		"path-style":           boolean(&out.PathStyle),
		"unsafe-single-writer": boolean(&out.UnsafeSingleWriter),
	})
	return out, err
}

// parameters hands each parameter of the URL to its function.
func parameters(u *url.URL, known map[string]func(string) error) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("its parameters are not well formed")
	}
	var errs []error
	for name, values := range query {
		set, ok := known[name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("unknown parameter %q", name))
		case len(values) != 1:
			errs = append(errs, fmt.Errorf("parameter %s is given %d times", name, len(values)))
		default:
			if err := set(values[0]); err != nil {
				errs = append(errs, fmt.Errorf("parameter %s: %w", name, err))
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

func text(to *string) func(string) error {
	return func(v string) error { *to = v; return nil }
}

func boolean(to *bool) func(string) error {
	return func(v string) error {
		if v != "true" && v != "false" {
			return errors.New("want true or false")
		}
		*to = v == "true"
		return nil
	}
}

func endpoint(to *string) func(string) error {
	return func(v string) error {
		u, err := url.Parse(v)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			return errors.New("want http://host:port or https://host:port")
		case u.User != nil:
			return errors.New("it holds credentials; leave them to the AWS environment variables, profile or role")
		}
		*to = v
		return nil
	}
}

// String is the URL in its one spelling, which Parse reads again.
func (u URL) String() string {
	out := url.URL{Scheme: u.Scheme}
	query := url.Values{}
	if u.Scheme == SchemeFile {
		out.Path = filepath.ToSlash(u.Dir)
		if !strings.HasPrefix(out.Path, "/") {
			out.Path = "/" + out.Path
		}
	} else {
		out.Host = u.Bucket
		if u.Prefix != "" {
			out.Path = "/" + u.Prefix
		}
	}
	for name, value := range map[string]string{"endpoint": u.Endpoint, "region": u.Region} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, value := range map[string]bool{"path-style": u.PathStyle, "unsafe-single-writer": u.UnsafeSingleWriter} {
		if value {
			query.Set(name, "true")
		}
	}
	out.RawQuery = query.Encode()
	return out.String()
}

// Open opens the store of a URL and returns it with the parsed URL. create
// makes a file store's directory if it is missing, which is ErrNoBucket
// otherwise; buckets are never created.
func Open(ctx context.Context, raw string, create bool) (objectstore.Store, URL, error) {
	u, err := Parse(raw)
	if err != nil {
		return nil, URL{}, err
	}
	if u.Scheme == SchemeFile {
		s, err := file.Open(u.Dir, file.Options{Create: create})
		if err != nil {
			return nil, u, err
		}
		return s, u, nil
	}
	s, err := s3.Open(ctx, s3.Options{Bucket: u.Bucket, Endpoint: u.Endpoint, Region: u.Region, PathStyle: u.PathStyle})
	if err != nil {
		return nil, u, err
	}
	return objectstore.Prefix(s, u.Prefix), u, nil
}
