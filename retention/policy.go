package retention

import (
	"fmt"
	"slices"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
)

// DefaultKeep is how many checkpoints a zero Policy keeps.
const DefaultKeep = 3

// Policy says which checkpoints to keep.
type Policy struct {
	// Keep is how many checkpoints stay, the newest ones; 0 means DefaultKeep.
	Keep int
}

// Validate refuses a policy under which the base of a pending checkpoint could
// be retired: one that keeps fewer checkpoints than may be pending at a time.
func (p Policy) Validate(maxPending int) error {
	switch {
	case p.Keep < 0:
		return fmt.Errorf("keep %d checkpoints: want at least 1", p.Keep)
	case p.keep() < maxPending:
		return fmt.Errorf("keep %d checkpoints while %d may be pending: the base of a pending checkpoint must be kept", p.keep(), maxPending)
	}
	return nil
}

func (p Policy) keep() int {
	if p.Keep == 0 {
		return DefaultKeep
	}
	return max(p.Keep, 1)
}

// Retire returns the ids of those of the given checkpoints (ascending by id, as
// HEAD lists them) that need not be kept, oldest first. Never among them are
// the newest checkpoint, the newest one that is not a savepoint, and those
// in protect, such as the bases of pending checkpoints; kept in this way, they
// count towards Keep.
//
// The rule is that of Flink's CheckpointSubsumeHelper.
func (p Policy) Retire(entries []catalog.Entry, protect ...manifest.ID) []manifest.ID {
	surplus := len(entries) - p.keep()
	if surplus <= 0 {
		return nil
	}
	must := append(slices.Clone(protect), entries[len(entries)-1].ID)
	for _, e := range slices.Backward(entries) {
		if e.Kind != manifest.Savepoint {
			must = append(must, e.ID)
			break
		}
	}
	var out []manifest.ID
	for _, e := range entries {
		if len(out) < surplus && !slices.Contains(must, e.ID) {
			out = append(out, e.ID)
		}
	}
	return out
}
