package retention_test

import (
	"context"
	"fmt"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/retention"
)

// A plan says what would go and why; applying it is another step.
func Example() {
	ctx := context.Background()
	store := objectstore.Prefix(objectstore.NewMem(), "wordcount")
	cat := catalog.New(store, "wordcount")

	// A first run uploads an object and dies; a second one takes over.
	first, err := cat.TakeOver(ctx, catalog.TakeOverOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	name := manifest.DataName{ID: 1, Epoch: first.Epoch(), Operator: "count", N: 1, Ext: manifest.ExtSST}
	if _, err := store.Put(ctx, name.Key(), objectstore.Bytes([]byte("changes")), objectstore.PutOptions{IfAbsent: true}); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := cat.TakeOver(ctx, catalog.TakeOverOptions{}); err != nil {
		fmt.Println(err)
		return
	}

	plan, err := retention.NewPlan(ctx, cat, store)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, it := range plan.Deletes {
		fmt.Printf("%s, %d bytes: %s\n", it.Key, it.Size, it.Reason.Text())
	}
	res, err := retention.Apply(ctx, cat, store, plan, retention.ApplyOptions{})
	fmt.Printf("%d deleted, %v\n", res.Deleted, err)
	// Output:
	// data/5f/000000000001-0000000001-count-0-1.sst, 7 bytes: left by an earlier owner of the job, kept by no listed checkpoint
	// 1 deleted, <nil>
}

// A policy is applied in the same swap that commits a checkpoint.
func ExamplePolicy_Retire() {
	listed := []catalog.Entry{
		{ID: 1, Kind: manifest.Periodic},
		{ID: 2, Kind: manifest.Savepoint},
		{ID: 3, Kind: manifest.Periodic},
		{ID: 4, Kind: manifest.Periodic},
	}
	fmt.Println(retention.Policy{Keep: 2}.Retire(listed))
	fmt.Println(retention.Policy{Keep: 2}.Retire(listed, 1)) // 1 is the base of a pending one
	// Output:
	// [000000000001 000000000002]
	// [000000000002 000000000003]
}
