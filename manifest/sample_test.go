package manifest

import (
	"crypto/sha256"
	"time"
)

// sample is a manifest with something in every field: a source, a keyed
// operator of which one subtask was rescaled from two, and a sink.
func sample() *Manifest {
	return &Manifest{
		Job: "word-count", JobUUID: "7c1f7dbe-6f3e-4d0e-a2b7-2f8f8a0d3c11",
		ID: 42, Epoch: 3, Kind: Periodic, Base: 41,
		Time: time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC),
		Operators: []Operator{
			{UID: "count", Parallelism: 2, MaxParallelism: 128, Hasher: "murmur3-32/1", Tasks: []Task{
				{Index: 0, Keyed: sampleRescaled(), Reserved: []Object{sampleObject(42, 3, 9, ExtSST)}, Stats: sampleStats()},
				{Index: 1, Keyed: &KeyedState{KeyGroups: KeyGroupRange{64, 127}}},
			}},
			{UID: "lines", Parallelism: 1, MaxParallelism: 1, Tasks: []Task{
				{Splits: []Split{{ID: "a.txt", Position: []byte{1, 2}}, {ID: "b.txt"}}},
			}},
			{UID: "sink", Parallelism: 1, MaxParallelism: 1, Tasks: []Task{
				{Handles: [][]byte{[]byte("part-0-42"), {}}},
			}},
		},
		Stats: Stats{TMax: 3 * time.Second, Duration: 4 * time.Second, NewBytes: 100, FullBytes: 1000, Objects: 7},
	}
}

func sampleRescaled() *KeyedState {
	return &KeyedState{
		KeyGroups: KeyGroupRange{0, 63},
		Pieces: []Piece{
			{
				KeyGroups: KeyGroupRange{0, 42},
				Base: &Base{Position: 7, FormatMajorVersion: 16, Files: []File{
					{Name: "000005.sst", Object: sampleObject(39, 1, 1, ExtSST)},
					{Name: "MANIFEST-000001", Inline: []byte("pebble")},
					{Name: "marker.format-version.000001.016"},
				}},
				Deltas: []Delta{sampleDelta(8, 39, 1, 2)},
			},
			{KeyGroups: KeyGroupRange{43, 63}, Deltas: []Delta{sampleDelta(3, 40, 2, 1), sampleDelta(4, 40, 2, 2)}},
		},
		Deltas: []Delta{sampleDelta(9, 41, 3, 1), sampleDelta(10, 42, 3, 2)},
	}
}

func sampleOperatorStates() []OperatorState {
	return []OperatorState{
		{Name: "buffer", Mode: ListState, Items: [][]byte{[]byte("a"), {}}},
		{Name: "offsets", Mode: UnionState},
		{Name: "rules", Mode: BroadcastState, Items: [][]byte{{0, 1}}},
	}
}

func sampleDelta(position uint64, id ID, e Epoch, n uint64) Delta {
	return Delta{Position: position, Object: sampleObject(id, e, n, ExtSST), Entries: 10, Bytes: 300}
}

func sampleObject(id ID, e Epoch, n uint64, ext string) Object {
	key := DataName{ID: id, Epoch: e, Operator: "count", Subtask: 0, N: n, Ext: ext}.Key()
	return Object{Key: key, Size: int64(100 * n), SHA256: sha256.Sum256([]byte(key))}
}

func sampleStats() TaskStats {
	return TaskStats{
		StartDelay: 1, Alignment: 2, Capture: 3, Queue: 4, Encode: 5, Upload: 6, Total: 7,
		ChangedBytes: 8, NewBytes: 9, BaseBytes: 10, FullBytes: 11, NewObjects: 12, InFlightBytes: 13,
	}
}
