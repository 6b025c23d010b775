package s3

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ckpt-io/ckpt/objectstore"
)

// Put implements objectstore.Store. Objects above Options.MultipartAbove go up
// in parts; not all servers keep to the conditions of such a Put, so it suits
// only objects whose names are unique. All others are one request.
//
// A 412 that follows an attempt of unknown outcome is ErrUnknownOutcome: the
// object that is in the way may be this one.
func (s *Store) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	if err := objectstore.ValidKey(key); err != nil {
		return objectstore.Info{}, fmt.Errorf("put: %w", err)
	}
	put := s.putWhole
	if body.Size() > s.opts.MultipartAbove {
		put = s.putParts
	}
	info, err := put(ctx, key, body, opts)
	if err != nil {
		return objectstore.Info{}, fmt.Errorf("put %q: %w", key, err)
	}
	return info, nil
}

func (s *Store) putWhole(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	size := body.Size()
	if err := ctx.Err(); err != nil {
		return objectstore.Info{}, err
	}
	sum, err := checksum(objectstore.Unpaced(body), 0, size)
	if err != nil {
		return objectstore.Info{}, err
	}
	in := &awss3.PutObjectInput{
		Bucket: &s.opts.Bucket, Key: &key, ContentLength: &size, ChecksumCRC32C: &sum,
		IfNoneMatch: ifNoneMatch(opts), IfMatch: s.ifMatch(opts),
	}
	info := objectstore.Info{Key: key, Size: size}
	err = s.try(ctx, request{write: true, settled: s.settled(key, opts), do: func(ctx context.Context) error {
		ctx, deadline := s.boundBody(ctx, size)
		defer deadline.stop()
		section := newSection(body, 0, size, deadline)
		attempt := *in
		attempt.Body = section
		out, err := s.api.PutObject(ctx, &attempt, unsignedPayload)
		if err != nil {
			return section.explain(err)
		}
		info.ETag, info.Date = aws.ToString(out.ETag), date(out.ResultMetadata)
		return nil
	}})
	if opts.IfMatch != "" && errors.Is(err, objectstore.ErrNotExist) {
		err = fmt.Errorf("%w: it does not exist", objectstore.ErrPrecondition)
	}
	if err != nil {
		return objectstore.Info{}, err
	}
	return info, nil
}

// settled tests whether a conditional write that may have been done would be
// refused if it were sent again. It spares sending a large body, which some
// servers refuse by resetting the connection, again and again.
func (s *Store) settled(key string, opts objectstore.PutOptions) func(context.Context) bool {
	if opts == (objectstore.PutOptions{}) {
		return nil
	}
	return func(ctx context.Context) bool {
		ctx, cancel := s.bound(ctx, 0)
		defer cancel()
		out, err := s.api.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &s.opts.Bucket, Key: &key})
		if err != nil {
			return false
		}
		return opts.IfAbsent || !sameETag(aws.ToString(out.ETag), opts.IfMatch)
	}
}

func sameETag(a, b string) bool { return strings.Trim(a, `"`) == strings.Trim(b, `"`) }

func ifNoneMatch(opts objectstore.PutOptions) *string {
	if opts.IfAbsent {
		return aws.String("*")
	}
	return nil
}

func (s *Store) ifMatch(opts objectstore.PutOptions) *string {
	switch {
	case opts.IfMatch == "":
		return nil
	case s.unquoted.Load():
		return aws.String(strings.Trim(opts.IfMatch, `"`))
	}
	return &opts.IfMatch
}

// unsignedPayload leaves the body out of the signature also over plain HTTP:
// hashing it costs more than all the rest of the client. Its CRC-32C is a
// signed header.
func unsignedPayload(o *awss3.Options) {
	o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC-32C of a part of a body as S3's headers spell it.
func checksum(body objectstore.Body, off, size int64) (string, error) {
	h := crc32.New(castagnoli)
	section := newSection(body, off, size, nil)
	buf := make([]byte, min(256<<10, max(1, size)))
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{section}, buf)
	if err == nil && n < size {
		err = &bodyError{io.ErrUnexpectedEOF}
	}
	if err != nil {
		return "", section.explain(err)
	}
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, h.Sum32())), nil
}

// section is a part of a body as a stream that remembers why reading it
// failed, which the HTTP client does not pass on reliably.
type section struct {
	*io.SectionReader
	failed *atomic.Pointer[bodyError]
}

type remember struct {
	io.ReaderAt
	failed   *atomic.Pointer[bodyError]
	deadline *deadline // of the attempt that sends it; nil: it is not sent
}

func newSection(body objectstore.Body, off, size int64, d *deadline) section {
	failed := new(atomic.Pointer[bodyError])
	return section{io.NewSectionReader(remember{body, failed, d}, off, size), failed}
}

func (r remember) ReadAt(p []byte, off int64) (int, error) {
	if r.deadline != nil {
		r.deadline.pause()
		defer r.deadline.resume()
	}
	n, err := r.ReaderAt.ReadAt(p, off)
	if err != nil && err != io.EOF {
		r.failed.Store(&bodyError{err})
	}
	return n, err
}

// explain is err, or the failure of the body behind it.
func (s section) explain(err error) error {
	if failed := s.failed.Load(); failed != nil {
		return failed
	}
	return err
}
