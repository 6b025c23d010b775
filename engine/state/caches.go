package state

import (
	"runtime"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ckpt-io/ckpt/incremental"
)

// Caches are the memory, file handles, compactions and hydrations that the stores
// of a process share.
type Caches struct {
	blocks      *pebble.Cache
	files       *pebble.FileCache
	compactions *incremental.Compactions
	hydrations  *incremental.Streams
}

// parallelHydrations is how many requests fetch restored state in the background
// at a time, in a process.
const parallelHydrations = 8

// NewCaches makes caches for blockBytes of decompressed blocks and openFiles
// file handles, besides those that are about to be closed (100, or as many again
// where that is more). One compaction for every two processors runs at a time, two at
// least. The caller closes them after the stores that use them.
func NewCaches(blockBytes int64, openFiles int) *Caches {
	// Pebble closes the files in the background, and lets up to 100 a shard
	// wait for it: these are open besides.
	shards := min(max(openFiles/128, 1), 8)
	return &Caches{
		blocks:      pebble.NewCache(blockBytes),
		files:       pebble.NewFileCache(shards, openFiles),
		compactions: newCompactions(),
		hydrations:  incremental.NewStreams(parallelHydrations),
	}
}

func newCompactions() *incremental.Compactions {
	return incremental.NewCompactions(max(2, runtime.GOMAXPROCS(0)/2))
}

// Close lets go of the caches.
func (c *Caches) Close() {
	c.files.Unref()
	c.blocks.Unref()
}
