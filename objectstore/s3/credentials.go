package s3

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// credentials are those of the configuration, with errors the retry loop
// knows.
type credentials struct {
	inner aws.CredentialsProvider
}

func (c *credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if c.inner == nil {
		return aws.Credentials{}, &credentialsError{fmt.Errorf("none are configured")}
	}
	got, err := c.inner.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err}
	}
	return got, nil
}

// invalidate makes the next request obtain new ones.
func (c *credentials) invalidate() {
	if cache, ok := c.inner.(interface{ Invalidate() }); ok {
		cache.Invalidate()
	}
}

// credentialsError is a failure to obtain credentials. Nothing was sent.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string {
	return fmt.Sprintf("obtain AWS credentials: %v; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role", e.err)
}

func (e *credentialsError) Unwrap() []error { return []error{errPermission, e.err} }
