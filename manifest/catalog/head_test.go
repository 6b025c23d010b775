package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sampleHead() Head {
	return Head{
		Format: formatPlain, Job: job, UUID: "7c1f7dbe-6f3e-4d0e-a2b7-2f8f8a0d3c11",
		Epoch: 3, Owner: "OWNER", Swap: "SWAP", NextID: 43,
		Operators: []OperatorInfo{
			{UID: "count", MaxParallelism: 128, Hasher: "murmur3-32/1"},
			{UID: "lines", MaxParallelism: 1},
		},
		Checkpoints: []Entry{
			{ID: 40, Epoch: 2, Kind: manifest.Periodic, Time: time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC),
				ManifestSize: 1234, ManifestSHA256: manifest.Digest{1, 2, 3}, TMax: time.Second, Duration: 2 * time.Second,
				NewBytes: 10, FullBytes: 100, Objects: 7},
			{ID: 42, Epoch: 3, Kind: manifest.Stop},
		},
	}
}

// encryptedHead is of a job whose key was changed once.
func encryptedHead() Head {
	h := sampleHead()
	h.Format = formatEncrypted
	h.Keys = []Key{{ID: "0123456789abcdef", Epoch: 1}, {ID: "fedcba9876543210", Epoch: 3}}
	h.Checkpoints[0].KeyIDs = []string{"0123456789abcdef"}
	h.Checkpoints[1].KeyIDs = []string{"0123456789abcdef", "fedcba9876543210"}
	return h
}

func TestHead_GoldenFiles(t *testing.T) {
	t.Run("plain", func(t *testing.T) { checkGolden(t, "head-v1.golden", sampleHead()) })
	t.Run("encrypted", func(t *testing.T) { checkGolden(t, "head-v2.golden", encryptedHead()) })
}

func checkGolden(t *testing.T, file string, head Head) {
	name := filepath.Join("testdata", file)
	data, err := encodeHead(head)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, golden) {
		t.Errorf("HEAD is written as\n%s", data)
	}
	h, err := decodeHead(golden, job)
	if err != nil || !reflect.DeepEqual(h, head) {
		t.Errorf("golden file reads as %+v, %v", h, err)
	}
	if !json.Valid(golden) {
		t.Error("HEAD is not JSON")
	}
}

func TestF26_EveryDamageOfHEAD(t *testing.T) {
	data, err := encodeHead(sampleHead())
	if err != nil {
		t.Fatal(err)
	}
	for n := range data {
		if _, err := decodeHead(data[:n], job); err == nil {
			t.Fatalf("cut to %d of %d bytes it is accepted", n, len(data))
		}
	}
	for i := range data {
		for bit := range 8 {
			data[i] ^= 1 << bit
			if h, err := decodeHead(data, job); err == nil {
				t.Fatalf("bit %d of byte %d flipped it is accepted: %+v", bit, i, h)
			}
			data[i] ^= 1 << bit
		}
	}
}

