package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ckpt-io/ckpt/objectstore"
)

// List implements objectstore.Store, one request for a thousand objects. A
// listing that is out of order or repeats itself ends with an error: what is
// not listed may be deleted by the caller. Objects whose keys no Store takes
// are not ours and left out.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		last := after
		in := &awss3.ListObjectsV2Input{Bucket: &s.opts.Bucket, Prefix: optional(prefix), StartAfter: optional(after)}
		for {
			page, err := s.listPage(ctx, in, prefix, last)
			if err != nil {
				yield(objectstore.Info{}, fmt.Errorf("list %q: %w", prefix, err))
				return
			}
			for _, o := range page.Contents {
				last = *o.Key
				if objectstore.ValidKey(last) != nil {
					continue
				}
				info := objectstore.Info{
					Key: last, Size: aws.ToInt64(o.Size), ETag: aws.ToString(o.ETag),
					LastModified: aws.ToTime(o.LastModified), Date: date(page.ResultMetadata),
				}
				if !yield(info, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) {
				return
			}
			in.ContinuationToken = page.NextContinuationToken
		}
	}
}

func (s *Store) listPage(ctx context.Context, in *awss3.ListObjectsV2Input, prefix, last string) (page *awss3.ListObjectsV2Output, err error) {
	err = s.try(ctx, request{do: func(ctx context.Context) (err error) {
		ctx, cancel := s.bound(ctx, 0)
		defer cancel()
		if page, err = s.api.ListObjectsV2(ctx, in); err != nil {
			return err
		}
		return checkPage(page, in, prefix, last)
	}})
	return page, err
}

func checkPage(page *awss3.ListObjectsV2Output, in *awss3.ListObjectsV2Input, prefix, last string) error {
	for _, o := range page.Contents {
		key := aws.ToString(o.Key)
		if key <= last || !strings.HasPrefix(key, prefix) {
			return &answerError{fmt.Sprintf("listing has %q after %q", key, last)}
		}
		last = key
	}
	if !aws.ToBool(page.IsTruncated) {
		return nil
	}
	next := aws.ToString(page.NextContinuationToken)
	if next == "" || next == aws.ToString(in.ContinuationToken) {
		return &answerError{"listing is cut off without a way to go on"}
	}
	return nil
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

const deleteBatch = 1000 // what one DeleteObjects takes

// Delete implements objectstore.Store, one request for a thousand keys.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := objectstore.ValidKey(key); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	failed := make(map[string]error)
	for len(keys) > 0 {
		n := min(len(keys), deleteBatch)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("delete: %w", errors.Join(err, deleteError(failed)))
		}
		s.deleteBatch(ctx, keys[:n], failed)
		keys = keys[n:]
	}
	return deleteError(failed)
}

func deleteError(failed map[string]error) error {
	if len(failed) == 0 {
		return nil
	}
	return &objectstore.DeleteError{Failed: failed}
}

// deleteBatch deletes up to a thousand objects and puts those it could not
// into failed. The keys that the server could not delete for a passing reason
// are tried again, without the others.
func (s *Store) deleteBatch(ctx context.Context, keys []string, failed map[string]error) {
	left := keys
	lasting := make(map[string]error)
	err := s.try(ctx, request{do: func(ctx context.Context) error {
		ctx, cancel := s.bound(ctx, 0)
		defer cancel()
		out, err := s.api.DeleteObjects(ctx, &awss3.DeleteObjectsInput{
			Bucket: &s.opts.Bucket, Delete: &types.Delete{Objects: identifiers(left), Quiet: aws.Bool(true)},
		})
		if err != nil {
			return err
		}
		left = nil
		for _, e := range out.Errors {
			why := fmt.Sprintf("%s: %q", aws.ToString(e.Code), aws.ToString(e.Message))
			switch known, ok := byCode[aws.ToString(e.Code)]; {
			case ok && errors.Is(known.err, objectstore.ErrNotExist):
			case ok && !known.retry:
				lasting[aws.ToString(e.Key)] = fmt.Errorf("%w: %s", known.err, why)
			default:
				left = append(left, aws.ToString(e.Key))
				err = &answerError{why}
			}
		}
		return err
	}})
	for key, why := range lasting {
		failed[key] = why
	}
	if err != nil {
		for _, key := range left {
			failed[key] = err
		}
	}
}

func identifiers(keys []string) []types.ObjectIdentifier {
	ids := make([]types.ObjectIdentifier, len(keys))
	for i := range keys {
		ids[i].Key = &keys[i]
	}
	return ids
}
