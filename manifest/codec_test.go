package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ckpt-io/ckpt/manifest/internal/pb"
)

var update = flag.Bool("update", false, "write the golden files anew")

func encoded(t testing.TB, m *Manifest) []byte {
	t.Helper()
	data, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// resealed frames a body that Encode would not write.
func resealed(t testing.TB, body []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return frame(magic, codecZstd, enc.EncodeAll(body, nil))
}

// seal puts the right digest at the end of a changed frame.
func seal(data []byte) []byte {
	sum := sha256.Sum256(data[:len(data)-sha256.Size])
	return append(data[:len(data)-sha256.Size:len(data)-sha256.Size], sum[:]...)
}

func TestRoundTrip(t *testing.T) {
	empty := sample()
	empty.Operators, empty.Base, empty.Stats = nil, 0, Stats{}
	timeless := sample()
	timeless.Time = time.Time{}
	whole := sample()
	whole.Operators[0].Tasks[1].Keyed.Pieces = []Piece{{KeyGroups: KeyGroupRange{64, 127}, Base: &Base{Whole: true}}}
	encrypted := sample()
	encrypted.KeyIDs = []string{"0123456789abcdef", "fedcba9876543210"}
	stated := sample()
	stated.Operators[0].Tasks[1].OperatorStates = sampleOperatorStates()
	for name, m := range map[string]*Manifest{
		"full": sample(), "empty": empty, "without time": timeless, "whole": whole, "encrypted": encrypted,
		"operator state": stated,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode(encoded(t, m))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, m) {
				t.Errorf("got  %+v\nwant %+v", got, m)
			}
		})
	}
}

// A reader that does not know operator states must not go on without them,
// wherever they stand.
func TestOperatorStateIsRequired(t *testing.T) {
	for _, has := range []bool{false, true} {
		for name, opts := range map[string]PartsOptions{"whole": {}, "in parts": {Inline: 1}} {
			m := sample()
			if has {
				m.Operators[0].Tasks[1].OperatorStates = sampleOperatorStates()
			}
			s := newPackStore()
			data, outline, err := EncodePacked(m, nil, opts, s.put)
			if err != nil {
				t.Fatal(err)
			}
			p, err := decodeBody(data)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			if has {
				want = append(want, featureOperatorState)
			}
			if outline != nil {
				want = append(want, FeatureParts)
			}
			if got := p.GetRequiredFeatures(); !slices.Equal(got, want) || (outline != nil) != (opts.Inline > 0) {
				t.Errorf("%s, operator states %t: features %q, want %q", name, has, got, want)
			}
			if got := decodeWhole(t, data, s); !reflect.DeepEqual(got.Operators, m.Operators) {
				t.Errorf("%s, operator states %t: came back changed", name, has)
			}
		}
	}
}

// A manifest with a required feature that is not that of parts is validated as a
// whole one.
func TestF56_BrokenRulesBesideOperatorState(t *testing.T) {
	m := sample()
	m.Operators[0].Tasks[1].OperatorStates = sampleOperatorStates()
	m.Operators[0].Tasks[1].Keyed.KeyGroups.First--
	data, err := encodeProto(toProto(m))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(data); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "do not follow") {
		t.Errorf("got %v", err)
	}
}

func TestEncode_EqualBytes(t *testing.T) {
	if !bytes.Equal(encoded(t, sample()), encoded(t, sample())) {
		t.Error("two encodings of one manifest differ")
	}
}

func TestDecode_SharesNothing(t *testing.T) {
	data := encoded(t, sample())
	m, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if !reflect.DeepEqual(m, sample()) {
		t.Error("the manifest changed with the bytes it was read from")
	}
}

func TestF51_EveryTruncationAndBitFlip(t *testing.T) {
	data := encoded(t, sample())
	for n := range data {
		if _, err := Decode(data[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(data), err)
		}
	}
	if _, err := Decode(append(slices.Clone(data), 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with a byte too many: %v", err)
	}
	for i := range data {
		for bit := range 8 {
			data[i] ^= 1 << bit
			if _, err := Decode(data); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("bit %d of byte %d flipped: %v", bit, i, err)
			}
			data[i] ^= 1 << bit
		}
	}
}

func TestF52_NewerFormat(t *testing.T) {
	data := encoded(t, sample())
	binary.BigEndian.PutUint16(data[len(magic):], Format+6)
	_, err := Decode(seal(data))
	var newer *NewerFormatError
	if !errors.As(err, &newer) || newer.Have != Format || newer.Want != Format+6 {
		t.Fatalf("got %v, want a NewerFormatError with both numbers", err)
	}
	if !errors.Is(err, ErrNewerFormat) || errors.Is(err, ErrCorrupt) {
		t.Errorf("%v must be ErrNewerFormat and not ErrCorrupt", err)
	}
}

