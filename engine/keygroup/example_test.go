package keygroup_test

import (
	"fmt"

	"github.com/ckpt-io/ckpt/engine/keygroup"
)

// A key belongs to one key group for ever; which subtask owns that group
// depends on the parallelism.
func Example() {
	const maxParallelism = 128
	group := keygroup.Of(keygroup.Default, []byte("user-1"), maxParallelism)
	for _, p := range []int{1, 4} {
		i := keygroup.Subtask(maxParallelism, p, group)
		fmt.Printf("key group %d is of subtask %d of %d, which owns %v\n", group, i, p, keygroup.Range(maxParallelism, p, i))
	}
	// Output:
	// key group 99 is of subtask 0 of 1, which owns 0-127
	// key group 99 is of subtask 3 of 4, which owns 96-127
}
