package manifest

import (
	"fmt"
	"math"
	"time"

	"github.com/ckpt-io/ckpt/manifest/internal/pb"
)

// outlineFromProto turns the stored form into ours. What does not fit in our
// types is an error here; everything else is left to validation.
func outlineFromProto(m *pb.Manifest) (*Outline, error) {
	var c decoder
	o := &Outline{
		head: Manifest{
			Job: m.GetJob(), JobUUID: m.GetJobUuid(),
			ID: ID(m.GetId()), Epoch: Epoch(m.GetEpoch()),
			Kind: Kind(m.GetKind()), Base: ID(m.GetBase()), Time: nanoTime(m.GetTimeUnixNano()),
			Operators: convertPtr(m.GetOperators(), c.operator),
			KeyIDs:    m.GetKeyIds(),
			Stats: Stats{
				TMax: time.Duration(m.GetStats().GetTMax()), Duration: time.Duration(m.GetStats().GetDuration()),
				NewBytes: m.GetStats().GetNewBytes(), FullBytes: m.GetStats().GetFullBytes(), Objects: m.GetStats().GetObjects(),
			},
		},
		packs: convertPtr(m.GetPacks(), c.object),
		refs:  make([][]ref, len(m.GetOperators())),
		stats: make([][]TaskStats, len(m.GetOperators())),
	}
	for i, op := range m.GetOperators() {
		o.refs[i] = convertPtr(op.GetParts(), c.ref)
		o.stats[i] = convertPtr(op.GetStats(), taskStats)
		if len(o.refs[i]) == 0 || c.err != nil {
			continue
		}
		for j := range o.head.Operators[i].Tasks {
			t := &o.head.Operators[i].Tasks[j]
			if t.Stats != (TaskStats{}) {
				c.fail("subtask %d has figures of its own", t.Index)
			}
			if t.Index < len(o.stats[i]) {
				t.Stats = o.stats[i][t.Index]
			}
		}
	}
	return o, c.err
}

func (c *decoder) ref(r *pb.PartRef) ref {
	out := ref{
		index: c.count("subtask", r.GetIndex()), pack: c.count("pack", r.GetPack()),
		offset: int64(r.GetOffset()), size: int64(r.GetSize()),
	}
	if out.offset < 0 || out.size < 0 || len(r.GetSha256()) != len(out.digest) {
		c.fail("part of subtask %d: place or digest is out of range", out.index)
		return out
	}
	out.digest = Digest(r.GetSha256())
	return out
}

