package manifest

import (
	"errors"
	"fmt"
	"strconv"
)

// ID numbers a checkpoint. Ids of a job rise strictly over all its epochs.
// Its String has a fixed width, so that names sort as numbers do.
type ID uint64

// Epoch counts a job's owners: each start of the job is a takeover with the
// next epoch, and it is the attempt number of every task.
type Epoch uint64

const (
	// MaxID is the largest id a name has room for.
	MaxID ID = 999_999_999_999
	// MaxEpoch is the largest epoch a name has room for.
	MaxEpoch Epoch = 9_999_999_999

	idWidth    = 12
	epochWidth = 10
)

// ErrOverflow is an id or epoch past MaxID or MaxEpoch, or one that would be.
var ErrOverflow = errors.New("number does not fit in its stored name")

func (id ID) String() string   { return fmt.Sprintf("%0*d", idWidth, uint64(id)) }
func (e Epoch) String() string { return fmt.Sprintf("%0*d", epochWidth, uint64(e)) }

// ParseID reads what ID.String wrote: exactly its width in decimal digits.
func ParseID(s string) (ID, error) {
	n, err := parseFixed(s, idWidth)
	return ID(n), err
}

// ParseEpoch reads what Epoch.String wrote.
func ParseEpoch(s string) (Epoch, error) {
	n, err := parseFixed(s, epochWidth)
	return Epoch(n), err
}

func parseFixed(s string, width int) (uint64, error) {
	if len(s) != width {
		return 0, fmt.Errorf("parse %q: want %d digits", s, width)
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("parse %q: not a decimal number", s)
		}
	}
	return strconv.ParseUint(s, 10, 64)
}
