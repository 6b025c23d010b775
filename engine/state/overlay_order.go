package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sort"
)

// sortItem is a record under sort: the next eight bytes of its key as a
// number, and how many bytes it has from there on (9: more than eight).
type sortItem struct {
	word uint64
	rest uint32
	ref  ref
}

// sortRefs orders the places of records with different keys by key. It compares
// eight bytes at a time, held beside the ref, and goes back to the records only
// for those that are still equal: keys begin with the same few bytes (key
// group, state name), and each look at a record is a cache miss.
func sortRefs(a *arena, refs []ref) {
	items := make([]sortItem, len(refs))
	for i, r := range refs {
		items[i].ref = r
	}
	sortItems(a, items, 0)
	for i := range items {
		refs[i] = items[i].ref
	}
}

func sortItems(a *arena, items []sortItem, depth int) {
	for i := range items {
		items[i].load(recordKey(a.record(items[i].ref)), depth)
	}
	slices.SortFunc(items, func(x, y sortItem) int {
		if x.word != y.word {
			return cmp.Compare(x.word, y.word)
		}
		return cmp.Compare(x.rest, y.rest)
	})
	for i := 0; i < len(items); {
		j := i + 1
		for j < len(items) && items[j].word == items[i].word && items[j].rest == items[i].rest {
			j++
		}
		switch n := j - i; {
		case n == 1:
		case n <= 8:
			slices.SortFunc(items[i:j], func(x, y sortItem) int {
				return bytes.Compare(recordKey(a.record(x.ref)), recordKey(a.record(y.ref)))
			})
		default:
			sortItems(a, items[i:j], depth+8)
		}
		i = j
	}
}

func (it *sortItem) load(key []byte, depth int) {
	key = key[depth:]
	if len(key) >= 8 {
		it.word = binary.BigEndian.Uint64(key)
		it.rest = min(uint32(len(key)), 9)
		return
	}
	var w [8]byte
	copy(w[:], key)
	it.word, it.rest = binary.BigEndian.Uint64(w[:]), uint32(len(key))
}

// orderedIndex is the order of the keys of an overlay that is still written
// to. It is kept only after the first scan asked for it. New records gather in
// tail; a scan sorts them into a run and merges runs of similar length, so
// that each record is merged a logarithmic number of times.
type orderedIndex struct {
	on   bool
	runs [][]ref // each sorted, each at least twice as long as the next
	tail []ref
	size int
}

func (x *orderedIndex) bytes() int64 { return int64(x.size) * 8 }

func (x *orderedIndex) added(r ref) {
	if x.on {
		x.tail = append(x.tail, r)
		x.size++
	}
}

// orderedRuns returns sorted runs that together hold the overlay's records.
// Their refs are to be followed, for a record may have moved since.
func (o *overlay) orderedRuns() [][]ref {
	x := &o.index
	if !x.on {
		x.on = true
		o.arena.all(func(r ref) bool { x.added(r); return true })
	}
	if len(x.tail) > 0 {
		run := slices.Clone(x.tail)
		x.tail = x.tail[:0]
		sortRefs(&o.arena, run)
		for n := len(x.runs); n > 0 && len(x.runs[n-1]) < 2*len(run); n-- {
			run = mergeRuns(&o.arena, x.runs[n-1], run)
			x.runs = x.runs[:n-1]
		}
		x.runs = append(x.runs, run)
	}
	return x.runs
}

func mergeRuns(a *arena, x, y []ref) []ref {
	out := make([]ref, 0, len(x)+len(y))
	for len(x) > 0 && len(y) > 0 {
		if bytes.Compare(recordKey(a.record(x[0])), recordKey(a.record(y[0]))) < 0 {
			out, x = append(out, x[0]), x[1:]
		} else {
			out, y = append(out, y[0]), y[1:]
		}
	}
	return append(append(out, x...), y...)
}

// seek cuts a sorted run to the records whose keys begin with prefix.
func seek(a *arena, run []ref, prefix []byte) []ref {
	from := sort.Search(len(run), func(i int) bool {
		return bytes.Compare(recordKey(a.record(run[i])), prefix) >= 0
	})
	run = run[from:]
	to := sort.Search(len(run), func(i int) bool {
		return !bytes.HasPrefix(recordKey(a.record(run[i])), prefix)
	})
	return run[:to]
}
