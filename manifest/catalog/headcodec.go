package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ckpt-io/ckpt/manifest"
)

// HEAD is indented JSON of a Head, with one more field at the end:
//
//	  "sha256": "<digest of all bytes before the comma that precedes this field>"
//	}
//
// Fields are never added to a format: a writer of an older version would drop
// them. An addition makes a new format.

const (
	// maxHead bounds the size of HEAD in bytes.
	maxHead = 16 << 20
	maxName = 128 // of nonces and the like

	sumField = ",\n  \"sha256\": \""
	sumEnd   = "\"\n}\n"
)

func encodeHead(h Head) ([]byte, error) {
	if err := h.validate(h.Job); err != nil {
		return nil, fmt.Errorf("encode HEAD: %w", err)
	}
	// Lists are never null in the stored form.
	h.Operators = append([]OperatorInfo{}, h.Operators...)
	h.Checkpoints = append([]Entry{}, h.Checkpoints...)
	data, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode HEAD: %w", err)
	}
	out := sealHead(bytes.TrimSuffix(data, []byte("\n}")))
	if len(out) > maxHead {
		return nil, fmt.Errorf("encode HEAD: %d bytes are more than a reader takes: keep fewer checkpoints", len(out))
	}
	return out, nil
}

// sealHead appends the digest of content.
func sealHead(content []byte) []byte {
	sum := manifest.Digest(sha256.Sum256(content))
	return append(content, sumField+sum.String()+sumEnd...)
}

func decodeHead(data []byte, job string) (Head, error) {
	// The format comes first: a later one may be protected otherwise.
	var v struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return Head{}, err
	}
	if v.Format > Format {
		return Head{}, &manifest.NewerFormatError{Have: Format, Want: v.Format}
	}
	content, err := checkSum(data)
	if err != nil {
		return Head{}, err
	}
	dec := json.NewDecoder(bytes.NewReader(append(content, "\n}"...)))
	dec.DisallowUnknownFields()
	var h Head
	if err := dec.Decode(&h); err != nil {
		return Head{}, err
	}
	h = h.clone()
	return h, h.validate(job)
}

// checkSum returns the bytes before the digest, in memory of their own.
func checkSum(data []byte) ([]byte, error) {
	i := bytes.LastIndex(data, []byte(sumField))
	if i < 0 {
		return nil, errors.New("has no digest at its end")
	}
	content := bytes.Clone(data[:i])
	if !bytes.Equal(sealHead(bytes.Clone(content)), data) {
		return nil, errors.New("digest does not match")
	}
	return content, nil
}

func (h *Head) validate(job string) error {
	switch {
	case h.Format != h.format():
		return fmt.Errorf("format %d does not exist, or is not that of its content", h.Format)
	case h.Job != job || !manifest.ValidJob(h.Job):
		return fmt.Errorf("belongs to job %q, not %q", h.Job, job)
	case h.UUID == "" || len(h.UUID) > maxName:
		return errors.New("has no job uuid")
	case h.Owner == "" || h.Swap == "" || len(h.Owner) > maxName || len(h.Swap) > maxName:
		return errors.New("has no nonces")
	case h.Epoch == 0 || h.Epoch > manifest.MaxEpoch:
		return fmt.Errorf("epoch %d: %w", uint64(h.Epoch), manifest.ErrOverflow)
	case h.NextID == 0 || h.NextID > manifest.MaxID:
		return fmt.Errorf("next id %d: %w", uint64(h.NextID), manifest.ErrOverflow)
	}
	for i := range h.Operators {
		o := &h.Operators[i]
		if !manifest.ValidUID(o.UID) || i > 0 && o.UID <= h.Operators[i-1].UID {
			return fmt.Errorf("operator uid %q is invalid, repeated or out of order", o.UID)
		}
		if o.MaxParallelism < 1 || o.MaxParallelism > manifest.MaxMaxParallelism {
			return fmt.Errorf("operator %q: max parallelism %d is out of range", o.UID, o.MaxParallelism)
		}
	}
	if err := h.validateKeys(); err != nil {
		return err
	}
	return h.validateCheckpoints()
}

func (h *Head) validateCheckpoints() error {
	var before Entry
	for _, e := range h.Checkpoints {
		switch {
		case e.ID <= before.ID || e.ID >= h.NextID:
			return fmt.Errorf("checkpoint %d does not stand between %d and next id %d", e.ID, before.ID, h.NextID)
		case e.Epoch == 0 || e.Epoch < before.Epoch || e.Epoch > h.Epoch:
			return fmt.Errorf("checkpoint %d: epoch %d does not stand between %d and %d", e.ID, e.Epoch, before.Epoch, h.Epoch)
		case !e.Kind.Valid():
			return fmt.Errorf("checkpoint %d: unknown kind %q", e.ID, e.Kind)
		case e.ManifestSize < 0 || e.NewBytes < 0 || e.FullBytes < 0 || e.Objects < 0:
			return fmt.Errorf("checkpoint %d: a size is negative", e.ID)
		}
		if err := h.validateEntryKeys(e); err != nil {
			return fmt.Errorf("checkpoint %d: %w", e.ID, err)
		}
		before = e
	}
	return nil
}
