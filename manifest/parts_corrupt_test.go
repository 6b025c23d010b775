package manifest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/ckpt-io/ckpt/manifest/internal/pb"
)

// partsProto is the stored form of sampleParts, to be spoiled.
func partsProto(t testing.TB, data []byte) *pb.Manifest {
	t.Helper()
	p, err := decodeBody(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func storedProto(t testing.TB, p *pb.Manifest) []byte {
	t.Helper()
	data, err := encodeProto(p)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestF56_BrokenReferences gives the decoder manifests whose references cannot
// be right: they are refused before any pack is read.
func TestF56_BrokenReferences(t *testing.T) {
	data, _, _ := sampleParts(t)
	for _, c := range []struct {
		name  string
		spoil func(m *pb.Manifest, parts []*pb.PartRef)
		want  string // in the error
	}{
		{"feature not announced", func(m *pb.Manifest, _ []*pb.PartRef) { m.RequiredFeatures = nil }, "feature"},
		{"only another feature announced", func(m *pb.Manifest, _ []*pb.PartRef) { m.RequiredFeatures = []string{featureOperatorState} }, "feature"},
		{"feature without packs", func(m *pb.Manifest, _ []*pb.PartRef) { m.Packs = nil }, "in pack"},
		{"pack that does not exist", func(_ *pb.Manifest, p []*pb.PartRef) { p[0].Pack = 2 }, "in pack"},
		{"pack out of range", func(_ *pb.Manifest, p []*pb.PartRef) { p[0].Pack = math.MaxUint32 }, "out of range"},
		{"pack without parts", func(m *pb.Manifest, _ []*pb.PartRef) {
			m.Packs = append(m.Packs, &pb.Object{Key: PackName{ID: 41, Epoch: 1, N: math.MaxUint64}.Key(), Size: 100, Sha256: make([]byte, 32)})
			slices.SortFunc(m.Packs, func(a, b *pb.Object) int { return strings.Compare(a.Key, b.Key) })
		}, "pack"},
		{"pack twice", func(m *pb.Manifest, _ []*pb.PartRef) { m.Packs[1] = m.Packs[0] }, "repeated"},
		{"pack that is an object of a task", func(m *pb.Manifest, _ []*pb.PartRef) { m.Packs[0].Key = sampleObject(1, 1, 1, ExtPack).Key }, "pack name"},
		{"pack elsewhere", func(m *pb.Manifest, _ []*pb.PartRef) { m.Packs[0].Key = "../HEAD" }, "pack name"},
		{"pack of the future", func(m *pb.Manifest, _ []*pb.PartRef) { m.Packs[0].Key = PackName{ID: 99, Epoch: 1}.Key() }, "later"},
		{"pack of negative size", func(m *pb.Manifest, _ []*pb.PartRef) { m.Packs[0].Size = -1 }, "size"},
		{"pack too large", func(m *pb.Manifest, _ []*pb.PartRef) { m.Packs[0].Size = math.MaxInt64 }, "size"},
		{"short digest of a pack", func(m *pb.Manifest, _ []*pb.PartRef) { m.Packs[0].Sha256 = []byte{1} }, "digest"},
		{"short digest of a part", func(_ *pb.Manifest, p []*pb.PartRef) { p[0].Sha256 = nil }, "digest"},
		{"part before the content", func(_ *pb.Manifest, p []*pb.PartRef) { p[0].Offset-- }, "outside"},
		{"part of no bytes", func(_ *pb.Manifest, p []*pb.PartRef) { p[0].Size = 0 }, "outside"},
		{"part past the end", func(_ *pb.Manifest, p []*pb.PartRef) { p[0].Size++ }, "outside"},
		{"part at the end of numbers", func(_ *pb.Manifest, p []*pb.PartRef) { p[0].Offset = math.MaxInt64 }, "outside"},
		{"sizes that overflow", func(_ *pb.Manifest, p []*pb.PartRef) { p[0].Offset, p[0].Size = 30, math.MaxInt64 }, "outside"},
		{"negative place", func(_ *pb.Manifest, p []*pb.PartRef) { p[0].Offset = 1 << 63 }, "out of range"},
		{"negative size", func(_ *pb.Manifest, p []*pb.PartRef) { p[0].Size = 1 << 63 }, "out of range"},
		{"part upon another", func(_ *pb.Manifest, p []*pb.PartRef) {
			p[1].Pack, p[1].Offset, p[1].Size = p[0].Pack, p[0].Offset, p[0].Size
		}, "pack"},
		{"subtask twice", func(_ *pb.Manifest, p []*pb.PartRef) { p[1].Index = p[0].Index }, "repeated"},
		{"subtask here and there", func(m *pb.Manifest, _ []*pb.PartRef) {
			m.Operators[0].Tasks = append(m.Operators[0].Tasks, &pb.Task{})
		}, "tasks for parallelism"},
		{"subtask nowhere", func(m *pb.Manifest, p []*pb.PartRef) { m.Operators[0].Parts = p[:1] }, "tasks for parallelism"},
		{"figures of some", func(m *pb.Manifest, _ []*pb.PartRef) { m.Operators[0].Stats = m.Operators[0].Stats[:1] }, "figures"},
		{"no such figures", func(m *pb.Manifest, _ []*pb.PartRef) { m.Operators[1].Stats = []*pb.TaskStats{{}, {}} }, "figures"},
		{"no job", func(m *pb.Manifest, _ []*pb.PartRef) { m.Job = "" }, "job"},
		{"operators out of order", func(m *pb.Manifest, _ []*pb.PartRef) { m.Operators[1].Uid = "a" }, "out of order"},
		{"operator's max parallelism", func(m *pb.Manifest, _ []*pb.PartRef) { m.Operators[0].MaxParallelism = 0 }, "max parallelism"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := partsProto(t, data)
			if len(p.Operators[0].Parts) != 2 {
				t.Fatalf("%d references", len(p.Operators[0].Parts))
			}
			c.spoil(p, p.Operators[0].Parts)
			_, err := DecodeOutline(storedProto(t, p))
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want ErrCorrupt with %q", err, c.want)
			}
		})
	}
}

// TestF54_FeatureOfParts is what a version that does not know of parts sees: a
// feature it does not know is refused, whatever else stands there.
func TestF54_FeatureOfParts(t *testing.T) {
	data, _, _ := sampleParts(t)
	p := partsProto(t, data)
	if !slices.Equal(p.RequiredFeatures, []string{FeatureParts}) {
		t.Errorf("features %q, want %q", p.RequiredFeatures, FeatureParts)
	}
	p.RequiredFeatures = append(p.RequiredFeatures, "more")
	var newer *NewerFormatError
	if _, err := DecodeOutline(storedProto(t, p)); !errors.As(err, &newer) || newer.Feature != "more" {
		t.Errorf("got %v, want a NewerFormatError that names the feature", err)
	}
}

// readAll reads every task, or fails as Tasks does.
func readAll(data []byte, fetch func(Object) ([]byte, error)) error {
	o, err := DecodeOutline(data)
	if err != nil {
		return err
	}
	_, err = o.Whole(fetch)
	return err
}

// TestF51_DamagedPack flips every bit of a pack and cuts it everywhere: each is
// found, and the error names the pack.
func TestF51_DamagedPack(t *testing.T) {
	data, s, m := sampleParts(t)
	key := m.Packs[0].Key
	check := func(pack []byte, what string, at int) {
		t.Helper()
		bad := &packStore{packs: map[string][]byte{key: pack, m.Packs[1].Key: s.packs[m.Packs[1].Key]}}
		err := readAll(data, bad.fetch)
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.Key != key || !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s at %d: got %v, want a CorruptError that names %s", what, at, err, key)
		}
	}
	whole := s.packs[key]
	for i := range whole {
		check(whole[:i], "cut", i)
		for bit := range 8 {
			pack := slices.Clone(whole)
			pack[i] ^= 1 << bit
			check(pack, "bit flipped", i)
		}
	}
	check(append(slices.Clone(whole), 0), "byte too many", len(whole))
	check(s.packs[m.Packs[1].Key], "other pack", 0)
	if err := readAll(data, (&packStore{}).fetch); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without packs: %v, want the error of fetch", err)
	}
}

