// Package manifest says what a checkpoint is: the data that names every object
// of it, its stored form, and the names of everything a job stores. It does no
// I/O; which manifests count is decided by manifest/catalog.
package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"time"
)

// Kind says why a checkpoint was taken.
type Kind string

// The kinds. Final is the checkpoint at the end of a finite input: nothing is
// left to read. Stop is the last one of a job that was asked to stop and can
// go on from it.
const (
	Periodic  Kind = "checkpoint"
	Final     Kind = "final"
	Stop      Kind = "stop"
	Savepoint Kind = "savepoint"
)

// Manifest is one checkpoint of a job.
type Manifest struct {
	Job     string // the job's name
	JobUUID string // made once, when the job's first HEAD is written
	ID      ID
	Epoch   Epoch
	Kind    Kind
	// Base is the checkpoint whose objects this one may name besides those
	// uploaded after it; 0 if it builds on none.
	Base ID
	// Time is when the coordinator triggered the checkpoint, in its clock.
	Time      time.Time
	Operators []Operator // ordered by UID
	Stats     Stats
	// Packs are the objects in which the stored form keeps parts of tasks,
	// ordered by key; nil if it is whole in itself. They are filled in by
	// whoever writes or reads that form, and kept alive with the rest.
	Packs []Object `json:",omitempty"`
	// KeyIDs are the ids of the keys under which the manifest and its objects
	// are encrypted, ascending; none if they are not.
	KeyIDs []string `json:",omitempty"`
}

// Operator is the state of all subtasks of one operator.
type Operator struct {
	UID            string // [0-9A-Za-z._], at most 100 characters
	Parallelism    int
	MaxParallelism int
	// Hasher names the function from encoded key to hash; empty for an
	// operator without keyed state.
	Hasher string
	Tasks  []Task // one each subtask, ordered by Index
}

// Task is what one subtask reported.
type Task struct {
	Index int
	// Keyed is the subtask's keyed state; nil if the operator has none.
	Keyed *KeyedState
	// Reserved are objects the checkpoint keeps alive without needing them
	// for its restore (uploads under way, or that a later checkpoint of the
	// same task may name).
	Reserved []Object
	// Splits are the positions of a source's splits, each exactly once over
	// all subtasks of the operator.
	Splits []Split
	// Handles are the prepared transactions of a sink: what Commit needs to
	// make the output of this checkpoint visible.
	Handles [][]byte
	// OperatorStates is what a subtask keeps besides, ordered by Name.
	OperatorStates []OperatorState `json:",omitzero"`
	Stats          TaskStats
}

// Split is one part of a source's input and how far it was read. Both are
// the source's own business, opaque to everybody else.
type Split struct {
	ID       string
	Position []byte
}

// KeyedState names what a subtask's keyed state is made of: Pieces, over
// which Deltas are laid in order. No Pieces and no Deltas is the empty state.
type KeyedState struct {
	KeyGroups KeyGroupRange
	// Pieces are disjoint in their key groups. A state that was never
	// rescaled has at most one.
	Pieces []Piece
	// Deltas are the subtask's own, in order of Position, which is above every
	// one in Pieces, and may hold keys of all of KeyGroups.
	Deltas []Delta
}

// Piece is state taken over from a base, of which only the keys in KeyGroups
// count: Base, over which Deltas are laid in order.
type Piece struct {
	KeyGroups KeyGroupRange
	Base      *Base // nil: empty
	Deltas    []Delta
}

// Base is a whole Pebble database at one moment.
type Base struct {
	// Position is that of the last delta which had been ingested in it, by
	// the count of the subtask that made it.
	Position uint64
	// FormatMajorVersion is that of the Pebble database.
	FormatMajorVersion uint64
	Files              []File // ordered by Name
	// Packs are the objects that Files refer to by PackRef.
	Packs []Object `json:",omitzero"`
	// Whole marks a database that somebody else made, whose keys have no key
	// groups, and its own comparer and merger perhaps: it is restored as it is
	// or not at all. A state that has such a base is that one piece and has no
	// deltas.
	Whole bool
}

