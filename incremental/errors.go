package incremental

import "errors"

// A missing or damaged object is a *manifest.CorruptError that names it; a
// base of a newer Pebble a *manifest.NewerFormatError.
var (
	// ErrOvertaken refuses an object after a report that neither named nor
	// reserved it. Retention may take it away at any time; its content is
	// uploaded again under a new name.
	ErrOvertaken = errors.New("object was overtaken by a report")
	// ErrIncomplete is a report asked for before all its deltas are durable.
	ErrIncomplete = errors.New("deltas of the checkpoint are not durable yet")
	// ErrDirNotEmpty refuses to restore over what somebody else left.
	ErrDirNotEmpty = errors.New("directory is not empty")
	// ErrIncompatible is a base that was not made by a database of ours, where
	// only those will do: its keys are ordered in another way, it needs a merge
	// operator, or it is a whole database of somebody else.
	ErrIncompatible = errors.New("base does not fit the options of state databases")
	// ErrForeignObject is an object that has a name of ours and content that
	// is not ours. It is never overwritten.
	ErrForeignObject = errors.New("object exists with other content")
	// ErrRemoteTables is a database that cannot be copied by its files, for
	// Pebble keeps some of them on remote storage of its own.
	ErrRemoteTables = errors.New("database has tables on remote storage")
)
