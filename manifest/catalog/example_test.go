package catalog_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// A job is taken over and commits a checkpoint; once somebody else has taken
// it over, the old owner cannot commit any more.
func Example() {
	ctx := context.Background()
	store := objectstore.Prefix(objectstore.NewMem(), "wordcount")

	owner, err := catalog.New(store, "wordcount").TakeOver(ctx, catalog.TakeOverOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	m := &manifest.Manifest{Job: "wordcount", ID: owner.Head().NextID, Epoch: owner.Epoch(), Kind: manifest.Periodic}
	entry, err := owner.Commit(ctx, m, nil)
	fmt.Println("committed", entry.ID, err)

	next, err := catalog.New(store, "wordcount").TakeOver(ctx, catalog.TakeOverOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("epoch", next.Epoch(), "starts from id", next.Head().NextID)

	m = &manifest.Manifest{Job: "wordcount", ID: 2, Epoch: owner.Epoch(), Kind: manifest.Periodic, Base: 1}
	_, err = owner.Commit(ctx, m, nil)
	fmt.Println("fenced:", errors.Is(err, catalog.ErrFenced))
	// Output:
	// committed 000000000001 <nil>
	// epoch 0000000002 starts from id 000000000002
	// fenced: true
}
