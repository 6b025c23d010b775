package s3

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/objectstore"
)

const abortTimeout = 10 * time.Second

// putParts writes a large object in parallel parts. What does not come to its
// end is aborted, so that its parts are not stored and paid for.
func (s *Store) putParts(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (info objectstore.Info, err error) {
	var uploadID *string
	err = s.try(ctx, request{do: func(ctx context.Context) error {
		ctx, cancel := s.bound(ctx, 0)
		defer cancel()
		out, err := s.api.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{
			Bucket: &s.opts.Bucket, Key: &key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
		})
		if err == nil {
			uploadID = out.UploadId
		}
		return err
	}})
	if err != nil {
		return objectstore.Info{}, fmt.Errorf("begin multipart upload: %w", err)
	}
	defer func() {
		if err != nil {
			s.abort(ctx, key, uploadID)
		}
	}()
	parts, err := s.uploadParts(ctx, key, uploadID, body)
	if err != nil {
		return objectstore.Info{}, err
	}
	return s.complete(ctx, key, uploadID, parts, body.Size(), opts)
}

func (s *Store) uploadParts(ctx context.Context, key string, uploadID *string, body objectstore.Body) ([]types.CompletedPart, error) {
	partSize := max(s.opts.PartSize, (body.Size()+maxParts-1)/maxParts)
	parts := make([]types.CompletedPart, (body.Size()+partSize-1)/partSize)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.opts.PartConcurrency)
	for i := range parts {
		g.Go(func() error {
			end, err := objectstore.BeginPart(ctx, body)
			if err != nil {
				return err
			}
			defer end()
			off := int64(i) * partSize
			part, err := s.uploadPart(ctx, key, uploadID, int32(i+1), body, off, min(partSize, body.Size()-off))
			if err != nil {
				return fmt.Errorf("part %d of %d: %w", i+1, len(parts), err)
			}
			parts[i] = part
			return nil
		})
	}
	return parts, g.Wait()
}

func (s *Store) uploadPart(ctx context.Context, key string, uploadID *string, number int32, body objectstore.Body, off, size int64) (part types.CompletedPart, err error) {
	if err := ctx.Err(); err != nil {
		return part, err
	}
	sum, err := checksum(objectstore.Unpaced(body), off, size)
	if err != nil {
		return part, err
	}
	err = s.try(ctx, request{do: func(ctx context.Context) error {
		ctx, deadline := s.boundBody(ctx, size)
		defer deadline.stop()
		section := newSection(body, off, size, deadline)
		out, err := s.api.UploadPart(ctx, &awss3.UploadPartInput{
			Bucket: &s.opts.Bucket, Key: &key, UploadId: uploadID, PartNumber: &number,
			Body: section, ContentLength: &size, ChecksumCRC32C: &sum,
		}, unsignedPayload)
		if err != nil {
			return section.explain(err)
		}
		part = types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumCRC32C: &sum}
		return nil
	}})
	return part, err
}

func (s *Store) complete(ctx context.Context, key string, uploadID *string, parts []types.CompletedPart, size int64, opts objectstore.PutOptions) (objectstore.Info, error) {
	info := objectstore.Info{Key: key, Size: size}
	err := s.try(ctx, request{write: true, do: func(ctx context.Context) error {
		ctx, cancel := s.bound(ctx, size) // the server may have to join the parts
		defer cancel()
		out, err := s.api.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{
			Bucket: &s.opts.Bucket, Key: &key, UploadId: uploadID,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
			IfNoneMatch:     ifNoneMatch(opts), IfMatch: s.ifMatch(opts),
		})
		if err == nil {
			info.ETag, info.Date = aws.ToString(out.ETag), date(out.ResultMetadata)
		}
		return err
	}})
	switch {
	case errors.Is(err, errNoUpload):
		err = fmt.Errorf("%w: the multipart upload vanished", objectstore.ErrUnavailable)
	case opts.IfMatch != "" && errors.Is(err, objectstore.ErrNotExist):
		err = fmt.Errorf("%w: it does not exist", objectstore.ErrPrecondition)
	}
	if err != nil {
		return objectstore.Info{}, fmt.Errorf("complete multipart upload: %w", err)
	}
	return info, nil
}

// abort removes the parts, also when the caller gave up. It fails in silence:
// the bucket's lifecycle rule for incomplete uploads is there for that.
func (s *Store) abort(ctx context.Context, key string, uploadID *string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_ = s.try(ctx, request{do: func(ctx context.Context) error {
		_, err := s.api.AbortMultipartUpload(ctx, &awss3.AbortMultipartUploadInput{Bucket: &s.opts.Bucket, Key: &key, UploadId: uploadID})
		return err
	}})
}
