// Package state is the keyed state of one subtask: typed handles over a store
// that can be captured for a checkpoint without holding processing. What is
// uploaded and under which name is package incremental's business; which
// checkpoints there are, the coordinator's.
//
// A [Store] is an overlay over a Pebble database. Writes go to the overlay, a
// hash table in memory. Reads look there, then in overlays that are frozen,
// newest first, then in those that Pebble took over last, as far as memory
// allows, then in Pebble, which changes only by ingesting whole tables.
//
// A capture freezes the overlay: one pointer is swapped, so that the pause is
// microseconds and the cut is exact whatever the background does. A worker then
// sorts the frozen overlay and writes it as one delta table. The same file is
// uploaded and ingested, and the overlay can be forgotten: nothing is written
// twice, and a checkpoint uploads the keys that changed and nothing else. An
// overlay that has had its memory is frozen early; the checkpoint then names
// several deltas. When the background falls behind, the writer is held back,
// and memory stays within its bound.
//
// Now and then the files of the Pebble database become the new base of the
// state, beside the checkpoints (see [MaterializePolicy]), so that the number of
// deltas stays bounded.
//
// Restored state need not be local to be used (see [RestoreMode]).
//
// The local directory is disposable: nothing in it is synced, and it is gone
// after Close. What may outlive it are copies of stored objects
// ([incremental.LocalObjects]), which make the next restore on the machine faster.
//
// # Stored keys
//
// A key in the database, and so in every delta and base, is
//
//	key group      2 bytes, big-endian
//	name length    1 byte
//	name           of the state
//	rest           of the state's own making
//
// For a [Value], the rest is the encoded key. A name is never empty: keys with
// a name length of 0 hold, for each state that was written in the key group,
// its description. There the rest is the name, and the value is a text such as
// "value int64/1 by string/1": kind of state, codec, and codec of the keys.
package state
