package manifest

import (
	"time"

	"github.com/ckpt-io/ckpt/manifest/internal/pb"
)

func toProto(m *Manifest) *pb.Manifest {
	out := &pb.Manifest{
		Job: m.Job, JobUuid: m.JobUUID,
		Id: uint64(m.ID), Epoch: uint64(m.Epoch),
		Kind: string(m.Kind), Base: uint64(m.Base),
		Operators: convert(m.Operators, operatorToProto),
		KeyIds:    m.KeyIDs,
		Stats: &pb.Stats{
			TMax: int64(m.Stats.TMax), Duration: int64(m.Stats.Duration),
			NewBytes: m.Stats.NewBytes, FullBytes: m.Stats.FullBytes, Objects: m.Stats.Objects,
		},
	}
	if !m.Time.IsZero() {
		out.TimeUnixNano = m.Time.UnixNano()
	}
	require(out, hasOperatorState(m))
	return out
}

// convert maps a slice; an empty one becomes nil, as it is after Decode.
func convert[From, To any](in []From, f func(*From) To) []To {
	if len(in) == 0 {
		return nil
	}
	out := make([]To, len(in))
	for i := range in {
		out[i] = f(&in[i])
	}
	return out
}

func operatorToProto(o *Operator) *pb.Operator {
	return &pb.Operator{
		Uid: o.UID, Parallelism: uint32(o.Parallelism), MaxParallelism: uint32(o.MaxParallelism),
		Hasher: o.Hasher, Tasks: convert(o.Tasks, taskToProto),
	}
}

func taskToProto(t *Task) *pb.Task {
	return &pb.Task{
		Index:    uint32(t.Index),
		Keyed:    keyedToProto(t.Keyed),
		Reserved: convert(t.Reserved, objectToProto),
		Splits: convert(t.Splits, func(s *Split) *pb.Split {
			return &pb.Split{Id: s.ID, Position: s.Position}
		}),
		Handles: t.Handles,
		Stats:   taskStatsToProto(&t.Stats),
		OperatorStates: convert(t.OperatorStates, func(s *OperatorState) *pb.OperatorState {
			return &pb.OperatorState{Name: s.Name, Mode: string(s.Mode), Items: s.Items}
		}),
	}
}

func taskStatsToProto(s *TaskStats) *pb.TaskStats {
	return &pb.TaskStats{
		StartDelay: int64(s.StartDelay), Alignment: int64(s.Alignment), Capture: int64(s.Capture),
		Queue: int64(s.Queue), Encode: int64(s.Encode), Upload: int64(s.Upload), Total: int64(s.Total),
		ChangedBytes: s.ChangedBytes, NewBytes: s.NewBytes, BaseBytes: s.BaseBytes,
		FullBytes: s.FullBytes, NewObjects: s.NewObjects, InFlightBytes: s.InFlightBytes,
	}
}

func keyedToProto(k *KeyedState) *pb.KeyedState {
	if k == nil {
		return nil
	}
	return &pb.KeyedState{
		KeyGroups: rangeToProto(k.KeyGroups),
		Pieces: convert(k.Pieces, func(p *Piece) *pb.Piece {
			return &pb.Piece{
				KeyGroups: rangeToProto(p.KeyGroups),
				Base:      baseToProto(p.Base),
				Deltas:    convert(p.Deltas, deltaToProto),
			}
		}),
		Deltas: convert(k.Deltas, deltaToProto),
	}
}

func rangeToProto(r KeyGroupRange) *pb.KeyGroupRange {
	return &pb.KeyGroupRange{First: uint32(r.First), Last: uint32(r.Last)}
}

func baseToProto(b *Base) *pb.Base {
	if b == nil {
		return nil
	}
	return &pb.Base{
		Position: b.Position, FormatMajorVersion: b.FormatMajorVersion, Whole: b.Whole,
		Files: convert(b.Files, fileToProto),
		Packs: convert(b.Packs, objectToProto),
	}
}

func fileToProto(f *File) *pb.File {
	out := &pb.File{Name: f.Name, Inline: f.Inline}
	if f.Object != (Object{}) {
		out.Object = objectToProto(&f.Object)
	}
	if p := &f.Pack; p.Pack != 0 {
		out.Pack, out.PackOffset, out.PackLength, out.PackDigest = uint32(p.Pack), p.Offset, p.Length, p.Digest[:]
	}
	return out
}

func deltaToProto(d *Delta) *pb.Delta {
	return &pb.Delta{
		Position: d.Position, Object: objectToProto(&d.Object), Entries: d.Entries, Bytes: d.Bytes,
		Segments: []byte(d.Segments), Data: d.Data,
	}
}

func objectToProto(o *Object) *pb.Object {
	return &pb.Object{Key: o.Key, Size: o.Size, Sha256: o.SHA256[:]}
}

// nanoTime is the inverse of Time.UnixNano in toProto.
func nanoTime(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
