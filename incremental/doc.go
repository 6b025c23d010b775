// Package incremental turns one Pebble database, the keyed state of one
// subtask, into immutable objects of an object store and back. When a
// checkpoint is due and which of them count is left to coordinator and
// manifest/catalog; how records reach the database, to engine/state.
//
// A state is a base, the files of a whole database at one moment, and the
// deltas laid over it in order. A delta is one sorted table of the keys that
// changed: [WriteDelta] writes it, the same file is uploaded ([Uploader]) and
// ingested in the local database, and nothing else is sent for a checkpoint.
// Now and then, off the path of the checkpoints, [CaptureBase] and [UploadBase]
// make a new base of what the local database holds, and the deltas up to it
// are needed no more. [Ledger] keeps account of all that for one task: what an
// upload is called, what a checkpoint names, what it reserves. [Restore] makes
// a database of such a state again; over a [RemoteFS] at once, leaving the
// tables of its base in the store until they are read or hydrated. [Rescale]
// composes the state of a new range of key groups from the states of others.
//
// A [Snapshotter] does it for a database of somebody else's, that is written to
// in its own way: each snapshot is a base of its own, without deltas, and is
// restored as it was.
//
// In the databases of our own keys begin with their key group in two bytes,
// big-endian. They are all made with [PebbleOptions] and open with plain Pebble
// too.
package incremental
