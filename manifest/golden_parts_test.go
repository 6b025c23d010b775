package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// goldenParts bounds make the sample refer to two packs: that of its first
// form, and one that a change of the source made.
var goldenParts = PartsOptions{Inline: 10, Pack: 1 << 20}

// sampleParts is the sample as the second of two manifests with parts, and the
// packs that it refers to.
func sampleParts(t *testing.T) (data []byte, s *packStore, m *Manifest) {
	t.Helper()
	s = newPackStore()
	before := sample()
	before.ID, before.Base = 41, 40
	before.Operators[0].Tasks[0] = Task{Keyed: &KeyedState{KeyGroups: KeyGroupRange{0, 63}}}
	before.Operators[0].Tasks[1] = sampleSecond()
	_, base := encodeWhole(t, before, nil, goldenParts, s)
	m = sample()
	m.Operators[0].Tasks[1] = sampleSecond()
	data, o := encodeWhole(t, m, base, goldenParts, s)
	m.Packs = o.Packs()
	return data, s, m
}

// sampleSecond is a subtask that is too large to stand in the manifest.
func sampleSecond() Task {
	return Task{Index: 1, Stats: sampleStats(), Keyed: &KeyedState{
		KeyGroups: KeyGroupRange{64, 127}, Deltas: []Delta{sampleDelta(1, 40, 1, 8), sampleDelta(2, 40, 1, 9)},
	}}
}

// TestF53_GoldenParts reads a manifest and its packs as they were stored once.
func TestF53_GoldenParts(t *testing.T) {
	stored, dump := filepath.Join("testdata", "parts-v1.golden"), filepath.Join("testdata", "parts-v1.txt")
	packFile := func(i int) string { return filepath.Join("testdata", fmt.Sprintf("parts-v1.%d.parts", i)) }
	data, s, want := sampleParts(t)
	if *update {
		text, err := json.MarshalIndent(want, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, stored, data)
		writeFile(t, dump, append(text, '\n'))
		for i, p := range want.Packs {
			writeFile(t, packFile(i), s.packs[p.Key])
		}
	}
	data, err := os.ReadFile(stored)
	if err != nil {
		t.Fatal(err)
	}
	o, err := DecodeOutline(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Packs()) != 2 {
		t.Fatalf("%d packs, want 2: the case tests too little", len(o.Packs()))
	}
	kept := newPackStore()
	for i, p := range o.Packs() {
		if kept.packs[p.Key], err = os.ReadFile(packFile(i)); err != nil {
			t.Fatal(err)
		}
	}
	want.Packs = o.Packs() // of the compression that was used then
	got := decodeWhole(t, data, kept)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("golden files read as %+v", got)
	}
	text, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	now, err := json.MarshalIndent(got, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, append(now, '\n')) {
		t.Errorf("the text beside the golden files is not what they hold; run with -update")
	}
}
