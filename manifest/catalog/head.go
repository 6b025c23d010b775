package catalog

import (
	"slices"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
)

// Format is the newest format of HEAD that this version reads. It writes the
// oldest that holds what HEAD says: 1, or 2 for a job that is encrypted.
const Format = 2

const (
	formatPlain     = 1
	formatEncrypted = 2
)

// Head is the content of HEAD: what the job is, who owns it, and the
// checkpoints that exist. Its JSON is the stored form.
type Head struct {
	Format int            `json:"format"`
	Job    string         `json:"job"`
	UUID   string         `json:"uuid"` // made once, with the first HEAD
	Epoch  manifest.Epoch `json:"epoch"`
	Owner  string         `json:"owner"` // nonce of the takeover that made the epoch
	Swap   string         `json:"swap"`  // nonce of the write that made this HEAD
	// NextID is above every id that was ever committed; the next owner starts
	// from it.
	NextID    manifest.ID    `json:"next_id"`
	Operators []OperatorInfo `json:"operators"`
	// Checkpoints are the live ones, ascending by ID.
	Checkpoints []Entry `json:"checkpoints"`
	// Keys say under which key the objects of which epochs are encrypted; none
	// if the job is not. Ascending by epoch. Only those are kept that a
	// checkpoint needs, and the last, which is in use.
	Keys []Key `json:"keys,omitempty"`
}

// Key is an encryption key and the first epoch whose objects are encrypted
// under it; the next one's ends its use.
type Key struct {
	ID    string         `json:"id"`
	Epoch manifest.Epoch `json:"epoch"`
}

// OperatorInfo tells a reader of HEAD which graph its owner runs. What state a
// graph must fit stands in the manifest that it goes on from.
type OperatorInfo struct {
	UID            string `json:"uid"`
	MaxParallelism int    `json:"max_parallelism"`
	Hasher         string `json:"hasher,omitempty"` // empty without keyed state
}

// Entry is one live checkpoint in HEAD. Sizes are in bytes.
type Entry struct {
	ID             manifest.ID     `json:"id"`
	Epoch          manifest.Epoch  `json:"epoch"`
	Kind           manifest.Kind   `json:"kind"`
	Time           time.Time       `json:"time"` // when it was triggered
	ManifestSize   int64           `json:"manifest_size"`
	ManifestSHA256 manifest.Digest `json:"manifest_sha256"`
	TMax           time.Duration   `json:"t_max_ns"`
	Duration       time.Duration   `json:"duration_ns"`
	NewBytes       int64           `json:"new_bytes"`
	FullBytes      int64           `json:"full_bytes"`
	Objects        int64           `json:"objects"`
	// KeyIDs are the ids of the keys that reading the checkpoint takes,
	// ascending; none if it is not encrypted.
	KeyIDs []string `json:"key_ids,omitempty"`
}

// ManifestKey is the name of the checkpoint's manifest.
func (e Entry) ManifestKey() string { return manifest.ManifestKey(e.ID, e.Epoch) }

// Newest returns the checkpoint with the highest id, and whether there is one.
func (h Head) Newest() (Entry, bool) {
	if len(h.Checkpoints) == 0 {
		return Entry{}, false
	}
	return h.Checkpoints[len(h.Checkpoints)-1], true
}

// Find returns the checkpoint with the given id, and whether it is listed.
func (h Head) Find(id manifest.ID) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(h.Checkpoints, id, func(e Entry, id manifest.ID) int {
		switch {
		case e.ID < id:
			return -1
		case e.ID > id:
			return 1
		}
		return 0
	})
	if !ok {
		return Entry{}, false
	}
	return h.Checkpoints[i], true
}

// clone copies h so that nobody shares its slices; empty ones become nil.
func (h Head) clone() Head {
	h.Operators = append([]OperatorInfo(nil), h.Operators...)
	h.Checkpoints = append([]Entry(nil), h.Checkpoints...)
	h.Keys = append([]Key(nil), h.Keys...)
	return h
}
