package engine

import (
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/manifest"
)

// aligner decides what the barriers on the channels of one task mean. It is
// plain data: events in, what to do out.
//
// Each id is decided once: aligned, or cancelled because its barrier was
// cancelled upstream, the coordinator aborted it, or a later barrier came
// while it was still aligning. What comes for a decided id is ignored.
type aligner struct {
	channels int
	decided  manifest.ID // the highest id that is
	current  coordinator.Trigger
	aligning bool
	arrived  []bool // by channel, while aligning
	missing  int
	began    time.Time // when the first barrier of current came
	bytes    int64     // processed since then
	// aborted are ids that the coordinator aborted before their barrier came.
	aborted map[manifest.ID]bool
}

func newAligner(channels int) *aligner {
	return &aligner{channels: channels, arrived: make([]bool, channels), aborted: make(map[manifest.ID]bool)}
}

// alignment is what a task has to do, in the order of the fields.
type alignment struct {
	// cancelled are passed on downstream as cancelled.
	cancelled []coordinator.Trigger
	// subsumed is one of them, which the task declines because a later
	// barrier overtook it; 0 for none.
	subsumed manifest.ID
	// unblock all channels.
	unblock bool
	// block the channel the barrier came from.
	block bool
	// aligned: the barrier came on all channels.
	aligned bool
}

// barrier takes the barrier of a checkpoint from a channel.
func (a *aligner) barrier(from int, t coordinator.Trigger, now time.Time) (out alignment) {
	if t.ID <= a.decided || a.aligning && t.ID < a.current.ID {
		return out
	}
	if a.aligning && t.ID > a.current.ID {
		out.subsumed = a.current.ID
		a.cancelCurrent(&out)
	}
	if a.aborted[t.ID] {
		out.cancelled = append(out.cancelled, t)
		a.decide(t.ID)
		return out
	}
	if !a.aligning {
		a.aligning, a.current, a.began, a.bytes, a.missing = true, t, now, 0, a.channels
	}
	if a.arrived[from] {
		return out
	}
	a.arrived[from] = true
	a.missing--
	if a.missing > 0 {
		out.block = true
		return out
	}
	a.end()
	out.unblock, out.aligned = a.channels > 1, true
	return out
}

// cancel takes the mark of a cancelled barrier.
func (a *aligner) cancel(t coordinator.Trigger) (out alignment) {
	if t.ID <= a.decided || a.aligning && t.ID < a.current.ID {
		return out
	}
	if a.aligning {
		if t.ID > a.current.ID {
			out.subsumed = a.current.ID
		}
		a.cancelCurrent(&out)
	}
	if t.ID > a.decided {
		out.cancelled = append(out.cancelled, t)
		a.decide(t.ID)
	}
	return out
}

// abort takes the coordinator's notice that it aborted a checkpoint.
func (a *aligner) abort(id manifest.ID) (out alignment) {
	switch {
	case id <= a.decided:
	case a.aligning && id == a.current.ID:
		a.cancelCurrent(&out)
	default:
		a.aborted[id] = true
	}
	return out
}

func (a *aligner) cancelCurrent(out *alignment) {
	out.cancelled = append(out.cancelled, a.current)
	out.unblock = true
	a.end()
}

// end ends the alignment of current, whose id is decided.
func (a *aligner) end() {
	a.aligning = false
	clear(a.arrived)
	a.decide(a.current.ID)
}

func (a *aligner) decide(id manifest.ID) {
	a.decided = id
	for old := range a.aborted {
		if old <= id {
			delete(a.aborted, old)
		}
	}
}
