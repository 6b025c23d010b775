package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/ckpt-io/ckpt/objectstore"
)

// Get implements objectstore.Store. The reader resumes a body that breaks off
// or stalls, at the byte where it was and only from the same object.
func (s *Store) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	if err := objectstore.ValidKey(key); err != nil {
		return nil, objectstore.Info{}, fmt.Errorf("get: %w", err)
	}
	if offset < 0 {
		return nil, objectstore.Info{}, fmt.Errorf("get %q: negative offset %d", key, offset)
	}
	r, info, err := s.get(ctx, key, offset, length)
	if err != nil {
		return nil, objectstore.Info{}, fmt.Errorf("get %q: %w", key, err)
	}
	return r, info, nil
}

func (s *Store) get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	end := int64(math.MaxInt64)
	if length >= 0 && length < end-offset {
		end = offset + length
	}
	if length == 0 {
		return s.getNothing(ctx, key)
	}
	var b body
	err := s.try(ctx, request{do: func(ctx context.Context) (err error) {
		b, err = s.open(ctx, key, offset, end, "")
		return err
	}})
	if errors.Is(err, errRange) {
		return s.getNothing(ctx, key) // no bytes there: past the end
	}
	if err != nil {
		return nil, objectstore.Info{}, err
	}
	r := &reader{store: s, ctx: ctx, key: key, etag: b.info.ETag, pos: offset, end: min(end, b.info.Size), body: b}
	return r, b.info, nil
}

// getNothing is the answer for a range without bytes, which S3 has no request
// for.
func (s *Store) getNothing(ctx context.Context, key string) (io.ReadCloser, objectstore.Info, error) {
	info, err := s.stat(ctx, key)
	if err != nil {
		return nil, objectstore.Info{}, err
	}
	return io.NopCloser(strings.NewReader("")), info, nil
}

// body is the answer to one GET. Its cancel ends the request.
type body struct {
	io.ReadCloser
	info   objectstore.Info
	cancel context.CancelFunc
}

// open makes one attempt to get the bytes from offset up to end, or as far as
// the object goes.
func (s *Store) open(ctx context.Context, key string, offset, end int64, ifMatch string) (body, error) {
	in := &awss3.GetObjectInput{Bucket: &s.opts.Bucket, Key: &key}
	ranged := offset > 0 || end < math.MaxInt64
	if ranged {
		in.Range = aws.String(formatRange(offset, end))
	}
	if ifMatch != "" {
		in.IfMatch = s.ifMatch(objectstore.PutOptions{IfMatch: ifMatch})
	}
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(s.opts.AttemptTimeout, cancel) // for the headers
	out, err := s.api.GetObject(ctx, in)
	if err != nil {
		timer.Stop()
		cancel()
		return body{}, err
	}
	b := body{ReadCloser: out.Body, cancel: cancel, info: objectstore.Info{
		Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag),
		LastModified: aws.ToTime(out.LastModified), Date: date(out.ResultMetadata),
	}}
	if out.ContentRange != nil || offset > 0 {
		b.info.Size, err = wholeSize(aws.ToString(out.ContentRange), offset)
	}
	if err == nil && out.ContentLength == nil {
		err = &answerError{"no Content-Length"}
	}
	if err == nil && ifMatch != "" && !sameETag(b.info.ETag, ifMatch) {
		err = errChanged
	}
	if !timer.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		b.close()
		return body{}, err
	}
	return b, nil
}

func (b body) close() {
	b.cancel()
	b.ReadCloser.Close() // of a request that is over: nothing to lose
}

func formatRange(offset, end int64) string {
	if end == math.MaxInt64 {
		return fmt.Sprintf("bytes=%d-", offset)
	}
	return fmt.Sprintf("bytes=%d-%d", offset, end-1)
}

// wholeSize reads the object's size from a Content-Range that must begin at
// offset.
func wholeSize(contentRange string, offset int64) (int64, error) {
	span, total, ok := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "/")
	first, _, ok2 := strings.Cut(span, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	size, err2 := strconv.ParseInt(total, 10, 64)
	if !ok || !ok2 || err != nil || err2 != nil || from != offset || size < offset {
		return 0, &answerError{fmt.Sprintf("Content-Range %q for a read from %d", contentRange, offset)}
	}
	return size, nil
}

// Stat implements objectstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objectstore.Info, error) {
	if err := objectstore.ValidKey(key); err != nil {
		return objectstore.Info{}, fmt.Errorf("stat: %w", err)
	}
	info, err := s.stat(ctx, key)
	if err != nil {
		return objectstore.Info{}, fmt.Errorf("stat %q: %w", key, err)
	}
	return info, nil
}

func (s *Store) stat(ctx context.Context, key string) (info objectstore.Info, err error) {
	err = s.try(ctx, request{do: func(ctx context.Context) error {
		ctx, cancel := s.bound(ctx, 0)
		defer cancel()
		out, err := s.api.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &s.opts.Bucket, Key: &key})
		if err == nil {
			info = objectstore.Info{
				Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag),
				LastModified: aws.ToTime(out.LastModified), Date: date(out.ResultMetadata),
			}
		}
		return err
	}})
	if errors.Is(err, objectstore.ErrNotExist) && !s.bucketSeen.Load() {
		if bucketErr := s.statBucket(ctx); errors.Is(bucketErr, objectstore.ErrNotExist) {
			err = fmt.Errorf("%w: %q", objectstore.ErrNoBucket, s.opts.Bucket)
		}
	}
	return info, err
}

// statBucket tells a missing bucket from a missing object, which the answer to
// a HEAD, having no body, does not.
func (s *Store) statBucket(ctx context.Context) error {
	return s.try(ctx, request{do: func(ctx context.Context) error {
		ctx, cancel := s.bound(ctx, 0)
		defer cancel()
		_, err := s.api.HeadBucket(ctx, &awss3.HeadBucketInput{Bucket: &s.opts.Bucket})
		return err
	}})
}

// date is the server's clock, zero if the answer did not show it.
func date(m middleware.Metadata) time.Time {
	t, _ := awsmiddleware.GetServerTime(m)
	return t
}
