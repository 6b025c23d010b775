package objectstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ckpt-io/ckpt/objectstore"
)

func ExampleStore() {
	ctx := context.Background()
	store := objectstore.Prefix(objectstore.NewMem(), "job")
	info, err := store.Put(ctx, "HEAD", objectstore.Bytes([]byte("epoch 1")), objectstore.PutOptions{IfAbsent: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	swap := objectstore.PutOptions{IfMatch: info.ETag}
	_, err = store.Put(ctx, "HEAD", objectstore.Bytes([]byte("epoch 2")), swap)
	fmt.Println("swap:", err)
	_, err = store.Put(ctx, "HEAD", objectstore.Bytes([]byte("epoch 2 again")), swap)
	fmt.Println("swap by the same ETag fails:", errors.Is(err, objectstore.ErrPrecondition))
	body, _, err := objectstore.ReadAll(ctx, store, "HEAD", 1<<20)
	fmt.Printf("%s %v\n", body, err)
	// Output:
	// swap: <nil>
	// swap by the same ETag fails: true
	// epoch 2 <nil>
}