func TestF53_GoldenFiles(t *testing.T) {
	stored, dump := filepath.Join("testdata", "manifest-v1.golden"), filepath.Join("testdata", "manifest-v1.txt")
	want, err := json.MarshalIndent(sample(), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		writeFile(t, stored, encoded(t, sample()))
		writeFile(t, dump, want)
	}
	data, err := os.ReadFile(stored)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, sample()) {
		t.Errorf("golden file reads as %+v", m)
	}
	text, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("the text beside the golden file is not what it holds; run with -update")
	}
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestF54_WhatThisVersionDoesNotKnow(t *testing.T) {
	body := func(p *pb.Manifest) []byte {
		b, err := proto.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	t.Run("optional field", func(t *testing.T) {
		b := protowire.AppendTag(body(toProto(sample())), 1999, protowire.BytesType)
		b = protowire.AppendString(b, "from the future")
		m, err := Decode(resealed(t, b))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(m, sample()) {
			t.Errorf("got %+v", m)
		}
	})
	t.Run("required feature", func(t *testing.T) {
		p := toProto(sample())
		p.RequiredFeatures = []string{"channel-state"}
		_, err := Decode(resealed(t, body(p)))
		var newer *NewerFormatError
		if !errors.As(err, &newer) || newer.Feature != "channel-state" {
			t.Errorf("got %v, want a NewerFormatError that names the feature", err)
		}
	})
	t.Run("codec", func(t *testing.T) {
		data := encoded(t, sample())
		binary.BigEndian.PutUint16(data[len(magic)+2:], 77)
		if _, err := Decode(seal(data)); !errors.Is(err, ErrNewerFormat) {
			t.Errorf("got %v, want ErrNewerFormat", err)
		}
	})
}

// TestDecode_ValidatesToo gives the decoder what Encode would refuse.
func TestDecode_ValidatesToo(t *testing.T) {
	m := sample()
	m.Operators[0].Tasks[1].Keyed.KeyGroups.First++
	body, err := proto.Marshal(toProto(m))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(resealed(t, body)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a hole in the key groups: %v, want ErrCorrupt", err)
	}
	data := encoded(t, sample())
	data[headerSize-1]--
	if _, err := Decode(seal(data)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a wrong length: %v, want ErrCorrupt", err)
	}
}

func TestDecode_FormatZero(t *testing.T) {
	data := encoded(t, sample())
	binary.BigEndian.PutUint16(data[len(magic):], 0)
	if _, err := Decode(seal(data)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

// TestF55_Bombs gives the decoder small manifests that unpack to much, and
// measures what it allocates for them.
func TestF55_Bombs(t *testing.T) {
	const limit = 64 << 20
	for name, data := range map[string][]byte{
		"long body":     longBomb(t, 512<<20, true),
		"undeclared":    longBomb(t, 512<<20, false),
		"many elements": manyBomb(t, 7<<20),
	} {
		t.Run(name, func(t *testing.T) {
			if len(data) > 200<<10 {
				t.Fatalf("the bomb has %d bytes", len(data))
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Decode(data)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > limit {
				t.Errorf("%d bytes took %d MiB to refuse", len(data), n>>20)
			}
		})
	}
}

// longBomb is a manifest with one unknown field of n zeros.
func longBomb(t *testing.T, n int, declared bool) []byte {
	t.Helper()
	head := protowire.AppendTag(nil, 1999, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(n))
	var stored bytes.Buffer
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if declared {
		enc.ResetContentSize(&stored, int64(len(head)+n))
	} else {
		enc.Reset(&stored)
	}
	zeros := make([]byte, 1<<20)
	for _, chunk := range append([][]byte{head}, slices.Repeat([][]byte{zeros}, n/len(zeros))...) {
		if _, err := enc.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return frame(magic, codecZstd, stored.Bytes())
}

// manyBomb is a manifest with n operators of two bytes each.
func manyBomb(t *testing.T, n int) []byte {
	t.Helper()
	operator := protowire.AppendTag(nil, 9, protowire.BytesType)
	operator = protowire.AppendBytes(operator, nil)
	return resealed(t, bytes.Repeat(operator, n))
}

// TestEncode_WhatCompressesTooWell stores such a manifest uncompressed, so
// that the bounds of the decoder never hit an honest one.
func TestEncode_WhatCompressesTooWell(t *testing.T) {
	m := sample()
	files := make([]File, 80_000)
	for i := range files {
		files[i] = File{Name: fmt.Sprintf("%06d.sst", i), Object: sampleObject(1, 1, 1, ExtSST)}
	}
	m.Operators[0].Tasks[1].Keyed.Pieces = []Piece{{KeyGroups: KeyGroupRange{64, 127}, Base: &Base{Position: 1, Files: files}}}
	data := encoded(t, m)
	if codec := binary.BigEndian.Uint16(data[len(magic)+2:]); codec != codecStored {
		t.Fatalf("codec %d for %d bytes: the case tests nothing", codec, len(data))
	}
	got, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, m) {
		t.Error("it came back changed")
	}
}

func TestEncode_RefusesWhatDecodeWould(t *testing.T) {
	m := sample()
	m.Job = ""
	if _, err := Encode(m); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encoded(f, sample()))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewerFormat) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		again, err := Decode(encoded(t, m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v comes back as %+v, %v", m, again, err)
		}
	})
}

// FuzzBody gets past the digest, to what is behind it.
func FuzzBody(f *testing.F) {
	body, err := proto.Marshal(toProto(sample()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := Decode(frame(magic, codecStored, body))
		if err != nil {
			return
		}
		again, err := Decode(encoded(t, m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v comes back as %+v, %v", m, again, err)
		}
	})
}
