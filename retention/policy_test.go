package retention_test

import (
	"slices"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/retention"
)

func TestPolicyRetire(t *testing.T) {
	const cp, sp, stop, final = manifest.Periodic, manifest.Savepoint, manifest.Stop, manifest.Final
	tests := []struct {
		name    string
		keep    int
		kinds   []manifest.Kind // of checkpoints 1, 2, ...
		protect []manifest.ID
		want    []manifest.ID
	}{
		{"none", 1, nil, nil, nil},
		{"B30 newest that is no savepoint stays", 1, []manifest.Kind{cp, cp, sp, sp, sp}, nil, []manifest.ID{1, 3, 4}},
		{"B31 checkpoint after a savepoint", 1, []manifest.Kind{cp, sp, cp}, nil, []manifest.ID{1, 2}},
		{"B31 stopped", 1, []manifest.Kind{cp, sp, stop}, nil, []manifest.ID{1, 2}},
		{"B31 as many as kept", 3, []manifest.Kind{cp, sp, stop}, nil, nil},
		{"finished", 1, []manifest.Kind{cp, cp, final}, nil, []manifest.ID{1, 2}},
		{"oldest first", 3, []manifest.Kind{cp, cp, cp, cp, cp}, nil, []manifest.ID{1, 2}},
		{"default", 0, []manifest.Kind{cp, cp, cp, cp}, nil, []manifest.ID{1}},
		{"F65 keep 1 keeps the newest", 1, []manifest.Kind{cp}, nil, nil},
		{"F65 huge", 1 << 30, []manifest.Kind{cp, cp}, nil, nil},
		{"F65 negative keeps the newest", -4, []manifest.Kind{cp, cp}, nil, []manifest.ID{1}},
		{"base of a pending one", 1, []manifest.Kind{cp, cp, cp}, []manifest.ID{2}, []manifest.ID{1}},
		{"protected beyond keep", 1, []manifest.Kind{cp, cp, cp}, []manifest.ID{1, 2}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var entries []catalog.Entry
			for i, k := range tt.kinds {
				entries = append(entries, catalog.Entry{ID: manifest.ID(i + 1), Kind: k})
			}
			got := retention.Policy{Keep: tt.keep}.Retire(entries, tt.protect...)
			if !slices.Equal(got, tt.want) {
				t.Errorf("Retire = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestF65_PolicyValidate(t *testing.T) {
	tests := []struct {
		keep, pending int
		ok            bool
	}{
		{0, 1, true}, {0, 3, true}, {0, 4, false},
		{1, 1, true}, {1, 2, false}, {2, 2, true}, {-1, 1, false}, {1 << 30, 5, true},
	}
	for _, tt := range tests {
		if err := (retention.Policy{Keep: tt.keep}).Validate(tt.pending); (err == nil) != tt.ok {
			t.Errorf("keep %d with %d pending: %v, want ok %v", tt.keep, tt.pending, err, tt.ok)
		}
	}
}
