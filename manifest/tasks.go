package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// At is a task and where it stands.
type At struct {
	Operator int   // index in Outline.Head().Operators
	Task     *Task // nil if it is in a part that the caller knows
	// Part is the digest of the part that the task stands in, by which it can
	// be told to be the same in another manifest; zero if it stands in the
	// manifest itself.
	Part Digest
}

// Tasks yields every task once, in the order in which they are stored, and
// checks all the rules that Validate does: those about several tasks with the
// last one, so that nothing counts before the end. Each task is the caller's.
//
// fetch reads a pack, whose size and digest are checked here; the bytes are not
// used after it is called again. It is called once a pack, and one pack and one
// task are in memory at a time. The first error ends the sequence: fetch's own,
// or one that matches ErrCorrupt or ErrNewerFormat, in a pack a *CorruptError.
func (o *Outline) Tasks(fetch func(Object) ([]byte, error)) iter.Seq2[At, error] {
	return o.TasksBut(nil, fetch)
}

// TasksBut is Tasks for somebody who has read other manifests of the job: of a
// task in a part that known, if not nil, knows by its digest, only the place is
// yielded, right after known was asked, and a pack of such parts alone is not
// fetched. What the rules say
// about several tasks together is then left unchecked.
func (o *Outline) TasksBut(known func(part Digest) bool, fetch func(Object) ([]byte, error)) iter.Seq2[At, error] {
	return func(yield func(At, error) bool) {
		w := walk{o: o, known: known, fetch: fetch, yield: yield, check: newChecker(&o.head)}
		if err := w.run(); err != nil && !errors.Is(err, errEnough) {
			yield(At{}, err)
		}
	}
}

// errEnough says that the consumer of a walk wants no more.
var errEnough = errors.New("no more tasks wanted")

// walk is one run of Tasks.
type walk struct {
	o     *Outline
	known func(Digest) bool
	some  bool // known knew some
	fetch func(Object) ([]byte, error)
	yield func(At, error) bool
	check *checker
	parts partDecoder
}

func (w *walk) run() error {
	ops := w.o.head.Operators
	for i := range ops {
		err := w.check.operator(i, &ops[i])
		for j := range ops[i].Tasks {
			if err == nil {
				t := ops[i].Tasks[j]
				err = w.task(i, &t, Digest{})
			}
		}
		if err != nil {
			return corrupt(&ops[i], err)
		}
	}
	refs := w.o.byPack()
	for i, pack := range w.o.packs {
		if err := w.pack(pack, refs[i]); err != nil {
			return err
		}
	}
	if w.some {
		return nil
	}
	for i := range ops {
		if err := w.check.complete(i, &ops[i]); err != nil {
			return corrupt(&ops[i], err)
		}
	}
	return nil
}

func corrupt(o *Operator, err error) error {
	if errors.Is(err, errEnough) {
		return err
	}
	return fmt.Errorf("decode manifest: %w: operator %q: %w", ErrCorrupt, o.UID, err)
}

// pack yields the tasks whose parts are in one pack.
func (w *walk) pack(pack Object, refs []place) error {
	refs, err := w.unknown(refs)
	if err != nil || len(refs) == 0 {
		return err
	}
	data, err := w.fetch(pack)
	if err != nil {
		return err
	}
	if err := checkPack(data, pack); err != nil {
		return packError(pack, err)
	}
	for _, p := range refs {
		t, err := w.parts.decode(data[p.offset:p.offset+p.size], p.ref)
		if err == nil {
			t.Stats = w.o.stats[p.operator][p.index]
			err = w.task(p.operator, t, p.digest)
		}
		if err != nil {
			return packError(pack, err)
		}
	}
	return nil
}

func packError(pack Object, err error) error {
	if errors.Is(err, errEnough) || errors.Is(err, ErrNewerFormat) {
		return err
	}
	return &CorruptError{Key: pack.Key, Err: err}
}

// unknown yields the places of the tasks that are known, and returns the others.
func (w *walk) unknown(refs []place) ([]place, error) {
	if w.known == nil {
		return refs, nil
	}
	var out []place
	for _, p := range refs {
		if !w.known(p.digest) {
			out = append(out, p)
			continue
		}
		w.some = true
		if !w.yield(At{Operator: p.operator, Part: p.digest}, nil) {
			return nil, errEnough
		}
	}
	return out, nil
}

func (w *walk) task(i int, t *Task, part Digest) error {
	if err := w.check.task(i, &w.o.head.Operators[i], t); err != nil {
		return err
	}
	if !w.yield(At{Operator: i, Task: t, Part: part}, nil) {
		return errEnough
	}
	return nil
}

// place is a reference and the index of its operator.
type place struct {
	operator int
	ref
}

// byPack lists the references to each pack, by operator and subtask.
func (o *Outline) byPack() [][]place {
	out := make([][]place, len(o.packs))
	for i, refs := range o.refs {
		for _, r := range refs {
			out[r.pack] = append(out[r.pack], place{i, r})
		}
	}
	return out
}

// Task reads one task, checked against the rules but for those about several.
// Of its pack, read gives size bytes from offset on, whose digest is checked
// here. It is nil if the manifest has no such operator or subtask. Errors are
// those of Tasks.
func (o *Outline) Task(operator string, subtask int, read func(pack Object, offset, size int64) ([]byte, error)) (*Task, error) {
	i := slices.IndexFunc(o.head.Operators, func(op Operator) bool { return op.UID == operator })
	if i < 0 || subtask < 0 || subtask >= o.head.Operators[i].Parallelism {
		return nil, nil
	}
	op := &o.head.Operators[i]
	c := newChecker(&o.head)
	if err := c.operator(i, op); err != nil {
		return nil, corrupt(op, err)
	}
	j, ok := slices.BinarySearchFunc(o.refs[i], subtask, func(r ref, index int) int { return cmp.Compare(r.index, index) })
	if !ok {
		j, _ = slices.BinarySearchFunc(op.Tasks, subtask, func(t Task, index int) int { return cmp.Compare(t.Index, index) })
		t := op.Tasks[j]
		if err := c.task(i, op, &t); err != nil {
			return nil, corrupt(op, err)
		}
		return &t, nil
	}
	r := o.refs[i][j]
	pack := o.packs[r.pack]
	data, err := read(pack, r.offset, r.size)
	if err != nil {
		return nil, err
	}
	var d partDecoder
	t, err := d.decode(data, r)
	if err == nil {
		t.Stats = o.stats[i][subtask]
		err = c.task(i, op, t)
	}
	if err != nil {
		return nil, packError(pack, err)
	}
	return t, nil
}

// Part is the digest of the part that a subtask stands in, and whether it does:
// zero and false if it stands in the manifest itself.
func (o *Outline) Part(operator, subtask int) (Digest, bool) {
	refs := o.refs[operator]
	i, ok := slices.BinarySearchFunc(refs, subtask, func(r ref, index int) int { return cmp.Compare(r.index, index) })
	if !ok {
		return Digest{}, false
	}
	return refs[i].digest, true
}

// Whole reads the manifest with all its tasks: Tasks for those who have the
// memory for them.
func (o *Outline) Whole(fetch func(Object) ([]byte, error)) (*Manifest, error) {
	if len(o.packs) == 0 {
		m := o.head
		return &m, nil
	}
	m := o.Head()
	for i := range m.Operators {
		m.Operators[i].Tasks = make([]Task, m.Operators[i].Parallelism)
	}
	for at, err := range o.Tasks(fetch) {
		if err != nil {
			return nil, err
		}
		m.Operators[at.Operator].Tasks[at.Task.Index] = *at.Task
	}
	return m, nil
}
