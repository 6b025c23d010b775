package manifest

import "fmt"

// Redistribution says who gets an operator state after a restore.
type Redistribution string

const (
	// ListState is dealt out: each item goes to one subtask.
	ListState Redistribution = "list"
	// UnionState gives every subtask the items of all.
	UnionState Redistribution = "union"
	// BroadcastState is the same in every subtask: each gets a copy of one.
	BroadcastState Redistribution = "broadcast"
)

// OperatorState is state of a subtask that belongs to no key: a list of items,
// which are the operator's own business. A state of the same name in another
// subtask of the operator is another part of it, or with BroadcastState a copy.
type OperatorState struct {
	Name  string // [0-9A-Za-z._], at most 100 characters
	Mode  Redistribution
	Items [][]byte
}

// valid reports whether r is one of the modes.
func (r Redistribution) valid() bool {
	return r == ListState || r == UnionState || r == BroadcastState
}

// ValidateOperatorStates checks the states of one subtask: ordered by their
// names, each valid and there once.
func ValidateOperatorStates(states []OperatorState) error {
	for i := range states {
		s := &states[i]
		switch {
		case !ValidUID(s.Name):
			return fmt.Errorf("operator state %q: invalid name", s.Name)
		case i > 0 && s.Name <= states[i-1].Name:
			return fmt.Errorf("operator state %q is repeated or out of order", s.Name)
		case !s.Mode.valid():
			return fmt.Errorf("operator state %q: unknown mode %q", s.Name, s.Mode)
		}
	}
	return nil
}
