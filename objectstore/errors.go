package objectstore

import (
	"errors"
	"fmt"
	"io/fs"
)

// Errors a caller acts on, matched through errors.Is. Stores wrap them with
// what was being done to which key.
var (
	// ErrNotExist is a missing object. It is fs.ErrNotExist.
	ErrNotExist = fs.ErrNotExist
	// ErrPermission is a refusal for lack of rights. It is fs.ErrPermission.
	ErrPermission = fs.ErrPermission
	// ErrPrecondition says that the condition of a Put did not hold when the
	// store looked: the write was certainly not done.
	ErrPrecondition = errors.New("precondition failed")
	// ErrUnknownOutcome says that a write may have happened, or may yet.
	ErrUnknownOutcome = errors.New("outcome of the write is unknown")
	// ErrNoBucket is a bucket, or the directory of a file store, that does
	// not exist. It is not retried.
	ErrNoBucket = errors.New("no such bucket")
	// ErrUnavailable is a store that could not be reached or did not answer
	// properly within the retries.
	ErrUnavailable = errors.New("object store is unavailable")
	// ErrRefused is a store that does not take the request as it is, for a
	// reason that another attempt does not change: a wrong region or clock, an
	// untrusted certificate, an archived object.
	ErrRefused = errors.New("object store refused the request")
	// ErrNoSpace is a disk or quota that is full.
	ErrNoSpace = errors.New("no space left in the object store")
	// ErrConditionsIgnored is Probe's refusal of a store that does not keep
	// to the conditions of a Put, on which every commit relies.
	ErrConditionsIgnored = errors.New("object store ignores conditional writes")
	// ErrBadKey is a key that no store takes.
	ErrBadKey = errors.New("invalid object key")
)

// DeleteError names the objects that a Delete could not remove.
type DeleteError struct {
	// Failed maps each key to why it is still there.
	Failed map[string]error
}

func (e *DeleteError) Error() string {
	for k, err := range e.Failed {
		return fmt.Sprintf("delete %d objects, %q among them: %v", len(e.Failed), k, err)
	}
	return "delete: no object failed"
}

// Unwrap gives the reasons.
func (e *DeleteError) Unwrap() []error {
	out := make([]error, 0, len(e.Failed))
	for _, err := range e.Failed {
		out = append(out, err)
	}
	return out
}
