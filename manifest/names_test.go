package manifest

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestID_SortsAsText(t *testing.T) {
	ids := []ID{0, 1, 9, 10, 99, 100, 123456789, MaxID}
	var text []string
	for _, id := range ids {
		s := id.String()
		text = append(text, s)
		if got, err := ParseID(s); err != nil || got != id {
			t.Errorf("%q parses as %d, %v; want %d", s, got, err, id)
		}
	}
	if !slices.IsSorted(text) {
		t.Errorf("not sorted: %q", text)
	}
	for _, e := range []Epoch{0, 1, MaxEpoch} {
		if got, err := ParseEpoch(e.String()); err != nil || got != e {
			t.Errorf("%q parses as %d, %v", e, got, err)
		}
	}
}

func TestParseID_Refuses(t *testing.T) {
	for _, s := range []string{"", "1", "00000000001", "0000000000001", "+00000000001", "-00000000001", "00000000001x", "0x0000000001", "٠٠٠٠٠٠"} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("%q parses as %d", s, id)
		}
	}
	for _, s := range []string{"", "1", "00000000001", "000000000 "} {
		if e, err := ParseEpoch(s); err == nil {
			t.Errorf("%q parses as epoch %d", s, e)
		}
	}
}

func TestManifestKey(t *testing.T) {
	const want = "manifests/000000000042-0000000003.manifest"
	if got := ManifestKey(42, 3); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	id, e, err := ParseManifestKey(want)
	if err != nil || id != 42 || e != 3 {
		t.Errorf("parses as %d, %d, %v", id, e, err)
	}
	for _, s := range []string{
		"", "HEAD", "manifests/", "manifests/.manifest", want + "x", "x" + want, strings.TrimSuffix(want, ".manifest"),
		"manifests/000000000042.manifest", "manifests/42-3.manifest", "manifests/000000000042-0000000003-1.manifest",
		"manifests/000000000042_0000000003.manifest",
	} {
		if id, e, err := ParseManifestKey(s); err == nil {
			t.Errorf("%q parses as %d, %d", s, id, e)
		}
	}
}

func TestDataName(t *testing.T) {
	const want = "data/9c/000000000042-0000000003-word.count_1-17-5.sst"
	n := DataName{ID: 42, Epoch: 3, Operator: "word.count_1", Subtask: 17, N: 5, Ext: ExtSST}
	if got := n.Key(); got[len("data/xx"):] != want[len("data/xx"):] {
		t.Errorf("got %q, want %q but for the hash", got, want)
	}
	for _, n := range []DataName{
		n, {Operator: "a", Ext: ExtPack}, {ID: MaxID, Epoch: MaxEpoch, Operator: strings.Repeat("z", 100), Subtask: 32767, N: 1<<64 - 1, Ext: ExtChan},
	} {
		if got, err := ParseDataKey(n.Key()); err != nil || got != n {
			t.Errorf("%q parses as %+v, %v; want %+v", n.Key(), got, err, n)
		}
	}
}

func TestDataName_Refuses(t *testing.T) {
	key := DataName{ID: 42, Epoch: 3, Operator: "op", Subtask: 7, N: 5, Ext: ExtSST}.Key()
	rest := key[len("data/xx/"):]
	respelled := func(s string) string { return DataPrefix + hashHex(s) + "/" + s }
	for _, s := range []string{
		"", "data/", "data/x", "data//", key + "x", "x" + key, "/" + key, strings.Replace(key, ".sst", ".exe", 1),
		"data/zz/" + rest, "data/" + rest,
		respelled(strings.Replace(rest, "-7-", "-07-", 1)), respelled(strings.Replace(rest, "-7-", "-+7-", 1)),
		respelled(strings.Replace(rest, "-7-", "--7-", 1)), respelled(strings.Replace(rest, "-5.", "-05.", 1)),
		respelled(strings.Replace(rest, "-op-", "--", 1)), respelled(strings.Replace(rest, "-op-", "-..-", 1)),
		respelled(strings.Replace(rest, "-op-", "-a/b-", 1)), respelled(strings.Replace(rest, "-op-", "-a-b-", 1)),
		respelled(strings.Replace(rest, "-5.", "-99999999999999999999.", 1)),
	} {
		if n, err := ParseDataKey(s); err == nil {
			t.Errorf("%q parses as %+v", s, n)
		}
	}
}