func TestF26_F62_HeadBreaksRules(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Head)
		want  string
	}{
		{"F27 another job", func(h *Head) { h.Job = "other" }, "belongs to job"},
		{"no uuid", func(h *Head) { h.UUID = "" }, "uuid"},
		{"no owner", func(h *Head) { h.Owner = "" }, "nonces"},
		{"no swap", func(h *Head) { h.Swap = "" }, "nonces"},
		{"epoch 0", func(h *Head) { h.Epoch = 0 }, "epoch 0"},
		{"epoch 2^63-1", func(h *Head) { h.Epoch = 1<<63 - 1 }, "does not fit"},
		{"next id 0", func(h *Head) { h.NextID = 0 }, "next id 0"},
		{"next id past its width", func(h *Head) { h.NextID = manifest.MaxID + 1 }, "does not fit"},
		{"next id is committed", func(h *Head) { h.NextID = 42 }, "checkpoint 42"},
		{"id twice", func(h *Head) { h.Checkpoints[1].ID = 40 }, "checkpoint 40"},
		{"id 0", func(h *Head) { h.Checkpoints[0].ID = 0 }, "checkpoint 0"},
		{"epoch of the future", func(h *Head) { h.Checkpoints[1].Epoch = 4 }, "epoch 4"},
		{"epochs fall", func(h *Head) { h.Checkpoints[1].Epoch = 1 }, "epoch 1"},
		{"kind", func(h *Head) { h.Checkpoints[1].Kind = "x" }, "kind"},
		{"negative size", func(h *Head) { h.Checkpoints[1].ManifestSize = -1 }, "negative"},
		{"operator twice", func(h *Head) { h.Operators[1].UID = "count" }, "repeated"},
		{"operator with a bad uid", func(h *Head) { h.Operators[0].UID = "../x" }, "invalid"},
		{"max parallelism", func(h *Head) { h.Operators[0].MaxParallelism = 0 }, "max parallelism"},
		{"format of the future", func(h *Head) { h.Format = 3 }, "format 3"},
		{"keys in format 1", func(h *Head) { *h = encryptedHead(); h.Format = 1 }, "format 1"},
		{"no keys in format 2", func(h *Head) { h.Format = 2 }, "format 2"},
		{"key id", func(h *Head) { *h = encryptedHead(); h.Keys[0].ID = "" }, "key id"},
		{"key of the future", func(h *Head) { *h = encryptedHead(); h.Keys[1].Epoch = 4 }, "out of order"},
		{"keys out of order", func(h *Head) { *h = encryptedHead(); h.Keys[0].Epoch = 3 }, "out of order"},
		{"plain checkpoint", func(h *Head) { *h = encryptedHead(); h.Checkpoints[0].KeyIDs = nil }, "checkpoint 40"},
		{"unknown key", func(h *Head) { *h = encryptedHead(); h.Checkpoints[0].KeyIDs = []string{"x"} }, "not one of the job's"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := sampleHead()
			c.spoil(&h)
			if err := h.validate(job); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	t.Run("F62 gap in ids, far ahead", func(t *testing.T) {
		h := sampleHead()
		h.NextID, h.Epoch = manifest.MaxID, manifest.MaxEpoch
		if err := h.validate(job); err != nil {
			t.Error(err)
		}
	})
}

func TestF52_NewerHEAD(t *testing.T) {
	h := sampleHead()
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	// A later format need not be like ours but for the number.
	data = bytes.Replace(data, []byte(`"format":1`), []byte(`"format":9,"savepoints":[]`), 1)
	w := newWorld()
	w.place(t, manifest.HeadKey, data)
	var newer *manifest.NewerFormatError
	for what, err := range map[string]error{
		"read":      second(w.catalog().Head(t.Context())),
		"take over": second(w.catalog().TakeOver(t.Context(), TakeOverOptions{})),
		"unlink":    second(w.catalog().Unlink(t.Context(), 40)),
	} {
		if !errors.As(err, &newer) || newer.Have != Format || newer.Want != 9 || errors.Is(err, manifest.ErrCorrupt) {
			t.Errorf("%s: got %v, want a NewerFormatError", what, err)
		}
	}
	if !bytes.Equal(w.bytesOf(t, manifest.HeadKey), data) {
		t.Error("HEAD was changed")
	}
}

func second[T any](_ T, err error) error { return err }

func TestDecodeHead_UnknownField(t *testing.T) {
	data, err := encodeHead(sampleHead())
	if err != nil {
		t.Fatal(err)
	}
	content, err := checkSum(data)
	if err != nil {
		t.Fatal(err)
	}
	content = bytes.Replace(content, []byte(`"epoch"`), []byte(`"extra": 1, "epoch"`), 1)
	if _, err := decodeHead(sealHead(content), job); err == nil || !strings.Contains(err.Error(), "extra") {
		t.Errorf("got %v: a writer would drop the field", err)
	}
}

func TestHead_Find(t *testing.T) {
	h := sampleHead()
	for id, want := range map[manifest.ID]bool{0: false, 39: false, 40: true, 41: false, 42: true, 43: false} {
		if e, ok := h.Find(id); ok != want || ok && e.ID != id {
			t.Errorf("Find(%d) = %d, %v", id, e.ID, ok)
		}
	}
	if e, ok := h.Newest(); !ok || e.ID != 42 {
		t.Errorf("newest is %d, %v", e.ID, ok)
	}
	if _, ok := (Head{}).Newest(); ok {
		t.Error("an empty HEAD has a newest checkpoint")
	}
}

func FuzzDecodeHead(f *testing.F) {
	for _, h := range []Head{sampleHead(), encryptedHead()} {
		data, err := encodeHead(h)
		if err != nil {
			f.Fatal(err)
		}
		content, err := checkSum(data)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		h, err := decodeHead(sealHead(content), job)
		if err != nil {
			return
		}
		data, err := encodeHead(h)
		if err != nil {
			t.Fatalf("%+v is read but not written: %v", h, err)
		}
		again, err := decodeHead(data, job)
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Errorf("%+v comes back as %+v, %v", h, again, err)
		}
	})
}
