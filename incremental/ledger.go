package incremental

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"github.com/ckpt-io/ckpt/manifest"
)

// Ledger is the account of one task's uploads: it gives them their names and
// says what each checkpoint names and reserves (rules R6 and R7). It does no
// I/O, has no clock and draws no numbers by chance, so that a simulation runs
// exactly what a task runs. It is not safe for concurrent use.
//
// What makes it right is one invariant. Every object the ledger may still name
// in future and whose id is not above n is named or reserved by the report of
// n; files of a base that are still being uploaded too, from the moment they
// have a name, so that an upload may take longer than any number of reports. So whichever checkpoint the coordinator takes as base, each object a
// report names is one that the base keeps alive or one that was uploaded under
// an id above it; and an object, once left out of a report, never returns. What
// a checkpoint that is still pending may have named and later ones do not need,
// a savepoint that is overtaken above all, is either kept alive by its base or
// has an id above the oldest base of all pending ones, and is reserved too.
type Ledger struct {
	opts     LedgerOptions
	first    uint64      // the last position of the restored state
	position uint64      // the last one given
	names    uint64      // how many were given
	barrier  manifest.ID // the last one seen
	reported manifest.ID // the last one reported
	pending  []cut       // barriers seen and not reported, ascending

	pieces []manifest.Piece // restored; nil once a base of our own is named
	named  bool             // bases[0] was named, nothing older will be
	deltas []delta          // not superseded, ascending by position
	bases  []base           // finished, ascending by position
	run    *run             // the base under way
	past   []object         // superseded, but above the oldest base
	spare  []object         // reserved for the next base alone
	remote []object         // read by the local database, see SetRemote
	held   map[manifest.Digest]object
	packed map[manifest.Digest]packedFile
}

// LedgerOptions say whose ledger it is and what it begins with.
type LedgerOptions struct {
	Operator string
	Subtask  int
	Epoch    manifest.Epoch
	// NextID is the first id a checkpoint of this epoch can have.
	NextID    manifest.ID
	KeyGroups manifest.KeyGroupRange
	// Restored is the state the task was restored from, for KeyGroups (see
	// Rescale); nil if it begins empty. The ledger keeps it and does not
	// change it.
	Restored *manifest.KeyedState
	// Reserved are what the restored checkpoint reserved for the task.
	Reserved []manifest.Object
}

// object is one with the id its name carries; 0 for restored ones, which are
// below every base of this epoch.
type object struct {
	manifest.Object
	id manifest.ID
}

type delta struct {
	manifest.Delta
	id manifest.ID
}

// NewLedger begins the account of one task in one epoch.
func NewLedger(opts LedgerOptions) *Ledger {
	l := &Ledger{
		opts:     opts,
		barrier:  opts.NextID - 1,
		reported: opts.NextID - 1,
	}
	for _, o := range opts.Reserved {
		if !o.Unfinished() { // or nobody would know whether it is there
			l.spare = append(l.spare, object{Object: o})
		}
	}
	if s := opts.Restored; s != nil {
		l.pieces = s.Pieces
		for _, d := range s.Deltas {
			l.deltas = append(l.deltas, delta{Delta: d})
		}
		l.first = lastPosition(s)
		l.position = l.first
	}
	l.index()
	return l
}

// lastPosition is at or past every position in s. Those of pieces that others
// made are counted by others; a gap in our own count does no harm.
func lastPosition(s *manifest.KeyedState) (last uint64) {
	for _, d := range s.Deltas {
		last = max(last, d.Position)
	}
	for _, p := range s.Pieces {
		if p.Base != nil {
			last = max(last, p.Base.Position)
		}
		for _, d := range p.Deltas {
			last = max(last, d.Position)
		}
	}
	return last
}

// Position is the last position given; in the beginning, the last one of the
// restored state.
func (l *Ledger) Position() uint64 { return l.position }

// NextPosition gives the position of the next delta. It is called when a set
// of changes is closed, before the barrier whose checkpoint shall hold them;
// every position given must be added.
func (l *Ledger) NextPosition() uint64 {
	l.position++
	return l.position
}

// DeltaName names the object of the delta at a position, when its upload
// begins: for the first checkpoint that needs it.
func (l *Ledger) DeltaName(position uint64) manifest.DataName {
	for _, c := range l.pending {
		if position <= c.position {
			return l.name(c.ID, manifest.ExtSST)
		}
	}
	return l.name(l.barrier+1, manifest.ExtSST)
}

