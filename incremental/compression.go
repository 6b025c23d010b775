package incremental

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// Compression is how the blocks of tables are compressed. Any reader reads all
// of them: it may differ between tables of one database and change at any time.
type Compression string

// The compressions, by growing size and falling cost of the first ones; what
// they measure stands in docs/materialization.md. Empty means DefaultCompression.
const (
	NoCompression Compression = "none"
	Snappy        Compression = "snappy"
	Zstd1         Compression = "zstd1"
	Zstd3         Compression = "zstd3"
	Zstd5         Compression = "zstd5"

	DefaultCompression = Zstd1
)

var profiles = map[Compression]*sstable.CompressionProfile{
	"":            zstdProfile(1),
	NoCompression: sstable.NoCompression,
	Snappy:        sstable.SnappyCompression,
	Zstd1:         zstdProfile(1),
	Zstd3:         zstdProfile(3),
	Zstd5:         zstdProfile(5),
}

// zstdProfile uses one level for all blocks that are compressed. Pebble's own
// profile named zstd takes level 3, and leaves blocks as they are that get less
// than 12 % smaller.
func zstdProfile(level uint8) *sstable.CompressionProfile {
	setting := sstable.BalancedCompression.DataBlocks
	setting.Level = level
	return &sstable.CompressionProfile{
		Name:                fmt.Sprintf("ckpt-zstd%d", level),
		DataBlocks:          setting,
		ValueBlocks:         setting,
		OtherBlocks:         setting,
		MinReductionPercent: 5,
	}
}

// Validate refuses a name that is none of the compressions.
func (c Compression) Validate() error {
	if profiles[c] == nil {
		return fmt.Errorf("compression %q: want %s, %s, %s, %s or %s", string(c), NoCompression, Snappy, Zstd1, Zstd3, Zstd5)
	}
	return nil
}

// set makes it that of all levels of a database.
func (c Compression) set(opts *pebble.Options) {
	for i := range opts.Levels {
		opts.Levels[i].Compression = func() *sstable.CompressionProfile { return profiles[c] }
	}
}
