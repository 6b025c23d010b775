package incremental

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/ckpt-io/ckpt/manifest"
)

// Rescale composes the state of the key groups r from the states that held
// them, which are disjoint. It reads nothing. The one parent that held exactly
// r is returned as it was. Else the result has a piece for each part of a
// parent that overlaps r, and no deltas of its own: those of a parent are laid
// over each of its pieces, and over the groups that none of its pieces covers.
func Rescale(parents []manifest.KeyedState, r manifest.KeyGroupRange) manifest.KeyedState {
	out := manifest.KeyedState{KeyGroups: r}
	for _, p := range parents {
		if p.KeyGroups == r {
			return manifest.KeyedState{KeyGroups: r, Pieces: slices.Clone(p.Pieces), Deltas: slices.Clone(p.Deltas)}
		}
		out.Pieces = append(out.Pieces, clip(p, r)...)
	}
	slices.SortFunc(out.Pieces, byFirst)
	out.Pieces = join(out.Pieces)
	return out
}

// join makes one of neighbours that hold parts of the same content, as when a
// state that was split comes together again.
func join(pieces []manifest.Piece) (out []manifest.Piece) {
	for _, p := range pieces {
		if n := len(out); n > 0 && adjoin(out[n-1], p) {
			out[n-1].KeyGroups.Last = p.KeyGroups.Last
			continue
		}
		out = append(out, p)
	}
	return out
}

func adjoin(a, b manifest.Piece) bool {
	return int(a.KeyGroups.Last)+1 == int(b.KeyGroups.First) &&
		slices.Equal(a.Deltas, b.Deltas) && sameBase(a.Base, b.Base)
}

func sameBase(a, b *manifest.Base) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Position == b.Position && a.FormatMajorVersion == b.FormatMajorVersion &&
		slices.EqualFunc(a.Files, b.Files, func(x, y manifest.File) bool {
			return x.Name == y.Name && x.Object == y.Object && bytes.Equal(x.Inline, y.Inline)
		})
}

func byFirst(a, b manifest.Piece) int { return cmp.Compare(a.KeyGroups.First, b.KeyGroups.First) }

// clip gives the pieces of a state that lie in r.
func clip(s manifest.KeyedState, r manifest.KeyGroupRange) (out []manifest.Piece) {
	for _, p := range cover(s) {
		part, ok := p.KeyGroups.Intersect(r)
		if !ok {
			continue
		}
		deltas := slices.Concat(p.Deltas, s.Deltas)
		if p.Base != nil || len(deltas) > 0 {
			out = append(out, manifest.Piece{KeyGroups: part, Base: p.Base, Deltas: deltas})
		}
	}
	return out
}

// cover gives the pieces of a state and an empty one for each gap between
// them: the deltas of the state may hold keys of all its groups.
func cover(s manifest.KeyedState) (out []manifest.Piece) {
	pieces := slices.SortedFunc(slices.Values(s.Pieces), byFirst)
	next := int(s.KeyGroups.First)
	for _, p := range pieces {
		if first := int(p.KeyGroups.First); next < first {
			out = append(out, emptyPiece(next, first-1))
		}
		out = append(out, p)
		next = int(p.KeyGroups.Last) + 1
	}
	if last := int(s.KeyGroups.Last); next <= last {
		out = append(out, emptyPiece(next, last))
	}
	return out
}

func emptyPiece(first, last int) manifest.Piece {
	return manifest.Piece{KeyGroups: manifest.KeyGroupRange{First: uint16(first), Last: uint16(last)}}
}
