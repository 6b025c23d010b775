package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"unicode/utf8"
)

// checker holds what the rules say about all tasks of a manifest together, so
// that tasks can be checked one at a time and in any order. It takes some tens
// of bytes an object.
type checker struct {
	id        ID
	epoch     Epoch
	operators []operatorCheck
	seeds     [2]maphash.Seed
	objects   map[objectHash]uint64
}

// objectHash stands for an object's name. Two names share one by chance, in a
// manifest of a million objects, once in 10^26.
type objectHash [2]uint64

// operatorCheck is what is known of the tasks of one operator.
type operatorCheck struct {
	seen   []bool
	ranges []KeyGroupRange // by subtask
	splits map[string]struct{}
	modes  map[string]Redistribution // of operator states, by name
}

func newChecker(m *Manifest) *checker {
	return &checker{
		id: m.ID, epoch: m.Epoch, operators: make([]operatorCheck, len(m.Operators)),
		seeds:   [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		objects: make(map[objectHash]uint64),
	}
}

// whole checks an operator that has all its tasks with it.
func (c *checker) whole(i int, o *Operator) error {
	if err := c.operator(i, o); err != nil {
		return err
	}
	if len(o.Tasks) != o.Parallelism {
		return fmt.Errorf("%d tasks for parallelism %d", len(o.Tasks), o.Parallelism)
	}
	for j := range o.Tasks {
		t := &o.Tasks[j]
		if t.Index != j {
			return fmt.Errorf("subtask %d stands at place %d", t.Index, j)
		}
		if err := c.task(i, o, t); err != nil {
			return err
		}
	}
	return c.complete(i, o)
}

// operator checks all of an operator but its tasks.
func (c *checker) operator(i int, o *Operator) error {
	switch {
	case !ValidUID(o.UID):
		return errors.New("invalid uid")
	case o.MaxParallelism < 1 || o.MaxParallelism > MaxMaxParallelism:
		return fmt.Errorf("max parallelism %d is not in 1..%d", o.MaxParallelism, MaxMaxParallelism)
	case o.Parallelism < 1 || o.Parallelism > o.MaxParallelism:
		return fmt.Errorf("parallelism %d is not in 1..%d", o.Parallelism, o.MaxParallelism)
	case o.Hasher != "" && !validName(o.Hasher, maxHasher, "._/-"):
		return fmt.Errorf("invalid hasher name %q", o.Hasher)
	}
	c.operators[i] = operatorCheck{
		seen: make([]bool, o.Parallelism), ranges: make([]KeyGroupRange, o.Parallelism),
		splits: make(map[string]struct{}), modes: make(map[string]Redistribution),
	}
	return nil
}

// task checks one task of an operator that was checked before.
func (c *checker) task(i int, o *Operator, t *Task) error {
	known := &c.operators[i]
	if t.Index < 0 || t.Index >= len(known.seen) || known.seen[t.Index] {
		return fmt.Errorf("subtask %d is repeated or out of range", t.Index)
	}
	known.seen[t.Index] = true
	if err := c.content(o, t, known); err != nil {
		return fmt.Errorf("subtask %d: %w", t.Index, err)
	}
	return nil
}

func (c *checker) content(o *Operator, t *Task, known *operatorCheck) error {
	if (t.Keyed != nil) != (o.Hasher != "") {
		return errors.New("keyed state and a hasher go together")
	}
	if t.Keyed != nil {
		known.ranges[t.Index] = t.Keyed.KeyGroups
		if err := c.keyed(t.Keyed); err != nil {
			return err
		}
	}
	for i := range t.Reserved {
		if err := c.object(&t.Reserved[i]); err != nil {
			return fmt.Errorf("reserved: %w", err)
		}
	}
	for i := range t.Splits {
		id := t.Splits[i].ID
		if _, dup := known.splits[id]; dup || id == "" || !utf8.ValidString(id) {
			return fmt.Errorf("split %q is repeated or has no valid name", id)
		}
		known.splits[id] = struct{}{}
	}
	return c.states(t.OperatorStates, known)
}

// states checks the operator states of one task, and that their modes are those
// of the other tasks.
func (c *checker) states(states []OperatorState, known *operatorCheck) error {
	if err := ValidateOperatorStates(states); err != nil {
		return err
	}
	for i := range states {
		s := &states[i]
		if mode, ok := known.modes[s.Name]; ok && mode != s.Mode {
			return fmt.Errorf("operator state %q is %q here and %q elsewhere", s.Name, s.Mode, mode)
		}
		known.modes[s.Name] = s.Mode
	}
	return nil
}

// complete checks an operator after its last task.
func (c *checker) complete(i int, o *Operator) error {
	known := &c.operators[i]
	next := 0 // the first key group that no task has yet
	for j, seen := range known.seen {
		if !seen {
			return fmt.Errorf("subtask %d is missing", j)
		}
		if o.Hasher == "" {
			continue
		}
		r := known.ranges[j]
		if int(r.First) != next || r.Last < r.First || int(r.Last) >= o.MaxParallelism {
			return fmt.Errorf("subtask %d: key groups %s do not follow on %d within %d", j, r, next, o.MaxParallelism)
		}
		next = int(r.Last) + 1
	}
	if o.Hasher != "" && next != o.MaxParallelism {
		return fmt.Errorf("key groups end at %d of %d", next, o.MaxParallelism)
	}
	return nil
}

// object checks the name, which keeps every object inside the job's prefix,
// and that all mentions of an object agree.
func (c *checker) object(o *Object) error {
	name := objectHash{maphash.String(c.seeds[0], o.Key), maphash.String(c.seeds[1], o.Key)}
	content := binary.LittleEndian.Uint64(o.SHA256[:]) ^ uint64(o.Size)*0x9e3779b97f4a7c15
	if known, ok := c.objects[name]; ok {
		if known != content {
			return fmt.Errorf("object %q stands with two sizes or digests", o.Key)
		}
		return nil
	}
	n, err := ParseDataKey(o.Key)
	if err != nil {
		return err
	}
	if n.ID > c.id || n.Epoch > c.epoch {
		return fmt.Errorf("object %q is later than checkpoint %d of epoch %d", o.Key, c.id, c.epoch)
	}
	if o.Size < 0 {
		return fmt.Errorf("object %q has the size %d", o.Key, o.Size)
	}
	c.objects[name] = content
	return nil
}
