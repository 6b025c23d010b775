package manifest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestValidate_Sample(t *testing.T) {
	if err := sample().Validate(); err != nil {
		t.Fatal(err)
	}
}

// keyed and base are the parts of the sample that most cases break.
func keyed(m *Manifest) *KeyedState { return m.Operators[0].Tasks[0].Keyed }
func base(m *Manifest) *Base        { return keyed(m).Pieces[0].Base }

// states gives a task of the sample operator states.
func states(m *Manifest) []OperatorState {
	m.Operators[0].Tasks[1].OperatorStates = sampleOperatorStates()
	return m.Operators[0].Tasks[1].OperatorStates
}

func TestF56_BrokenRules(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Manifest)
		want  string // in the error
	}{
		{"no job", func(m *Manifest) { m.Job = "" }, "job name"},
		{"job of another folder", func(m *Manifest) { m.Job = "../x" }, "job name"},
		{"no uuid", func(m *Manifest) { m.JobUUID = "" }, "uuid"},
		{"id 0", func(m *Manifest) { m.ID = 0 }, "id 0"},
		{"id past its width", func(m *Manifest) { m.ID = MaxID + 1 }, "does not fit"},
		{"epoch 0", func(m *Manifest) { m.Epoch = 0 }, "epoch 0"},
		{"epoch past its width", func(m *Manifest) { m.Epoch = 1<<63 - 1 }, "does not fit"},
		{"its own base", func(m *Manifest) { m.Base = m.ID }, "not below"},
		{"base of the future", func(m *Manifest) { m.Base = m.ID + 1 }, "not below"},
		{"kind", func(m *Manifest) { m.Kind = "other" }, "kind"},
		{"time", func(m *Manifest) { m.Time = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }, "time"},
		{"key id", func(m *Manifest) { m.KeyIDs = []string{"a/b"} }, "key id"},
		{"key ids out of order", func(m *Manifest) { m.KeyIDs = []string{"b", "a"} }, "key id"},
		{"too many key ids", func(m *Manifest) { m.KeyIDs = make([]string, 2000) }, "too many"},
		{"negative figure", func(m *Manifest) { m.Stats.FullBytes = -1 }, "negative"},

		{"operator twice", func(m *Manifest) { m.Operators[1] = m.Operators[0] }, "repeated"},
		{"operators out of order", func(m *Manifest) { m.Operators[0], m.Operators[1] = m.Operators[1], m.Operators[0] }, "out of order"},
		{"uid of 1 MB", func(m *Manifest) { m.Operators[2].UID = strings.Repeat("z", 1<<20) }, "uid"},
		{"uid of two dots", func(m *Manifest) { m.Operators[0].UID = ".." }, "uid"},
		{"max parallelism 0", func(m *Manifest) { m.Operators[1].MaxParallelism = 0 }, "max parallelism"},
		{"max parallelism too large", func(m *Manifest) { m.Operators[1].MaxParallelism = 1 << 20 }, "max parallelism"},
		{"more subtasks than key groups", func(m *Manifest) { m.Operators[1].Parallelism = 2 }, "parallelism"},
		{"a task too few", func(m *Manifest) { m.Operators[0].Tasks = m.Operators[0].Tasks[:1] }, "tasks"},
		{"index twice", func(m *Manifest) { m.Operators[0].Tasks[1].Index = 0 }, "subtask 0 stands at place 1"},
		{"hasher", func(m *Manifest) { m.Operators[0].Hasher = "a\x1bb" }, "hasher"},

		{"operator state without name", func(m *Manifest) { states(m)[0].Name = "" }, "invalid name"},
		{"operator state twice", func(m *Manifest) { states(m)[1].Name = "buffer" }, "repeated"},
		{"operator states out of order", func(m *Manifest) { states(m)[0].Name = "z" }, "out of order"},
		{"operator state of no mode", func(m *Manifest) { states(m)[0].Mode = "" }, "unknown mode"},
		{"B52 operator state of another mode", func(m *Manifest) { states(m)[2].Mode = "own" }, "unknown mode"},
		{"operator state of two modes", func(m *Manifest) {
			states(m)
			m.Operators[0].Tasks[0].OperatorStates = []OperatorState{{Name: "rules", Mode: ListState}}
		}, `"broadcast" here and "list" elsewhere`},

		{"no keyed state", func(m *Manifest) { m.Operators[0].Tasks[1].Keyed = nil }, "keyed"},
		{"keyed state without hasher", func(m *Manifest) { m.Operators[0].Hasher = "" }, "keyed"},
		{"key groups overlap", func(m *Manifest) { m.Operators[0].Tasks[1].Keyed.KeyGroups.First = 63 }, "do not follow"},
		{"hole in key groups", func(m *Manifest) { m.Operators[0].Tasks[1].Keyed.KeyGroups.First = 65 }, "do not follow"},
		{"key groups end early", func(m *Manifest) { m.Operators[0].Tasks[1].Keyed.KeyGroups.Last = 126 }, "end at 127"},
		{"key groups past the end", func(m *Manifest) { m.Operators[0].Tasks[1].Keyed.KeyGroups.Last = 128 }, "do not follow"},
		{"key groups inverted", func(m *Manifest) { m.Operators[0].Tasks[1].Keyed.KeyGroups.Last = 3 }, "do not follow"},
		{"piece outside its state", func(m *Manifest) { keyed(m).Pieces[1].KeyGroups.Last = 64 }, "not within"},
		{"piece inverted", func(m *Manifest) { keyed(m).Pieces[1].KeyGroups.Last = 1 }, "not within"},
		{"pieces overlap", func(m *Manifest) { keyed(m).Pieces[1].KeyGroups.First = 42 }, "another piece"},

		{"position 0", func(m *Manifest) { keyed(m).Pieces[1].Deltas[0].Position = 0 }, "position 0"},
		{"positions out of order", func(m *Manifest) { keyed(m).Deltas[1].Position = 9 }, "not above"},
		{"base ahead of its deltas", func(m *Manifest) { base(m).Position = 8 }, "not above"},
		{"own delta below the pieces'", func(m *Manifest) { keyed(m).Deltas[0].Position = 8 }, "not above"},
		{"negative delta", func(m *Manifest) { keyed(m).Deltas[0].Entries = -1 }, "negative"},

		{"file twice", func(m *Manifest) { base(m).Files[1].Name = base(m).Files[0].Name }, "repeated"},
		{"files out of order", func(m *Manifest) { base(m).Files[2].Name = "A" }, "out of order"},
		{"file too large for a manifest", func(m *Manifest) { base(m).Files[1].Inline = make([]byte, MaxInline+1) }, "too many"},
		{"file with two contents", func(m *Manifest) { base(m).Files[0].Inline = []byte{1} }, "content of its own"},

		{"whole database among others", func(m *Manifest) { base(m).Whole = true }, "whole"},
		{"whole database under deltas", func(m *Manifest) {
			m.Operators[0].Tasks[1].Keyed = &KeyedState{KeyGroups: KeyGroupRange{64, 127}, Deltas: keyed(m).Deltas,
				Pieces: []Piece{{KeyGroups: KeyGroupRange{64, 127}, Base: &Base{Whole: true}}}}
		}, "whole"},
		{"whole database clipped", func(m *Manifest) {
			m.Operators[0].Tasks[1].Keyed.Pieces = []Piece{{KeyGroups: KeyGroupRange{64, 65}, Base: &Base{Whole: true}}}
		}, "whole"},

		{"negative size", func(m *Manifest) { keyed(m).Deltas[0].Object.Size = -1 }, "size -1"},
		{"object of a later checkpoint", func(m *Manifest) { keyed(m).Deltas[0].Object = sampleObject(43, 3, 1, ExtSST) }, "later"},
		{"object of a later epoch", func(m *Manifest) { keyed(m).Deltas[0].Object = sampleObject(42, 4, 1, ExtSST) }, "later"},
		{"B36 two objects of one name", func(m *Manifest) {
			o := keyed(m).Deltas[0].Object
			o.Size++
			m.Operators[0].Tasks[1].Reserved = []Object{o}
		}, "two sizes"},

		{"split twice", func(m *Manifest) { m.Operators[1].Tasks[0].Splits[1].ID = "a.txt" }, "repeated"},
		{"split without name", func(m *Manifest) { m.Operators[1].Tasks[0].Splits[1].ID = "" }, "name"},
		{"split that is no text", func(m *Manifest) { m.Operators[1].Tasks[0].Splits[1].ID = "\xff" }, "name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := sample()
			c.spoil(m)
			err := m.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if len(err.Error()) > 4096 && !strings.Contains(c.name, "1 MB") {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestF57_F58_NamesThatLeaveTheJob(t *testing.T) {
	for _, name := range []string{
		"", ".", "..", "../x", "/etc/x", "a/b", `C:\x`, `a\b`, "a\x00b", "a\nb", "a b", "é", strings.Repeat("x", 256),
	} {
		m := sample()
		base(m).Files[1].Name = name
		if err := m.Validate(); err == nil {
			t.Errorf("file name %q is accepted", name)
		}
	}
	t.Run("case-folding twins", func(t *testing.T) {
		m := sample()
		base(m).Files[0].Name, base(m).Files[1].Name = "OPTIONS-1", "options-1"
		base(m).Files = base(m).Files[:2]
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), "case") {
			t.Errorf("got %v", err)
		}
	})
	good := sampleObject(41, 3, 1, ExtSST)
	for _, key := range []string{
		"", "/" + good.Key, "../" + good.Key, "s3://other/" + good.Key, "https://example.com/x", "data/../HEAD",
		"HEAD", ManifestKey(1, 1), good.Key + "/", good.Key + "\x00", strings.ToUpper(good.Key),
	} {
		m := sample()
		o := good
		o.Key = key
		m.Operators[0].Tasks[1].Reserved = []Object{o}
		if err := m.Validate(); err == nil {
			t.Errorf("object key %q is accepted", key)
		}
	}
}

func TestValidate_IDsAreTyped(t *testing.T) {
	m := sample()
	m.Epoch = MaxEpoch + 1
	if err := m.Validate(); !errors.Is(err, ErrOverflow) {
		t.Errorf("got %v, want ErrOverflow", err)
	}
}

// BenchmarkValidate shows that the time grows as the manifest does.
func BenchmarkValidate(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		m := sample()
		deltas := make([]Delta, n)
		for i := range deltas {
			deltas[i] = sampleDelta(uint64(i)+1, 1, 1, uint64(i)+1)
		}
		m.Operators[0].Tasks[1].Keyed.Deltas = deltas
		b.Run(fmt.Sprintf("objects=%d", n), func(b *testing.B) {
			for b.Loop() {
				if err := m.Validate(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
