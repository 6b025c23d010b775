package manifest

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/ckpt-io/ckpt/manifest/internal/pb"
)

// PartsOptions bound the sizes of what EncodeParts writes.
type PartsOptions struct {
	// Inline is how many bytes of tasks, before compression, may stand in the
	// manifest itself though no pack has them; 0 means 256 KiB.
	Inline int
	// Pack is the stored size at which a pack is closed; 0 means 4 MiB.
	Pack int
	// MaxPacks is how many packs a manifest refers to beyond twice as many as
	// its parts fill; 0 means 64.
	MaxPacks int
}

const (
	defaultInline   = 256 << 10
	defaultPack     = 4 << 20
	defaultMaxPacks = 64

	// smallPart is the size of a task in bytes up to which a reference to it
	// would take more room than it does.
	smallPart = 64
)

func (o PartsOptions) withDefaults() PartsOptions {
	return PartsOptions{
		Inline: cmp.Or(o.Inline, defaultInline), Pack: cmp.Or(o.Pack, defaultPack),
		MaxPacks: cmp.Or(o.MaxPacks, defaultMaxPacks),
	}
}

// EncodeParts validates a manifest and returns its stored form, given part by
// part: head is all of it but the tasks, and task returns one of them; it is
// not retained, and may be asked for twice. The outline is the base for the
// next manifest; nil if there are no packs.
//
// A small manifest stands whole in the returned bytes, as Encode has it. Of a
// larger one, the tasks that are as they were in base (nil: there is none)
// refer to the pack that base has them in, and the others stand in new packs,
// which put stores before EncodeParts returns; it does not retain their bytes.
// The caller makes sure that the packs of base are kept alive until
// the new manifest is committed.
//
// What the packs hold beyond the parts that are referred to is bounded: once
// it is more than those parts, a checkpoint that changes tasks moves parts out
// of the packs with the least in them, about as many bytes as it changes. So
// at most as many bytes are moved, over time, as changes have made useless,
// and an unchanged manifest moves none.
//
// Errors: ErrInvalid if the manifest breaks a rule, or those of task and put.
func EncodeParts(head *Manifest, task func(operator, subtask int) (*Task, error), base *Outline, opts PartsOptions, put func(pack []byte) (Object, error)) ([]byte, *Outline, error) {
	e := &partsEncoder{
		head: head.withoutTasks(), source: task, opts: opts.withDefaults(), put: put, check: newChecker(head),
		known: base.known(), places: make([][]encodedPart, len(head.Operators)),
	}
	data, out, err := e.encode(base)
	if err != nil {
		return nil, nil, fmt.Errorf("encode manifest: %w", err)
	}
	return data, out, nil
}

// EncodePacked is EncodeParts for a manifest that is in memory whole.
func EncodePacked(m *Manifest, base *Outline, opts PartsOptions, put func(pack []byte) (Object, error)) ([]byte, *Outline, error) {
	for i := range m.Operators {
		if o := &m.Operators[i]; len(o.Tasks) != o.Parallelism {
			return nil, nil, fmt.Errorf("encode manifest: %w: operator %q: %d tasks for parallelism %d", ErrInvalid, o.UID, len(o.Tasks), o.Parallelism)
		}
	}
	return EncodeParts(m, func(op, i int) (*Task, error) { return &m.Operators[op].Tasks[i], nil }, base, opts, put)
}

// withoutTasks is m with operators that have no tasks.
func (m *Manifest) withoutTasks() *Manifest {
	out := *m
	out.Operators = slices.Clone(m.Operators)
	for i := range out.Operators {
		out.Operators[i].Tasks = nil
	}
	return &out
}

// encodedPart is where the task of one subtask goes: into the manifest if
// inline is set.
type encodedPart struct {
	inline *pb.Task
	packed
	stats *pb.TaskStats
}

// packed is a part in a pack.
type packed struct {
	pack         *usedPack
	offset, size int64
	digest       Digest
}

// usedPack is a pack of the manifest being encoded.
type usedPack struct {
	object Object
	live   int64 // bytes of the parts that are referred to
	fresh  bool  // being written now
}

// dead are the bytes of parts that are not.
func (p *usedPack) dead() int64 {
	if p.fresh {
		return 0
	}
	return p.object.Size - p.live
}

// known are the parts of o by operator and subtask.
func (o *Outline) known() map[string][]packed {
	if o == nil {
		return nil
	}
	packs := make([]*usedPack, len(o.packs))
	for i, p := range o.packs {
		packs[i] = &usedPack{object: p}
	}
	out := make(map[string][]packed, len(o.refs))
	for i, refs := range o.refs {
		if len(refs) == 0 {
			continue
		}
		list := make([]packed, refs[len(refs)-1].index+1)
		for _, r := range refs {
			list[r.index] = packed{packs[r.pack], r.offset, r.size, r.digest}
		}
		out[o.head.Operators[i].UID] = list
	}
	return out
}

