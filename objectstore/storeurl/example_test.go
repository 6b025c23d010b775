package storeurl_test

import (
	"fmt"

	"github.com/ckpt-io/ckpt/objectstore/storeurl"
)

func ExampleParse() {
	u, err := storeurl.Parse("s3://bucket/jobs?endpoint=http://127.0.0.1:9000&path-style=true")
	fmt.Println(u.Bucket, u.Prefix, u.Endpoint, u.PathStyle, err)
	_, err = storeurl.Parse("gs://bucket")
	fmt.Println(err)
	// Output:
	// bucket jobs http://127.0.0.1:9000 true <nil>
	// invalid store URL: unknown scheme "gs"; known are file:// and s3://
}