// resealedPack stores parts as no encoder does, and a manifest that refers to
// them in the place of the sample's first.
func resealedPack(t *testing.T, stored []byte, digest Digest) error {
	t.Helper()
	data, s, m := sampleParts(t)
	p := partsProto(t, data)
	ref := p.Operators[0].Parts[0]
	pack := frame(packMagic, codecStored, stored)
	sum := sha256.Sum256(pack)
	key := m.Packs[ref.Pack].Key
	p.Packs[ref.Pack].Size, p.Packs[ref.Pack].Sha256 = int64(len(pack)), sum[:]
	ref.Offset, ref.Size, ref.Sha256 = uint64(headerSize), uint64(len(stored)), digest[:]
	s.packs[key] = pack
	err := readAll(storedProto(t, p), s.fetch)
	if corrupt, ok := errors.AsType[*CorruptError](err); ok && corrupt.Key != key {
		t.Errorf("the error names %s, not %s", corrupt.Key, key)
	}
	return err
}

func TestF56_BrokenParts(t *testing.T) {
	encode := func(p *pb.Task) []byte {
		b, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	part := func(spoil func(*Task)) []byte {
		task := Task{Keyed: sampleRescaled(), Reserved: []Object{sampleObject(42, 3, 9, ExtSST)}}
		spoil(&task)
		p := taskToProto(&task)
		if task.Stats == (TaskStats{}) {
			p.Stats = nil
		}
		return append([]byte{codecStored}, encode(p)...)
	}
	if err := resealedPack(t, part(func(*Task) {}), sha256.Sum256(part(func(*Task) {})[1:])); err != nil {
		t.Fatalf("the part is refused before it is spoiled: %v", err)
	}
	for _, c := range []struct {
		name string
		part []byte
		want string
	}{
		{"other subtask", part(func(t *Task) { t.Index = 1 }), "that of 1"},
		{"figures", part(func(t *Task) { t.Stats = sampleStats() }), "figures"},
		{"no keyed state", part(func(t *Task) { t.Keyed = nil }), "keyed state"},
		{"key groups of a neighbour", part(func(t *Task) { t.Keyed.KeyGroups.Last = 64 }), "key groups"},
		{"object of the future", part(func(t *Task) { t.Reserved[0].Key = sampleObject(43, 3, 9, ExtSST).Key }), "later"},
		{"object of another job", part(func(t *Task) { t.Reserved[0].Key = "../x" }), "name"},
		{"a pack as object", part(func(t *Task) { t.Reserved[0].Key = PackName{ID: 1, Epoch: 1}.Key() }), "name"},
		{"object of two sizes", part(func(t *Task) { t.Reserved[0] = t.Keyed.Deltas[0].Object; t.Reserved[0].Size++ }), "two sizes"},
		{"not a task", []byte{codecStored, 0xff}, "subtask 0"},
		{"not compressed", []byte{codecZstd, 1, 2, 3}, "decompress"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := resealedPack(t, c.part, sha256.Sum256(c.part[1:]))
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want ErrCorrupt with %q", err, c.want)
			}
		})
	}
	t.Run("other digest", func(t *testing.T) {
		if err := resealedPack(t, part(func(*Task) {}), Digest{1}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "digest") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("unknown codec", func(t *testing.T) {
		if err := resealedPack(t, []byte{77, 1}, Digest{}); !errors.Is(err, ErrNewerFormat) || errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v, want ErrNewerFormat", err)
		}
	})
}

