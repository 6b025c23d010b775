package objectstore

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of a store that encrypts what it stores, matched through errors.Is.
var (
	// ErrKey is content that the keys at hand do not open. It is a [*KeyError]
	// where it is known which would.
	ErrKey = errors.New("encryption keys do not fit")
	// ErrNotEncrypted is a plain object where an encrypted one has to be.
	ErrNotEncrypted = errors.New("not encrypted")
	// ErrDamaged is an object that is not what was stored under its key: it
	// was damaged, cut, replaced, or moved there.
	ErrDamaged = errors.New("stored object is damaged or was replaced")
)

// KeyError says which keys content needs and which there are, by their ids.
// It matches ErrKey.
type KeyError struct {
	Want []string
	Have []string // empty: no keys were given
}

func (e *KeyError) Error() string {
	have := "none is at hand"
	if len(e.Have) > 0 {
		have = "at hand: " + strings.Join(e.Have, ", ")
	}
	return fmt.Sprintf("encrypted under key %s; %s", strings.Join(e.Want, ", "), have)
}

// Is makes the error match ErrKey.
func (e *KeyError) Is(target error) bool { return target == ErrKey }

// KeyHolder is a Store that encrypts what it stores.
type KeyHolder interface {
	Store
	// KeyIDs are the ids of the keys that it can read; new objects are
	// encrypted under the first.
	KeyIDs() []string
}

// KeyIDs are the ids of the keys that s can read, the one for new objects
// first; nil if s does not encrypt.
func KeyIDs(s Store) []string {
	if h, ok := s.(KeyHolder); ok {
		return h.KeyIDs()
	}
	return nil
}