// convertPtr is convert for protobuf's slices of pointers.
func convertPtr[From, To any](in []*From, f func(*From) To) []To {
	if len(in) == 0 {
		return nil
	}
	out := make([]To, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

// decoder keeps the first error of a conversion.
type decoder struct{ err error }

func (c *decoder) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// count reads a number that our types hold as int.
func (c *decoder) count(what string, n uint32) int {
	if n > math.MaxInt32 {
		c.fail("%s %d is out of range", what, n)
		return 0
	}
	return int(n)
}

func (c *decoder) operator(o *pb.Operator) Operator {
	return Operator{
		UID:            o.GetUid(),
		Parallelism:    c.count("parallelism", o.GetParallelism()),
		MaxParallelism: c.count("max parallelism", o.GetMaxParallelism()),
		Hasher:         o.GetHasher(),
		Tasks:          convertPtr(o.GetTasks(), c.task),
	}
}

func (c *decoder) task(t *pb.Task) Task {
	out := Task{
		Index:    c.count("subtask", t.GetIndex()),
		Reserved: convertPtr(t.GetReserved(), c.object),
		Splits: convertPtr(t.GetSplits(), func(s *pb.Split) Split {
			return Split{ID: s.GetId(), Position: content(s.GetPosition())}
		}),
		Handles: t.GetHandles(),
		OperatorStates: convertPtr(t.GetOperatorStates(), func(s *pb.OperatorState) OperatorState {
			return OperatorState{Name: s.GetName(), Mode: Redistribution(s.GetMode()), Items: s.GetItems()}
		}),
		Stats: taskStats(t.GetStats()),
	}
	if k := t.GetKeyed(); k != nil {
		out.Keyed = &KeyedState{
			KeyGroups: c.keyGroups(k.GetKeyGroups()),
			Pieces:    convertPtr(k.GetPieces(), c.piece),
			Deltas:    convertPtr(k.GetDeltas(), c.delta),
		}
	}
	return out
}

// content gives the two spellings of no bytes as one.
func content(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func taskStats(s *pb.TaskStats) TaskStats {
	return TaskStats{
		StartDelay: time.Duration(s.GetStartDelay()), Alignment: time.Duration(s.GetAlignment()),
		Capture: time.Duration(s.GetCapture()), Queue: time.Duration(s.GetQueue()),
		Encode: time.Duration(s.GetEncode()), Upload: time.Duration(s.GetUpload()), Total: time.Duration(s.GetTotal()),
		ChangedBytes: s.GetChangedBytes(), NewBytes: s.GetNewBytes(), BaseBytes: s.GetBaseBytes(),
		FullBytes: s.GetFullBytes(), NewObjects: s.GetNewObjects(), InFlightBytes: s.GetInFlightBytes(),
	}
}

func (c *decoder) keyGroups(r *pb.KeyGroupRange) KeyGroupRange {
	if r == nil {
		c.fail("key groups are missing")
	}
	if r.GetFirst() > math.MaxUint16 || r.GetLast() > math.MaxUint16 {
		c.fail("key groups %d-%d are out of range", r.GetFirst(), r.GetLast())
	}
	return KeyGroupRange{First: uint16(r.GetFirst()), Last: uint16(r.GetLast())}
}

func (c *decoder) piece(p *pb.Piece) Piece {
	out := Piece{KeyGroups: c.keyGroups(p.GetKeyGroups()), Deltas: convertPtr(p.GetDeltas(), c.delta)}
	if b := p.GetBase(); b != nil {
		out.Base = &Base{
			Position: b.GetPosition(), FormatMajorVersion: b.GetFormatMajorVersion(), Whole: b.GetWhole(),
			Files: convertPtr(b.GetFiles(), c.file),
			Packs: convertPtr(b.GetPacks(), c.object),
		}
	}
	return out
}

func (c *decoder) file(f *pb.File) File {
	out := File{Name: f.GetName(), Inline: content(f.GetInline())}
	if f.GetObject() != nil {
		out.Object = c.object(f.GetObject())
	}
	if f.GetPack() != 0 {
		out.Pack = c.packRef(f)
	}
	return out
}

func (c *decoder) packRef(f *pb.File) PackRef {
	out := PackRef{Pack: c.count("pack", f.GetPack()), Offset: f.GetPackOffset(), Length: f.GetPackLength()}
	if len(f.GetPackDigest()) != len(out.Digest) {
		c.fail("file %q has a pack digest of %d bytes", f.GetName(), len(f.GetPackDigest()))
		return out
	}
	out.Digest = SegmentDigest(f.GetPackDigest())
	return out
}

func (c *decoder) delta(d *pb.Delta) Delta {
	if d.GetObject() == nil {
		c.fail("delta %d has no object", d.GetPosition())
	}
	return Delta{
		Position: d.GetPosition(), Object: c.object(d.GetObject()),
		Entries: d.GetEntries(), Bytes: d.GetBytes(),
		Segments: SegmentDigests(d.GetSegments()), Data: d.GetData(),
	}
}

func (c *decoder) object(o *pb.Object) Object {
	out := Object{Key: o.GetKey(), Size: o.GetSize()}
	if len(o.GetSha256()) != len(out.SHA256) {
		c.fail("object %q has a digest of %d bytes", o.GetKey(), len(o.GetSha256()))
		return out
	}
	out.SHA256 = Digest(o.GetSha256())
	return out
}