// TestF55_PartBombs gives the decoder small parts that unpack to much.
func TestF55_PartBombs(t *testing.T) {
	enc, err := newEncoder()
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	long := bytes.Repeat([]byte{0}, 64<<20)
	handle := []byte{0x2a, 0} // an empty one
	for name, body := range map[string][]byte{"long": long, "many elements": bytes.Repeat(handle, 1<<20)} {
		t.Run(name, func(t *testing.T) {
			stored := append([]byte{codecZstd}, enc.EncodeAll(body, nil)...)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := resealedPack(t, stored, sha256.Sum256(body))
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
				t.Errorf("%d bytes took %d MiB to refuse", len(stored), n>>20)
			}
		})
	}
}

// TestEncodeParts_WhatCompressesTooWell packs tasks that a decoder would take
// for bombs if they were compressed.
func TestEncodeParts_WhatCompressesTooWell(t *testing.T) {
	m := sample()
	m.Operators[2].Tasks[0].Handles = slices.Repeat([][]byte{nil}, 100_000)
	m.Operators[1].Tasks[0].Splits[0].Position = make([]byte, 1<<20)
	s := newPackStore()
	data, _ := encodeWhole(t, m, nil, goldenParts, s)
	got := decodeWhole(t, data, s)
	if len(got.Operators[2].Tasks[0].Handles) != 100_000 || len(got.Operators[1].Tasks[0].Splits[0].Position) != 1<<20 {
		t.Error("it came back changed")
	}
}