// File is one file of a Pebble database: an object, or its content itself.
type File struct {
	Name   string // base name in the database's directory
	Object Object // zero if Inline holds the content
	Inline []byte
	// Pack says where the digests of the object's segments are.
	Pack PackRef `json:",omitzero"`
}

// SegmentSize is the number of bytes of an object that are checked together
// when only a part of it is read. The last segment may be shorter.
const SegmentSize = 128 << 10

// Segments is the number of segments of an object.
func (o Object) Segments() int { return int((o.Size + SegmentSize - 1) / SegmentSize) }

// SegmentDigest is the first half of the SHA-256 digest of a segment.
type SegmentDigest [sha256.Size / 2]byte

// SegmentDigestOf digests a segment.
func SegmentDigestOf(p []byte) SegmentDigest {
	sum := sha256.Sum256(p)
	return SegmentDigest(sum[:])
}

// SegmentDigests are those of all segments of an object in order, one after the
// other.
type SegmentDigests string

// Len is the number of digests.
func (s SegmentDigests) Len() int { return len(s) / len(SegmentDigest{}) }

// At is the digest of segment i.
func (s SegmentDigests) At(i int) SegmentDigest {
	return SegmentDigest([]byte(s[i*len(SegmentDigest{}):][:len(SegmentDigest{})]))
}

// MarshalText writes the digests as lower-case hexadecimal.
func (s SegmentDigests) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, []byte(s)), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *SegmentDigests) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw)%len(SegmentDigest{}) != 0 {
		return fmt.Errorf("parse segment digests %q: not hexadecimal digits of whole ones", text)
	}
	*s = SegmentDigests(raw)
	return nil
}

// PackRef is a part of an object in which, for several files, that is collected
// which a reader needs to check segments of them: the digest of each segment,
// then the end of the file, as much as Length has room for. The zero PackRef is
// none.
type PackRef struct {
	Pack   int // in Base.Packs, from 1
	Offset int64
	Length int64
	Digest SegmentDigest // of this part of the pack
}

// Delta is one sorted table of changed keys and tombstones, with sequence
// number 0, to be ingested into a Pebble database.
type Delta struct {
	// Position counts the deltas of a subtask, spills included, from 1 and
	// without end over its restarts.
	Position uint64
	Object   Object
	Entries  int64 // keys in it, tombstones included
	Bytes    int64 // of its keys and values before compression
	// Segments are the digests of the object's segments; empty if they are not
	// known, as in manifests that were written before there were any.
	Segments SegmentDigests `json:",omitzero"`
	// Data is the length of the data blocks, which the table begins with; what
	// follows is needed to read any of them. 0 means not known.
	Data int64 `json:",omitzero"`
}

// Object is an immutable stored object. The zero Object is none.
type Object struct {
	Key    string // relative to the job's prefix
	Size   int64  // of the stored bytes
	SHA256 Digest // of the stored bytes
}

// Unfinished reports whether the object was still being uploaded when it was
// reserved: its digest is zero. It is kept alive like others if it is there,
// may never come to be, and is never found by its content nor read.
func (o Object) Unfinished() bool { return o.SHA256 == Digest{} }

// Digest is a SHA-256 digest. Its String is lower-case hexadecimal.
type Digest [sha256.Size]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes the digest as String does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote: 64 lower-case hexadecimal digits.
func (d *Digest) UnmarshalText(text []byte) error {
	var out Digest
	if len(text) != hex.EncodedLen(len(out)) {
		return fmt.Errorf("parse digest %q: want %d hexadecimal digits", text, hex.EncodedLen(len(out)))
	}
	if _, err := hex.Decode(out[:], text); err != nil {
		return fmt.Errorf("parse digest %q: %w", text, err)
	}
	if out.String() != string(text) {
		return fmt.Errorf("parse digest %q: not in lower case", text)
	}
	*d = out
	return nil
}

