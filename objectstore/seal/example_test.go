package seal_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/seal"
)

func ExampleNew() {
	// The content of a file that age-keygen made; LoadKeys reads such a file.
	const keyFile = `# public key: age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj
AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX
`
	keys, err := seal.ReadKeys(strings.NewReader(keyFile))
	if err != nil {
		fmt.Println(err)
		return
	}
	bucket := objectstore.NewMem()
	store, err := seal.New(objectstore.Prefix(bucket, "job"), keys)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if _, err := store.Put(ctx, "data/x", objectstore.Bytes([]byte("content")), objectstore.PutOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	content, info, err := objectstore.ReadAll(ctx, store, "data/x", 1<<20)
	fmt.Printf("%s, %d bytes, %v\n", content, info.Size, err)
	stored, _, err := objectstore.ReadAll(ctx, bucket, "job/data/x", 1<<20)
	fmt.Printf("%.21s, %v\n", stored, err)
	// Output:
	// content, 7 bytes, <nil>
	// age-encryption.org/v1, <nil>
}