// FuzzOutline gets past the digest of a manifest with parts.
func FuzzOutline(f *testing.F) {
	p := toProto(sample())
	for i, o := range p.Operators {
		sum := sha256.Sum256(nil)
		o.Tasks = nil
		for j := range o.Parallelism {
			o.Stats = append(o.Stats, &pb.TaskStats{Total: 1})
			o.Parts = append(o.Parts, &pb.PartRef{Index: j, Offset: uint64(headerSize + 10*i + 5*int(j)), Size: 5, Sha256: sum[:]})
		}
	}
	p.RequiredFeatures = []string{FeatureParts}
	p.Packs = []*pb.Object{{Key: PackName{ID: 1, Epoch: 1}.Key(), Size: 200, Sha256: make([]byte, 32)}}
	body, err := proto.Marshal(p)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := DecodeOutline(frame(magic, codecStored, body)); err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := DecodeOutline(frame(magic, codecStored, body))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		for pack, refs := range o.byPack() {
			for _, r := range refs {
				if size := o.packs[pack].Size; r.offset < 0 || r.size < 1 || r.offset+r.size < 0 || r.offset+r.size > size {
					t.Errorf("part at %d of %d bytes in a pack of %d", r.offset, r.size, size)
				}
			}
		}
		gone := errors.New("gone")
		if _, err := o.Whole(func(Object) ([]byte, error) { return nil, gone }); len(o.packs) > 0 && !errors.Is(err, gone) && !errors.Is(err, ErrCorrupt) {
			t.Errorf("without packs: %v", err)
		}
	})
}

// FuzzPart gets past the digests of a pack, to what is in a part.
func FuzzPart(f *testing.F) {
	body, err := proto.Marshal(&pb.Task{Keyed: keyedToProto(sampleRescaled())})
	if err != nil {
		f.Fatal(err)
	}
	var b packBuilder
	if _, _, err := b.add(bytes.Repeat(body, 4)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.data)
	f.Add(append([]byte{codecStored}, body...))
	f.Fuzz(func(t *testing.T, stored []byte) {
		var d partDecoder
		body, err := d.body(stored)
		if err != nil {
			return
		}
		task, err := d.decode(stored, ref{digest: sha256.Sum256(body)})
		if err != nil {
			return
		}
		again, err := proto.MarshalOptions{Deterministic: true}.Marshal(taskToProto(task))
		if err != nil || len(again) > 2*len(body)+1000 {
			t.Errorf("%d bytes decode to a task of %d, %v", len(body), len(again), err)
		}
	})
}