// partsEncoder is one run of EncodeParts.
type partsEncoder struct {
	head   *Manifest
	source func(operator, subtask int) (*Task, error)
	opts   PartsOptions
	put    func([]byte) (Object, error)
	check  *checker
	known  map[string][]packed

	places  [][]encodedPart
	packs   []*usedPack
	buf     []byte
	builder packBuilder
	open    *usedPack  // of builder; nil: nothing is in it
	held    []heldPart // may yet stand in the manifest
	holding int        // bytes of held
	packing bool       // no more
	changed int64      // bytes of parts that base does not have
	states  bool       // a task has operator states
}

// heldPart is a part for which it is not known yet where it goes.
type heldPart struct {
	operator, index int
	task            *pb.Task
	body            []byte
	digest          Digest
}

func (e *partsEncoder) encode(base *Outline) ([]byte, *Outline, error) {
	if err := e.head.validateHeader(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for i := range e.head.Operators {
		if err := e.operator(i); err != nil {
			return nil, nil, fmt.Errorf("operator %q: %w", e.head.Operators[i].UID, err)
		}
	}
	if err := e.tidy(base); err != nil {
		return nil, nil, err
	}
	if err := e.closePack(); err != nil {
		return nil, nil, err
	}
	return e.finish()
}

func (e *partsEncoder) operator(i int) error {
	o := &e.head.Operators[i]
	if i > 0 && o.UID <= e.head.Operators[i-1].UID {
		return fmt.Errorf("%w: uid is repeated or out of order", ErrInvalid)
	}
	if err := e.check.operator(i, o); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	known := e.known[o.UID]
	e.places[i] = make([]encodedPart, o.Parallelism)
	for j := range o.Parallelism {
		t, err := e.source(i, j)
		if err != nil {
			return err
		}
		if t.Index != j {
			return fmt.Errorf("%w: subtask %d stands at place %d", ErrInvalid, t.Index, j)
		}
		if err := e.check.task(i, o, t); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		e.states = e.states || len(t.OperatorStates) > 0
		var before packed
		if j < len(known) {
			before = known[j]
		}
		if err := e.task(i, t, before); err != nil {
			return err
		}
	}
	if err := e.check.complete(i, o); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// task finds the place of one task: where it was, if it is what it was.
func (e *partsEncoder) task(i int, t *Task, before packed) error {
	place := &e.places[i][t.Index]
	place.stats = taskStatsToProto(&t.Stats)
	p, body, err := e.marshal(t)
	if err != nil {
		return err
	}
	if len(body) <= smallPart {
		place.inline = p
		return nil
	}
	digest := Digest(sha256.Sum256(body))
	if before.pack != nil && before.digest == digest {
		place.packed = before
		e.use(before)
		return nil
	}
	return e.store(heldPart{i, t.Index, p, body, digest})
}

// marshal encodes a task without its figures, and with its reserved objects in
// one order, so that what did not change gives the same bytes. They are valid
// until the next call.
func (e *partsEncoder) marshal(t *Task) (*pb.Task, []byte, error) {
	byKey := func(a, b Object) int { return strings.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(t.Reserved, byKey) {
		sorted := *t
		sorted.Reserved = slices.SortedFunc(slices.Values(t.Reserved), byKey)
		t = &sorted
	}
	p := taskToProto(t)
	p.Stats = nil
	body, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(e.buf[:0], p)
	e.buf = body
	return p, body, err
}

func (e *partsEncoder) use(p packed) {
	if p.pack.live == 0 {
		e.packs = append(e.packs, p.pack)
	}
	p.pack.live += p.size
}

// store holds a part back as long as all such parts may stand in the manifest,
// and begins to pack them once there are too many.
func (e *partsEncoder) store(h heldPart) error {
	if e.packing {
		return e.pack(h)
	}
	if e.holding+len(h.body) <= e.opts.Inline {
		h.body = slices.Clone(h.body)
		e.held = append(e.held, h)
		e.holding += len(h.body)
		return nil
	}
	e.packing = true
	for _, held := range e.held {
		if err := e.pack(held); err != nil {
			return err
		}
	}
	e.held, e.holding = nil, 0
	return e.pack(h)
}

// pack puts a part into the pack that is being built.
func (e *partsEncoder) pack(h heldPart) error {
	if e.open == nil {
		e.open = &usedPack{fresh: true}
	}
	if len(h.body) > maxPack/2 {
		return fmt.Errorf("%w: subtask %d takes %d bytes", ErrInvalid, h.index, len(h.body))
	}
	offset, size, err := e.builder.add(h.body)
	if err != nil {
		return err
	}
	place := &e.places[h.operator][h.index]
	place.packed = packed{e.open, offset, size, h.digest}
	e.use(place.packed)
	e.changed += size
	if len(e.builder.data) >= e.opts.Pack {
		return e.closePack()
	}
	return nil
}

// closePack stores the pack that is being built.
func (e *partsEncoder) closePack() error {
	if e.open == nil {
		return nil
	}
	o, err := e.put(e.builder.take())
	if err != nil {
		return err
	}
	e.open.object, e.open = o, nil
	return nil
}
