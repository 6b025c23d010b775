package engine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/manifest"
)

// String shows what is to be done, in the order it is done.
func (a alignment) String() string {
	var out []string
	for _, t := range a.cancelled {
		s := fmt.Sprintf("cancel %d", uint64(t.ID))
		if t.ID == a.subsumed {
			s += " subsumed"
		}
		out = append(out, s)
	}
	for _, w := range []struct {
		on   bool
		word string
	}{{a.unblock, "unblock"}, {a.block, "block"}, {a.aligned, "aligned"}} {
		if w.on {
			out = append(out, w.word)
		}
	}
	return strings.Join(out, ", ")
}

type alignStep struct {
	do   string // barrier, cancel, abort
	from int
	id   manifest.ID
	want string
}

func TestAligner(t *testing.T) {
	for name, tc := range map[string]struct {
		channels int
		steps    []alignStep
	}{
		"one channel is aligned at once (B62)": {1, []alignStep{
			{"barrier", 0, 1, "aligned"}, {"barrier", 0, 2, "aligned"},
		}},
		"three channels block until the last": {3, []alignStep{
			{"barrier", 1, 1, "block"}, {"barrier", 0, 1, "block"}, {"barrier", 2, 1, "unblock, aligned"},
			{"barrier", 2, 2, "block"},
		}},
		"a doubled barrier counts once": {2, []alignStep{
			{"barrier", 0, 1, "block"}, {"barrier", 0, 1, ""}, {"barrier", 1, 1, "unblock, aligned"},
			{"barrier", 1, 1, ""},
		}},
		"B55 a later barrier overtakes": {3, []alignStep{
			{"barrier", 0, 1, "block"}, {"barrier", 1, 1, "block"},
			{"barrier", 2, 2, "cancel 1 subsumed, unblock, block"},
			{"cancel", 1, 1, ""},
			{"barrier", 0, 2, "block"}, {"barrier", 1, 2, "unblock, aligned"},
		}},
		"B57 a cancelled barrier aborts once": {2, []alignStep{
			{"barrier", 0, 1, "block"}, {"cancel", 1, 1, "cancel 1, unblock"},
			{"cancel", 0, 1, ""}, {"barrier", 1, 1, ""},
			{"barrier", 0, 2, "block"}, {"barrier", 1, 2, "unblock, aligned"},
		}},
		"B57 before any barrier": {2, []alignStep{
			{"cancel", 1, 1, "cancel 1"}, {"barrier", 0, 1, ""}, {"barrier", 0, 2, "block"},
		}},
		"a later cancelled barrier overtakes": {2, []alignStep{
			{"barrier", 0, 1, "block"}, {"cancel", 1, 2, "cancel 1 subsumed, cancel 2, unblock"},
			{"barrier", 0, 2, ""},
		}},
		"B61 an abort before the barrier skips it": {2, []alignStep{
			{"abort", 0, 1, ""}, {"barrier", 0, 1, "cancel 1"}, {"barrier", 1, 1, ""},
			{"barrier", 0, 2, "block"}, {"barrier", 1, 2, "unblock, aligned"},
		}},
		"B61 an abort during alignment": {2, []alignStep{
			{"barrier", 0, 1, "block"}, {"abort", 0, 1, "cancel 1, unblock"}, {"barrier", 1, 1, ""},
		}},
		"B61 an abort after it does nothing": {1, []alignStep{
			{"barrier", 0, 1, "aligned"}, {"abort", 0, 1, ""}, {"barrier", 0, 2, "aligned"},
		}},
		"an older barrier than the one aligning": {2, []alignStep{
			{"barrier", 0, 5, "block"}, {"barrier", 1, 4, ""}, {"cancel", 1, 4, ""}, {"barrier", 1, 5, "unblock, aligned"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAligner(tc.channels)
			for i, s := range tc.steps {
				var got alignment
				trigger := coordinator.Trigger{ID: s.id}
				switch s.do {
				case "barrier":
					got = a.barrier(s.from, trigger, time.Time{})
				case "cancel":
					got = a.cancel(trigger)
				default:
					got = a.abort(s.id)
				}
				if got.String() != s.want {
					t.Fatalf("step %d (%s %d from %d): got %q, want %q", i+1, s.do, s.id, s.from, got, s.want)
				}
			}
			if len(a.aborted) != 0 {
				t.Errorf("%d aborts are remembered for ever", len(a.aborted))
			}
		})
	}
}
