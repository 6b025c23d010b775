package manifest

import "fmt"

// KeyGroupRange is an inclusive range of key groups. Parallelism never exceeds
// the number of key groups, so a range is never empty.
type KeyGroupRange struct {
	First, Last uint16
}

func (r KeyGroupRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Contains reports whether kg is in r.
func (r KeyGroupRange) Contains(kg uint16) bool { return r.First <= kg && kg <= r.Last }

// Covers reports whether all of s is in r.
func (r KeyGroupRange) Covers(s KeyGroupRange) bool { return r.First <= s.First && s.Last <= r.Last }

// Intersect returns the key groups in both, and whether there are any.
func (r KeyGroupRange) Intersect(s KeyGroupRange) (KeyGroupRange, bool) {
	out := KeyGroupRange{First: max(r.First, s.First), Last: min(r.Last, s.Last)}
	return out, out.First <= out.Last
}
