package state

import (
	"hash/maphash"
	"sync"
)

// overlay is the changes of one interval: the last value or a tombstone for
// every key written. It is written by the task's goroutine; once frozen it is
// only read, by any.
//
// It is a hash table with open addressing whose slots hold 32 bits of the
// key's hash and the place of its record in the arena. The table is split by
// further bits of the hash into segments that grow on their own, so that no
// single write pays for moving a large table.
type overlay struct {
	seed     maphash.Seed
	segments [segmentCount]segment
	arena    arena
	index    orderedIndex
	count    int   // keys, deleted ones included
	payload  int64 // bytes of the keys and values
	table    int64 // bytes of the segments' slots

	sortOnce sync.Once
	sorted   []ref
}

const (
	segmentBits  = 8
	segmentCount = 1 << segmentBits
	firstSlots   = 8
)

// segment is a table whose length is zero or a power of two. A slot is the
// tag in the upper and the ref in the lower half; zero is empty.
type segment struct {
	slots []uint64
	count int
}

func newOverlay() *overlay { return &overlay{seed: maphash.MakeSeed()} }

// bytes is the memory the overlay takes.
func (o *overlay) bytes() int64 { return o.arena.size + o.table + o.index.bytes() }

// hash splits the key's hash into the segment and the tag.
func (o *overlay) hash(key []byte) (*segment, uint32) {
	h := maphash.Bytes(o.seed, key)
	return &o.segments[h>>(64-segmentBits)], uint32(h)
}

// find returns the index of the key's slot, or of the empty slot where it
// belongs. The segment has slots.
func (o *overlay) find(seg *segment, tag uint32, key []byte) (int, bool) {
	mask := len(seg.slots) - 1
	for i := int(tag) & mask; ; i = (i + 1) & mask {
		slot := seg.slots[i]
		if slot == 0 {
			return i, false
		}
		if uint32(slot>>32) == tag && string(recordKey(o.arena.record(ref(slot)))) == string(key) {
			return i, true
		}
	}
}

// get returns what the overlay knows of key: its value, or that it was
// deleted, or nothing. The value is valid until the key is next written.
func (o *overlay) get(key []byte) (value []byte, deleted, known bool) {
	seg, tag := o.hash(key)
	if seg.count == 0 {
		return nil, false, false
	}
	i, ok := o.find(seg, tag, key)
	if !ok {
		return nil, false, false
	}
	value, live := recordValue(o.arena.record(ref(seg.slots[i])))
	return value, !live, true
}

// set writes a value or, if deleted, a tombstone.
func (o *overlay) set(key, value []byte, deleted bool) {
	seg, tag := o.hash(key)
	if seg.count*4 >= len(seg.slots)*3 {
		o.grow(seg)
	}
	i, ok := o.find(seg, tag, key)
	if !ok {
		r := o.arena.add(key, value, deleted)
		seg.slots[i] = uint64(tag)<<32 | uint64(r)
		seg.count++
		o.count++
		o.payload += int64(len(key) + len(value))
		o.index.added(r)
		return
	}
	rec := o.arena.record(ref(seg.slots[i]))
	old, _ := recordValue(rec)
	o.payload += int64(len(value) - len(old))
	if len(value) <= recordCapacity(rec) {
		setValue(rec, value, deleted)
		return
	}
	r := o.arena.add(key, value, deleted)
	setMoved(rec, r)
	seg.slots[i] = uint64(tag)<<32 | uint64(r)
}

func (o *overlay) grow(seg *segment) {
	old := seg.slots
	seg.slots = make([]uint64, max(firstSlots, 2*len(old)))
	o.table += 8 * int64(len(seg.slots)-len(old))
	mask := len(seg.slots) - 1
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		i := int(uint32(slot>>32)) & mask
		for seg.slots[i] != 0 {
			i = (i + 1) & mask
		}
		seg.slots[i] = slot
	}
}

// frozenOrder returns the places of all records of a frozen overlay, ordered by
// key. The first caller sorts.
func (o *overlay) frozenOrder() []ref {
	o.sortOnce.Do(func() {
		o.sorted = make([]ref, 0, o.count)
		o.arena.all(func(r ref) bool {
			o.sorted = append(o.sorted, r)
			return true
		})
		sortRefs(&o.arena, o.sorted)
		o.index = orderedIndex{}
	})
	return o.sorted
}
