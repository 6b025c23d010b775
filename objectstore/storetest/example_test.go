package storetest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// A write of HEAD is done, but its answer is lost.
func ExampleFaulty() {
	ctx := context.Background()
	store := storetest.NewFaulty(objectstore.NewMem(), 1,
		storetest.Rule{Op: storetest.Put, Key: "^HEAD$", Nth: 1, Do: storetest.LoseAnswer()})

	_, err := store.Put(ctx, "HEAD", objectstore.Bytes([]byte("1")), objectstore.PutOptions{IfAbsent: true})
	fmt.Println(errors.Is(err, objectstore.ErrUnknownOutcome))
	_, err = store.Stat(ctx, "HEAD")
	fmt.Println(err)
	for _, call := range store.Calls() {
		fmt.Println(call)
	}
	// Output:
	// true
	// <nil>
	// put HEAD if-absent: outcome of the write is unknown
	// stat HEAD
}