// BeginFile names an object of the base under way, when its upload begins: for
// the next checkpoint, for those triggered already do not wait for it. From then
// on reports reserve it, until the base is finished or cancelled.
func (l *Ledger) BeginFile(size int64, digest manifest.Digest, ext string) (manifest.Object, error) {
	if l.run == nil {
		return manifest.Object{}, errNoBase
	}
	n := l.name(l.barrier+1, ext)
	o := manifest.Object{Key: n.Key(), Size: size, SHA256: digest}
	l.run.uploads = append(l.run.uploads, object{Object: o, id: n.ID})
	return o, nil
}

func (l *Ledger) name(id manifest.ID, ext string) manifest.DataName {
	l.names++
	return manifest.DataName{
		ID: id, Epoch: l.opts.Epoch, Operator: l.opts.Operator, Subtask: l.opts.Subtask, N: l.names, Ext: ext,
	}
}

// AddDelta enters a delta that is durable in the store, in any order of
// positions.
func (l *Ledger) AddDelta(d manifest.Delta) error {
	o, err := l.own(d.Object)
	if err != nil {
		return fmt.Errorf("add delta %d: %w", d.Position, err)
	}
	if d.Position > l.position {
		return fmt.Errorf("add delta %d: position was never given, the last is %d", d.Position, l.position)
	}
	at, found := slices.BinarySearchFunc(l.deltas, d.Position, func(x delta, p uint64) int {
		return cmp.Compare(x.Position, p)
	})
	if found {
		return fmt.Errorf("add delta %d: already there", d.Position)
	}
	l.deltas = slices.Insert(l.deltas, at, delta{Delta: d, id: o.id})
	l.held[o.SHA256] = o
	return nil
}

// own checks that an object became durable in time to stand in every report
// from its id on.
func (l *Ledger) own(o manifest.Object) (object, error) {
	n, err := manifest.ParseDataKey(o.Key)
	if err != nil {
		return object{}, err
	}
	if n.Epoch != l.opts.Epoch || n.ID <= l.reported {
		return object{}, fmt.Errorf("%w: %s, the last report is %d", ErrOvertaken, o.Key, l.reported)
	}
	return object{Object: o, id: n.ID}, nil
}

// Find gives an object with this content that the next report may name: of
// the restored checkpoint, or uploaded by this task. A file with the same
// content need not be uploaded.
func (l *Ledger) Find(size int64, digest manifest.Digest) (manifest.Object, bool) {
	o, ok := l.held[digest]
	return o.Object, ok && o.Size == size
}

// packedFile says where a file of a base is packed.
type packedFile struct {
	size int64
	pack manifest.Object
	ref  manifest.PackRef
}

// FindPack says where what it takes to check parts of a file of this content is
// packed, by a base that the next report may name. Pack of the result is not
// set.
func (l *Ledger) FindPack(size int64, digest manifest.Digest) (manifest.Object, manifest.PackRef, bool) {
	p, ok := l.packed[digest]
	return p.pack, p.ref, ok && p.size == size
}

// index makes held and packed anew from what is left.
func (l *Ledger) index() {
	l.held = make(map[manifest.Digest]object)
	for o := range l.all() {
		l.held[o.SHA256] = o
	}
	l.packed = make(map[manifest.Digest]packedFile)
	for _, p := range l.pieces {
		l.indexPacks(p.Base)
	}
	for i := range l.bases {
		l.indexPacks(&l.bases[i].Base)
	}
}

func (l *Ledger) indexPacks(b *manifest.Base) {
	if b == nil {
		return
	}
	for _, f := range b.Files {
		if n := f.Pack.Pack; n > 0 {
			ref := f.Pack
			ref.Pack = 0
			l.packed[f.Object.SHA256] = packedFile{size: f.Object.Size, pack: b.Packs[n-1], ref: ref}
		}
	}
}

// all yields every object the ledger may name in future or keeps for a
// pending checkpoint; some more than once.
func (l *Ledger) all() iter.Seq[object] {
	return func(yield func(object) bool) {
		for o := range (&manifest.KeyedState{Pieces: l.pieces}).NeededObjects() {
			if !yield(object{Object: o}) {
				return
			}
		}
		for _, d := range l.deltas {
			if !yield(object{d.Object, d.id}) {
				return
			}
		}
		lists := [][]object{l.past, l.spare, l.remote}
		for _, b := range l.bases {
			lists = append(lists, b.objects)
		}
		if l.run != nil {
			lists = append(lists, l.run.objects)
		}
		for _, list := range lists {
			for _, o := range list {
				if !yield(o) {
					return
				}
			}
		}
	}
}
