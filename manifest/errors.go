package manifest

import (
	"errors"
	"fmt"
)

var (
	// ErrCorrupt is stored data that is not what was written, or never was
	// one of ours. It is not retried.
	ErrCorrupt = errors.New("corrupt")
	// ErrNewerFormat is stored data of a version of ckpt that came after this
	// one. Nobody may delete on the ground of data they cannot read.
	ErrNewerFormat = errors.New("written by a newer version")
	// ErrParts is a manifest whose tasks stand in other objects, met by one who
	// reads whole ones only.
	ErrParts = errors.New("manifest refers to parts in other objects")
	// ErrInvalid is a manifest that Encode refuses because it breaks the rules
	// that Decode would hold it to.
	ErrInvalid = errors.New("invalid manifest")
)

// NewerFormatError says which format was met. It matches ErrNewerFormat.
type NewerFormatError struct {
	Have int // the newest format this version reads
	Want int // the format of the data
	// Feature names what the data needs beyond its format; empty if the
	// format itself is newer.
	Feature string
}

func (e *NewerFormatError) Error() string {
	if e.Feature != "" {
		return fmt.Sprintf("needs feature %q, which this version does not know: use a newer ckpt", e.Feature)
	}
	return fmt.Sprintf("format %d, this version reads up to %d: use a newer ckpt", e.Want, e.Have)
}

// Is makes the error match ErrNewerFormat.
func (e *NewerFormatError) Is(target error) bool { return target == ErrNewerFormat }

// CorruptError names the stored object that is damaged or missing. It matches
// ErrCorrupt, and what Err matches: fs.ErrNotExist if the object is missing.
type CorruptError struct {
	Key string // relative to the job's prefix
	Err error
}

func (e *CorruptError) Error() string { return fmt.Sprintf("object %q: %v", e.Key, e.Err) }

// Unwrap gives the reason.
func (e *CorruptError) Unwrap() error { return e.Err }

// Is makes the error match ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
