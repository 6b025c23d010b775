package state

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Scan calls yield for the entries whose keys begin with prefix, in order of
// their bytes, until it returns false. prefix begins with one of the task's key
// groups. Key and value are valid until yield returns; yield must not call the
// store. The first scan after a capture pays for sorting what was written
// since, a later one for what was written in between.
func (s *Store) Scan(prefix []byte, yield func(key, value []byte) bool) (err error) {
	if err := s.err(); err != nil {
		return err
	}
	if err := s.checkKey(append(prefix[:len(prefix):len(prefix)], 0)); err != nil {
		return err
	}
	m := merge{cursors: s.cursors(prefix)}
	// The overlays were looked at first: see Get.
	m.db, err = s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: successor(prefix)})
	if err != nil {
		return fmt.Errorf("scan state: %w", err)
	}
	// Deferred: yield may panic, and Close of the store with an iterator open.
	// See Get for the last of the errors.
	defer func() {
		if closeErr := errors.Join(m.db.Error(), m.db.Close(), s.err()); closeErr != nil {
			err = fmt.Errorf("scan state: %w", closeErr)
		}
	}()
	m.dbValid = m.db.First()
	for {
		key, value, live := m.next()
		if key == nil || live && !yield(key, value) {
			return nil
		}
	}
}

// cursors stand in the sorted records of all overlays, newest first.
func (s *Store) cursors(prefix []byte) []cursor {
	frozen := *s.frozen.Load()
	var out []cursor
	add := func(o *overlay, run []ref) {
		if run = seek(&o.arena, run, prefix); len(run) > 0 {
			out = append(out, cursor{arena: &o.arena, refs: run, key: recordKey(o.arena.record(run[0]))})
		}
	}
	if s.active.count > 0 {
		for _, run := range s.active.orderedRuns() {
			add(s.active, run)
		}
	}
	for i := len(frozen) - 1; i >= 0; i-- {
		add(frozen[i].overlay, frozen[i].frozenOrder())
	}
	return out
}

// cursor stands in a sorted run of records.
type cursor struct {
	arena *arena
	refs  []ref
	key   []byte // of the first; nil at the end
}

func (c *cursor) advance() {
	c.refs = c.refs[1:]
	c.key = nil
	if len(c.refs) > 0 {
		c.key = recordKey(c.arena.record(c.refs[0]))
	}
}

// merge goes through the entries of the overlays and the database in order.
// Of several with one key the first cursor's counts, the database's last.
type merge struct {
	cursors []cursor
	db      *pebble.Iterator
	dbValid bool
	dbUsed  bool // its entry was given or hidden: step over it
}

// next returns the next entry, or a nil key at the end.
func (m *merge) next() (key, value []byte, live bool) {
	if m.dbUsed {
		m.dbValid, m.dbUsed = m.db.Next(), false
	}
	best := -1
	for i := range m.cursors {
		if k := m.cursors[i].key; k != nil && (best < 0 || bytes.Compare(k, key) < 0) {
			best, key = i, k
		}
	}
	if m.dbValid {
		k := m.db.Key()
		c := -1
		if best >= 0 {
			c = bytes.Compare(k, key)
		}
		m.dbUsed = c <= 0
		if c < 0 {
			return k, m.db.Value(), true
		}
	}
	if best < 0 {
		return nil, nil, false
	}
	value, live = recordValue(m.cursors[best].arena.follow(m.cursors[best].refs[0]))
	for i := range m.cursors {
		if c := &m.cursors[i]; c.key != nil && bytes.Equal(c.key, key) {
			c.advance()
		}
	}
	return key, value, live
}

// successor is the least key above all that begin with prefix, or nil if there
// is none.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			out := bytes.Clone(prefix[:i+1])
			out[i]++
			return out
		}
	}
	return nil
}