func TestPackName(t *testing.T) {
	const want = "data/e5/000000000042-0000000003-5.parts"
	n := PackName{ID: 42, Epoch: 3, N: 5}
	if got := n.Key(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, n := range []PackName{n, {}, {ID: MaxID, Epoch: MaxEpoch, N: 1<<64 - 1}} {
		if got, err := ParsePackKey(n.Key()); err != nil || got != n {
			t.Errorf("%q parses as %+v, %v; want %+v", n.Key(), got, err, n)
		}
		if got, err := ParseDataKey(n.Key()); err == nil {
			t.Errorf("pack %q parses as a task's object %+v", n.Key(), got)
		}
		if id, e, err := WrittenFor(n.Key()); err != nil || id != n.ID || e != n.Epoch {
			t.Errorf("%q was written for %d, %d, %v", n.Key(), id, e, err)
		}
	}
	data := DataName{ID: 7, Epoch: 2, Operator: "op", N: 1, Ext: ExtPack}.Key()
	if got, err := ParsePackKey(data); err == nil {
		t.Errorf("a task's object %q parses as pack %+v", data, got)
	}
	if id, e, err := WrittenFor(data); err != nil || id != 7 || e != 2 {
		t.Errorf("%q was written for %d, %d, %v", data, id, e, err)
	}
	rest := want[len("data/xx/"):]
	respelled := func(s string) string { return DataPrefix + hashHex(s) + "/" + s }
	for _, s := range []string{
		"", "data/", "data/zz/" + rest, "data/" + rest, want + "x", "/" + want,
		respelled(strings.Replace(rest, "-5.", "-05.", 1)), respelled(strings.Replace(rest, "-5.", "-+5.", 1)),
		respelled(strings.Replace(rest, "-5.", "-.", 1)), respelled(strings.Replace(rest, "-5.", ".", 1)),
		respelled(strings.Replace(rest, "-5.", "-5-5.", 1)), respelled(strings.Replace(rest, ".parts", ".pack", 1)),
	} {
		if n, err := ParsePackKey(s); err == nil {
			t.Errorf("%q parses as %+v", s, n)
		}
	}
}

func TestPinKey(t *testing.T) {
	const want = "pins/000000000042-ABC123"
	if got := PinKey(42, "ABC123"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	id, nonce, err := ParsePinKey(want)
	if err != nil || id != 42 || nonce != "ABC123" {
		t.Errorf("parses as %d, %q, %v", id, nonce, err)
	}
	for _, s := range []string{"", "pins/", "pins/000000000042", "pins/000000000042-", "pins/42-x", "probe/000000000042-x"} {
		if id, nonce, err := ParsePinKey(s); err == nil {
			t.Errorf("%q parses as %d, %q", s, id, nonce)
		}
	}
}

func TestValidNames(t *testing.T) {
	for _, s := range []string{"a", "A.b_9", "...", strings.Repeat("x", 100)} {
		if !ValidUID(s) {
			t.Errorf("uid %q is refused", s)
		}
	}
	for _, s := range []string{"", ".", "..", "a-b", "a/b", "a b", "é", "a\n", strings.Repeat("x", 101)} {
		if ValidUID(s) {
			t.Errorf("uid %q is accepted", s)
		}
	}
	for _, s := range []string{"a", "word-count", "a.b", "-"} {
		if !ValidJob(s) {
			t.Errorf("job %q is refused", s)
		}
	}
	for _, s := range []string{"", ".tmp", "..", "a/b", "a b", strings.Repeat("x", 101)} {
		if ValidJob(s) {
			t.Errorf("job %q is accepted", s)
		}
	}
}

func TestDigest_Text(t *testing.T) {
	d := sampleObject(1, 1, 1, ExtSST).SHA256
	text, err := d.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var got Digest
	if err := got.UnmarshalText(text); err != nil || got != d {
		t.Errorf("%s comes back as %s, %v", d, got, err)
	}
	for _, s := range []string{"", "00", strings.ToUpper(string(text)), string(text[1:]) + "g", string(text) + "0"} {
		if err := got.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q parses", s)
		}
	}
}

func TestKeyGroupRange(t *testing.T) {
	r := KeyGroupRange{10, 20}
	if got, ok := r.Intersect(KeyGroupRange{15, 30}); !ok || got != (KeyGroupRange{15, 20}) {
		t.Errorf("intersection is %s, %v", got, ok)
	}
	if _, ok := r.Intersect(KeyGroupRange{21, 30}); ok {
		t.Error("neighbours intersect")
	}
	if !r.Contains(10) || !r.Contains(20) || r.Contains(9) || r.Contains(21) {
		t.Error("the bounds are not inclusive")
	}
	if !r.Covers(r) || r.Covers(KeyGroupRange{10, 21}) || r.Covers(KeyGroupRange{9, 20}) {
		t.Error("Covers is wrong at a bound")
	}
}

func TestErrors_Match(t *testing.T) {
	err := error(&CorruptError{Key: "data/x", Err: ErrOverflow})
	if !errors.Is(err, ErrCorrupt) || !errors.Is(err, ErrOverflow) || errors.Is(err, ErrNewerFormat) {
		t.Errorf("%v matches the wrong errors", err)
	}
}

// FuzzParse holds every parser to one spelling a name.
func FuzzParse(f *testing.F) {
	f.Add(ManifestKey(42, 3))
	f.Add(PinKey(42, "ABC"))
	f.Add(DataName{ID: 42, Epoch: 3, Operator: "op", Subtask: 7, N: 5, Ext: ExtSST}.Key())
	f.Add("000000000042")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil && id.String() != s {
			t.Errorf("id %q is respelled %q", s, id)
		}
		if e, err := ParseEpoch(s); err == nil && e.String() != s {
			t.Errorf("epoch %q is respelled %q", s, e)
		}
		if id, e, err := ParseManifestKey(s); err == nil && ManifestKey(id, e) != s {
			t.Errorf("manifest %q is respelled %q", s, ManifestKey(id, e))
		}
		if n, err := ParseDataKey(s); err == nil && n.Key() != s {
			t.Errorf("data object %q is respelled %q", s, n.Key())
		}
		if n, err := ParsePackKey(s); err == nil && n.Key() != s {
			t.Errorf("pack %q is respelled %q", s, n.Key())
		}
		if id, nonce, err := ParsePinKey(s); err == nil && PinKey(id, nonce) != s {
			t.Errorf("pin %q is respelled %q", s, PinKey(id, nonce))
		}
	})
}
