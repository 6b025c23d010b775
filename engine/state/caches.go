package state

import "github.com/cockroachdb/pebble/v2"

// Caches are the memory and file handles that the stores of a process share.
type Caches struct {
	blocks *pebble.Cache
	files  *pebble.FileCache
}

// NewCaches makes caches for blockBytes of decompressed blocks and openFiles
// file handles. The caller closes them after the stores that use them.
func NewCaches(blockBytes int64, openFiles int) *Caches {
	const shards = 8
	return &Caches{blocks: pebble.NewCache(blockBytes), files: pebble.NewFileCache(shards, openFiles)}
}

// Close lets go of the caches.
func (c *Caches) Close() {
	c.files.Unref()
	c.blocks.Unref()
}
