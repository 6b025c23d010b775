package state

import "encoding/binary"

// arena stores the records of an overlay: byte chunks without pointers, so
// that the garbage collector has nothing to look at. A record is
//
//	value length  4 bytes, or one of the two marks below
//	key length    3 bytes
//	size          3 bytes: of the record, in units of recordAlign
//	key, value, room for a longer value
//
// in little-endian order, and begins at a multiple of recordAlign, which lets
// 32 bits address 32 GiB.
type arena struct {
	chunks [][]byte
	used   int   // bytes of the last chunk in use
	size   int64 // bytes of all chunks
}

// ref is the place of a record: its chunk in the upper bits, its offset in
// units of recordAlign in the lower ones. The zero ref is none.
type ref uint32

const (
	recordAlign  = 8
	headerBytes  = 4 + 3 + 3
	chunkBits    = 20
	chunkBytes   = 1 << chunkBits
	offsetBits   = chunkBits - 3
	firstChunk   = 4 << 10
	tombstone    = 1<<32 - 1 // value length of a deleted key
	moved        = 1<<32 - 2 // the record is elsewhere: its value is the ref
	valueSlotMin = 8
)

// record gives the bytes at r, from its header to the end of the chunk.
func (a *arena) record(r ref) []byte {
	return a.chunks[r>>offsetBits][int(r&(1<<offsetBits-1))*recordAlign:]
}

func keyLength(rec []byte) int { return int(binary.LittleEndian.Uint32(rec[4:]) & (1<<24 - 1)) }

func recordSize(rec []byte) int { return int(binary.LittleEndian.Uint32(rec[6:])>>8) * recordAlign }

func valueOffset(rec []byte) int { return headerBytes + keyLength(rec) }

// recordCapacity is the length that the value can have in place.
func recordCapacity(rec []byte) int { return recordSize(rec) - valueOffset(rec) }

func recordKey(rec []byte) []byte {
	end := valueOffset(rec)
	return rec[headerBytes:end:end]
}

// recordValue returns the value, or false for a tombstone.
func recordValue(rec []byte) ([]byte, bool) {
	n := binary.LittleEndian.Uint32(rec)
	if n == tombstone {
		return nil, false
	}
	at := valueOffset(rec)
	return rec[at : at+int(n) : at+int(n)], true
}

func isMoved(rec []byte) bool { return binary.LittleEndian.Uint32(rec) == moved }

func setMoved(rec []byte, to ref) {
	binary.LittleEndian.PutUint32(rec, moved)
	binary.LittleEndian.PutUint32(rec[valueOffset(rec):], uint32(to))
}

// setValue replaces the value in place, which has room for it.
func setValue(rec, value []byte, deleted bool) {
	if deleted {
		binary.LittleEndian.PutUint32(rec, tombstone)
		return
	}
	binary.LittleEndian.PutUint32(rec, uint32(len(value)))
	copy(rec[valueOffset(rec):], value)
}

// follow returns the record that r stands for now, after r was moved to make
// room for a longer value.
func (a *arena) follow(r ref) []byte {
	rec := a.record(r)
	for isMoved(rec) {
		rec = a.record(ref(binary.LittleEndian.Uint32(rec[valueOffset(rec):])))
	}
	return rec
}

// all yields the places of the records in the order of their addition, which
// is that of memory. Moved ones are left out.
func (a *arena) all(yield func(ref) bool) {
	for i, chunk := range a.chunks {
		at := 0
		if i == 0 {
			at = recordAlign
		}
		for at+headerBytes < len(chunk) {
			rec := chunk[at:]
			if keyLength(rec) == 0 { // no key is empty: the rest is unused
				break
			}
			if !isMoved(rec) && !yield(ref(i<<offsetBits|at/recordAlign)) {
				return
			}
			at += recordSize(rec)
		}
	}
}

// add appends a record and returns its place. A deleted one has no value.
func (a *arena) add(key, value []byte, deleted bool) ref {
	need := headerBytes + len(key) + max(len(value), valueSlotMin)
	need = (need + recordAlign - 1) &^ (recordAlign - 1)
	rec, r := a.reserve(need)
	binary.LittleEndian.PutUint32(rec[6:], uint32(need/recordAlign)<<8) // its low byte is part of the key length
	binary.LittleEndian.PutUint16(rec[4:], uint16(len(key)))
	rec[6] = byte(len(key) >> 16)
	copy(rec[headerBytes:], key)
	setValue(rec, value, deleted)
	return r
}

// reserve returns n fresh bytes. The first chunks are small, so that a store
// with little state takes little memory; a record larger than a chunk gets one
// of its own.
func (a *arena) reserve(n int) ([]byte, ref) {
	last := len(a.chunks) - 1
	if last < 0 || a.used+n > min(len(a.chunks[last]), chunkBytes) {
		size := chunkBytes
		if last < 8 {
			size = firstChunk << max(last+1, 0)
		}
		size = max(size, n)
		if last < 0 {
			a.used = recordAlign // so that no record has the zero ref
			size = max(size, n+recordAlign)
		} else {
			a.used = 0
		}
		a.chunks = append(a.chunks, make([]byte, size))
		a.size += int64(size)
		last++
	}
	at := a.used
	a.used += n
	return a.chunks[last][at:], ref(last<<offsetBits | at/recordAlign)
}