// TaskStats are the figures of one subtask (bytes, or durations by its
// monotonic clock). See ARCHITECTURE.md, "Figures".
type TaskStats struct {
	StartDelay time.Duration // trigger → first barrier seen here, by wall clocks
	Alignment  time.Duration // first → last barrier
	Capture    time.Duration // the pause: processing held
	Queue      time.Duration // captured → background work began
	Encode     time.Duration // sort and write the delta table
	Upload     time.Duration // until durable
	// Total is T_i: first barrier (a source: trigger received) → report sent.
	Total time.Duration

	ChangedBytes  int64 // keys and values changed since the last capture, uncompressed
	NewBytes      int64 // uploaded for this checkpoint, spills included, materialization not
	BaseBytes     int64 // uploaded by materialization since the last report
	FullBytes     int64 // of all objects the state needs
	NewObjects    int64
	InFlightBytes int64 // processed while aligning
}

// Stats are the figures of the whole checkpoint.
type Stats struct {
	TMax     time.Duration // the longest Total of a subtask
	Duration time.Duration // trigger → all reports in
	NewBytes int64
	// FullBytes and Objects count each object that the state needs once.
	FullBytes int64
	Objects   int64
}

// NeededObjects yields the objects a restore of k may read. One that several
// pieces share is yielded for each.
func (k *KeyedState) NeededObjects() iter.Seq[Object] { return k.objects(true) }

// ContentObjects yields those of NeededObjects that k consists of: what is left
// out only serves to check parts of others.
func (k *KeyedState) ContentObjects() iter.Seq[Object] { return k.objects(false) }

func (k *KeyedState) objects(packs bool) iter.Seq[Object] {
	return func(yield func(Object) bool) {
		if k == nil {
			return
		}
		deltas := func(ds []Delta) bool {
			for _, d := range ds {
				if !yield(d.Object) {
					return false
				}
			}
			return true
		}
		for _, p := range k.Pieces {
			if p.Base != nil {
				for _, f := range p.Base.Files {
					if f.Object.Key != "" && !yield(f.Object) {
						return
					}
				}
				for _, o := range p.Base.Packs {
					if packs && !yield(o) {
						return
					}
				}
			}
			if !deltas(p.Deltas) {
				return
			}
		}
		deltas(k.Deltas)
	}
}

// Whole reports whether k is one whole database and nothing else, as it must
// be if any of its bases is marked so.
func (k *KeyedState) Whole() bool {
	if len(k.Pieces) != 1 || len(k.Deltas) > 0 {
		return false
	}
	p := &k.Pieces[0]
	return p.Base != nil && p.Base.Whole && len(p.Deltas) == 0 && p.KeyGroups == k.KeyGroups
}

// Objects yields every object the checkpoint keeps alive, reserved ones and
// packs too, each once, in no particular order. Those that are Unfinished need
// not exist.
func (m *Manifest) Objects() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		seen := make(map[string]struct{})
		once := func(o Object) bool {
			if _, ok := seen[o.Key]; ok {
				return true
			}
			seen[o.Key] = struct{}{}
			return yield(o)
		}
		for _, o := range m.Packs {
			if !once(o) {
				return
			}
		}
		for i := range m.Operators {
			for j := range m.Operators[i].Tasks {
				for o := range m.Operators[i].Tasks[j].Objects() {
					if !once(o) {
						return
					}
				}
			}
		}
	}
}

// Objects yields the objects that the task keeps alive, reserved ones too. One
// that several pieces share is yielded for each.
func (t *Task) Objects() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for o := range t.Keyed.NeededObjects() {
			if !yield(o) {
				return
			}
		}
		for _, o := range t.Reserved {
			if !yield(o) {
				return
			}
		}
	}
}

// Operator returns the operator with the given uid, or nil.
func (m *Manifest) Operator(uid string) *Operator {
	for i := range m.Operators {
		if m.Operators[i].UID == uid {
			return &m.Operators[i]
		}
	}
	return nil
}
