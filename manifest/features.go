package manifest

import "github.com/ckpt-io/ckpt/manifest/internal/pb"

// FeatureParts is the required feature of a manifest that refers to parts.
const FeatureParts = "task-parts"

// featureOperatorState is required by a manifest with operator states, also if
// they are in parts: a reader that skipped them would go on without them.
const featureOperatorState = "operator-state"

// knownFeature reports whether this version understands what a manifest
// requires.
func knownFeature(name string) bool { return name == FeatureParts || name == featureOperatorState }

// require enters what a reader of m must know, in ascending order.
func require(m *pb.Manifest, operatorState bool) {
	m.RequiredFeatures = nil
	if operatorState {
		m.RequiredFeatures = append(m.RequiredFeatures, featureOperatorState)
	}
	if len(m.Packs) > 0 {
		m.RequiredFeatures = append(m.RequiredFeatures, FeatureParts)
	}
}

// hasOperatorState reports whether a task of m has any.
func hasOperatorState(m *Manifest) bool {
	for i := range m.Operators {
		for j := range m.Operators[i].Tasks {
			if len(m.Operators[i].Tasks[j].OperatorStates) > 0 {
				return true
			}
		}
	}
	return false
}
