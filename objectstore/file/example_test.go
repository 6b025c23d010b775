package file_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/file"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store, err := file.Open(dir, file.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()

	ctx := context.Background()
	create := objectstore.PutOptions{IfAbsent: true}
	_, err = store.Put(ctx, "jobs/HEAD", objectstore.Bytes([]byte("first")), create)
	fmt.Println(err)
	_, err = store.Put(ctx, "jobs/HEAD", objectstore.Bytes([]byte("second")), create)
	fmt.Println(errors.Is(err, objectstore.ErrPrecondition))
	// Output:
	// <nil>
	// true
}
