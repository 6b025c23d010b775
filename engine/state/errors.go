package state

import (
	"errors"
	"fmt"
)

// Limits of one entry. A key counts its key group and the state's name too.
const (
	MaxKeyBytes   = 128 << 10
	MaxValueBytes = 64 << 20
)

var (
	// ErrClosed is a call of a store that was closed.
	ErrClosed = errors.New("state store is closed")
	// ErrAborted is the outcome of a capture whose checkpoint was aborted.
	ErrAborted = errors.New("checkpoint was aborted")
	// ErrNoKey is the use of a state handle before SetKey.
	ErrNoKey = errors.New("no current key")
	// ErrKeyGroup is a key outside the store's key groups.
	ErrKeyGroup = errors.New("key group is not of this task")
)

// TooLargeError is an entry past a limit. It was not written.
type TooLargeError struct {
	What        string // "key" or "value"
	Size, Limit int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("state %s of %d bytes is larger than the limit of %d", e.What, e.Size, e.Limit)
}
