package manifest

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// samplePacked is the sample with what it takes to read parts of its objects.
func samplePacked() *Manifest {
	m := sample()
	pack := sampleObject(40, 2, 7, ExtPack)
	b := base(m)
	b.Packs = []Object{pack}
	b.Files[0].Pack = PackRef{Pack: 1, Offset: 10, Length: 16 + 50, Digest: SegmentDigestOf([]byte("part"))}
	d := &keyed(m).Deltas[0]
	d.Object.Size = 2*SegmentSize + 1
	first, second := SegmentDigestOf([]byte("a")), SegmentDigestOf([]byte("b"))
	d.Segments = SegmentDigests(slices.Concat(first[:], second[:], first[:]))
	d.Data = 17
	return m
}

func TestPacksRoundTrip(t *testing.T) {
	want := samplePacked()
	got, err := Decode(encoded(t, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	segments := keyed(got).Deltas[0].Segments
	if segments.Len() != 3 || segments.At(1) != SegmentDigestOf([]byte("b")) {
		t.Errorf("segments are %x", string(segments))
	}
	text, err := json.Marshal(want)
	var back Manifest
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err != nil || keyed(&back).Deltas[0].Segments != segments {
		t.Errorf("as text: %v, %x", err, string(keyed(&back).Deltas[0].Segments))
	}
	for _, bad := range []string{`"0"`, `"00"`, `"xx"`} {
		if err := json.Unmarshal([]byte(bad), new(SegmentDigests)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

// A pack is kept alive by the checkpoint that refers to it, and is no part of
// the state.
func TestPacksAreNeeded(t *testing.T) {
	m := samplePacked()
	pack := base(m).Packs[0]
	if !slices.Contains(slices.Collect(m.Objects()), pack) || !slices.Contains(slices.Collect(keyed(m).NeededObjects()), pack) {
		t.Error("the pack is not among the objects that are needed")
	}
	if content := slices.Collect(keyed(m).ContentObjects()); slices.Contains(content, pack) || !slices.Contains(content, base(m).Files[0].Object) {
		t.Errorf("the state consists of %v", content)
	}
}

func TestF56_BrokenPacks(t *testing.T) {
	file := func(m *Manifest) *File { return &base(m).Files[0] }
	for name, c := range map[string]struct {
		spoil func(*Manifest)
		want  string
	}{
		"name":               {func(m *Manifest) { base(m).Packs[0].Key = "../x" }, "pack 0"},
		"of no pack":         {func(m *Manifest) { file(m).Pack.Pack = 0 }, "pack 0 of 1"},
		"of another pack":    {func(m *Manifest) { file(m).Pack.Pack = 2 }, "pack 2 of 1"},
		"negative":           {func(m *Manifest) { file(m).Pack.Pack = -1 }, "pack -1"},
		"before its pack":    {func(m *Manifest) { file(m).Pack.Offset = -1 }, "at -1"},
		"past its pack":      {func(m *Manifest) { file(m).Pack.Offset = 1 << 62 }, "of a pack"},
		"longer than a pack": {func(m *Manifest) { file(m).Pack.Length = 1 << 62 }, "of a pack"},
		"no digests":         {func(m *Manifest) { file(m).Pack.Length = 15 }, "of a pack"},
		"more than the file": {func(m *Manifest) { file(m).Object.Size = 49 }, "of a pack"},
		"of an inline file":  {func(m *Manifest) { base(m).Files[1].Pack = file(m).Pack }, "no object"},
		"a digest too few":   {func(m *Manifest) { d := &keyed(m).Deltas[0]; d.Segments = d.Segments[16:] }, "segment digests"},
		"part of a digest":   {func(m *Manifest) { d := &keyed(m).Deltas[0]; d.Segments = d.Segments[1:] }, "segment digests"},
		"negative data":      {func(m *Manifest) { keyed(m).Deltas[0].Data = -1 }, "data of -1"},
		"data past the end":  {func(m *Manifest) { keyed(m).Deltas[0].Data = 1 << 40 }, "data of"},
	} {
		m := samplePacked()
		c.spoil(m)
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}
