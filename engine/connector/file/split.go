package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ckpt-io/ckpt/manifest"
)

// cursor is a split and how far it was read: the lines that begin in the bytes
// [Start, End) of a file, of which in pass Pass those before Offset are done.
// As JSON it is the position of a manifest.Split; a stored format.
type cursor struct {
	Path   string `json:"path"` // slash-separated, relative to the input directory
	Start  int64  `json:"start"`
	End    int64  `json:"end"`
	Size   int64  `json:"size"` // of the file when the job began
	Pass   int    `json:"pass"` // passes completed
	Offset int64  `json:"offset"`
}

// split is the cursor as it stands in a checkpoint.
func (c *cursor) split() (manifest.Split, error) {
	position, err := json.Marshal(c)
	if err != nil {
		return manifest.Split{}, fmt.Errorf("encode position of split %q: %w", c.id(), err)
	}
	return manifest.Split{ID: c.id(), Position: position}, nil
}

// encodeSplits are the splits of all cursors.
func encodeSplits(cursors []*cursor) (_ []manifest.Split, err error) {
	splits := make([]manifest.Split, len(cursors))
	for i, c := range cursors {
		if splits[i], err = c.split(); err != nil {
			return nil, err
		}
	}
	return splits, nil
}

func (c *cursor) id() string { return fmt.Sprintf("%s:%d-%d", c.Path, c.Start, c.End) }

// parseSplit reads what split wrote, from a checkpoint that may be damaged or
// another source's.
func parseSplit(s manifest.Split) (*cursor, error) {
	var c cursor
	if err := json.Unmarshal(s.Position, &c); err != nil {
		return nil, fmt.Errorf("decode position of split %q: %w", s.ID, err)
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("decode position of split %q: %w", s.ID, err)
	}
	if s.ID != c.id() {
		return nil, fmt.Errorf("decode position of split %q: it is of %q", s.ID, c.id())
	}
	return &c, nil
}

func (c *cursor) validate() error {
	if !fs.ValidPath(c.Path) || c.Path == "." {
		return fmt.Errorf("invalid path %q", c.Path)
	}
	if c.Start < 0 || c.End <= c.Start || c.Size < c.End {
		return fmt.Errorf("invalid range %d-%d of %d bytes", c.Start, c.End, c.Size)
	}
	if c.Offset < c.Start || c.Offset >= c.End {
		return fmt.Errorf("offset %d is outside of %d-%d", c.Offset, c.Start, c.End)
	}
	if c.Pass < 0 {
		return errors.New("pass is below zero")
	}
	return nil
}

// advance moves the cursor over n bytes, and at its end to the next pass.
func (c *cursor) advance(n int) {
	c.Offset += int64(n)
	if c.Offset == c.End {
		c.Pass++
		c.Offset = c.Start
	}
}
