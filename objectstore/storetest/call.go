package storetest

import (
	"fmt"
	"strings"

	"github.com/ckpt-io/ckpt/objectstore"
)

// Op names an operation of a Store.
type Op string

// The operations. The zero Op matches any of them in a Rule.
const (
	Put    Op = "put"
	Get    Op = "get"
	Stat   Op = "stat"
	List   Op = "list"
	Delete Op = "delete"
)

// Phase is a moment in an operation.
type Phase string

// The moments of an operation.
//
// Middle of a Put is when half of its body has been read by the store (which
// may be to checksum it); of a Get, when half of the range has been read by the
// caller; of a List, after its first object; of a Delete, after the first half
// of its keys is gone and the others are not. A Put of an empty body and a List
// without objects have no middle.
const (
	Before Phase = "before"
	Middle Phase = "middle"
	After  Phase = "after"
)

// Call is one operation on the store, as hooks and records show it.
type Call struct {
	// Seq numbers the calls in the order they began, from 1.
	Seq   int
	Op    Op
	Phase Phase
	// Key is the object's key, the prefix of a List, or the first key of a
	// Delete.
	Key string
	// Keys are all keys of a Delete.
	Keys []string
	// Options are the conditions of a Put.
	Options objectstore.PutOptions
	// Body is the body of a Put while the call runs, nil in a record.
	Body objectstore.Body
	// Offset and Length are the range of a Get.
	Offset, Length int64
	// ListAfter is where a List starts.
	ListAfter string
	// Err is the outcome the caller will see, in phase After. A Get and a
	// List have it before their data is read.
	Err error
}

// String is the call in one line that tests can compare, for example
//
//	put HEAD if-match
//	put manifests/000000000001-0000000001.manifest if-absent
//	delete data/1f/a data/2e/b
//
// ETags and sizes are left out; an error shows as its kind.
func (c Call) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s ", c.Op)
	if c.Op == Delete {
		b.WriteString(strings.Join(c.Keys, " "))
	} else {
		b.WriteString(c.Key)
	}
	switch {
	case c.Options.IfAbsent:
		b.WriteString(" if-absent")
	case c.Options.IfMatch != "":
		b.WriteString(" if-match")
	}
	if c.Err != nil {
		fmt.Fprintf(&b, ": %s", kind(c.Err))
	}
	return b.String()
}
