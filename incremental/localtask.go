package incremental

import (
	"iter"

	"github.com/ckpt-io/ckpt/manifest"
)

// LocalTask says for one task which objects it would be restored from. A copy
// stays as long as one task's newest confirmed checkpoint, or one after it,
// names the object; and as long as it belongs to a checkpoint that is still to
// be reported.
type LocalTask struct {
	local *LocalObjects
	named map[manifest.ID][]string // keys, by checkpoint
}

// Task is a new task of this run. It begins with what it is restored from.
func (l *LocalObjects) Task(restored iter.Seq[manifest.Object]) *LocalTask {
	t := &LocalTask{local: l, named: make(map[manifest.ID][]string)}
	t.Reported(0, restored)
	return t
}

// Reported says what a checkpoint of the task needs and reserves. It does no I/O.
func (t *LocalTask) Reported(id manifest.ID, named iter.Seq[manifest.Object]) {
	l := t.local
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for o := range named {
		t.named[id] = append(t.named[id], o.Key)
		l.refs[o.Key]++
		if c := l.copies[o.Key]; c != nil {
			delete(l.loose, c)
		}
	}
}

// Confirmed says that a checkpoint is committed. What only earlier ones named is
// removed.
//
// An object that no report named may be one of the next: it carries the id of
// the first checkpoint that needs it. Since all tasks have reported what is
// committed, one with an id up to that is of no use to any of them.
func (t *LocalTask) Confirmed(id manifest.ID) {
	l := t.local
	if l == nil {
		return
	}
	l.mu.Lock()
	for old := range t.named {
		if old < id {
			t.forget(old)
		}
	}
	var keys []string
	for c := range l.loose {
		if c.id <= id {
			keys = append(keys, l.remove(c))
		}
	}
	l.mu.Unlock()
	l.unlink(keys)
}

// Aborted says that a checkpoint will not be committed. The others are as they
// were: what was uploaded for it is named by the next.
func (t *LocalTask) Aborted(id manifest.ID) {
	l := t.local
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.forget(id)
}

func (t *LocalTask) forget(id manifest.ID) {
	l := t.local
	for _, key := range t.named[id] {
		if l.refs[key]--; l.refs[key] > 0 {
			continue
		}
		delete(l.refs, key)
		if c := l.copies[key]; c != nil {
			l.loose[c] = struct{}{}
		}
	}
	delete(t.named, id)
}
