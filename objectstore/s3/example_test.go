package s3_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

func ExampleOpen() {
	ctx := context.Background()
	store, err := s3.Open(ctx, s3.Options{
		Bucket:      "checkpoints",
		Endpoint:    "http://127.0.0.1:1", // nobody listens there
		PathStyle:   true,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
		MaxAttempts: 1,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = store.Stat(ctx, "HEAD")
	fmt.Println(errors.Is(err, objectstore.ErrUnavailable))
	// Output: true
}
