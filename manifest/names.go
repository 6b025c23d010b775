package manifest

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// Every name a job stores under its prefix is made and parsed here:
//
//	HEAD
//	manifests/<id>-<epoch>.manifest
//	data/<hh>/<id>-<epoch>-<operator>-<subtask>-<n>.<ext>
//	pins/<id>-<nonce>
//	probe/<nonce>
//
// <hh> is two hexadecimal digits of a hash of the rest of the name, which
// spreads the load over a store's partitions.
const (
	HeadKey         = "HEAD"
	ManifestsPrefix = "manifests/"
	DataPrefix      = "data/"
	PinsPrefix      = "pins/"
	ProbePrefix     = "probe/"
)

// Extensions of data objects.
const (
	ExtSST  = "sst"  // a sorted table
	ExtPack = "pack" // several small files
	ExtChan = "chan" // channel state
)

// ManifestKey is the name of a checkpoint's manifest.
func ManifestKey(id ID, e Epoch) string {
	return ManifestsPrefix + id.String() + "-" + e.String() + ".manifest"
}

// ParseManifestKey reads what ManifestKey wrote.
func ParseManifestKey(key string) (ID, Epoch, error) {
	rest, ok := strings.CutPrefix(key, ManifestsPrefix)
	rest, ok2 := strings.CutSuffix(rest, ".manifest")
	if !ok || !ok2 {
		return 0, 0, fmt.Errorf("parse manifest name %q: not one of ours", key)
	}
	id, epoch, err := parseIDEpoch(rest)
	if err != nil {
		return 0, 0, fmt.Errorf("parse manifest name %q: %w", key, err)
	}
	return id, epoch, nil
}

func parseIDEpoch(s string) (ID, Epoch, error) {
	a, b, ok := strings.Cut(s, "-")
	if !ok {
		return 0, 0, fmt.Errorf("want <id>-<epoch>")
	}
	id, err := ParseID(a)
	if err != nil {
		return 0, 0, err
	}
	epoch, err := ParseEpoch(b)
	return id, epoch, err
}

// DataName is the name of a data object. It says who wrote it and for which
// checkpoint, never what Pebble called the file: two databases restored from
// one checkpoint give the same file number to different content.
type DataName struct {
	// ID is the checkpoint the object was written for: the next its task
	// would report when the upload began.
	ID       ID
	Epoch    Epoch
	Operator string
	Subtask  int
	N        uint64 // counts the objects of one task in one epoch
	Ext      string
}

// Key is the object's name relative to the job's prefix.
func (n DataName) Key() string {
	rest := fmt.Sprintf("%s-%s-%s-%d-%d.%s", n.ID, n.Epoch, n.Operator, n.Subtask, n.N, n.Ext)
	return DataPrefix + hashHex(rest) + "/" + rest
}

func hashHex(s string) string {
	h := fnv.New32a()
	h.Write([]byte(s))
	return fmt.Sprintf("%02x", byte(h.Sum32()))
}

// ParseDataKey reads what DataName.Key wrote.
func ParseDataKey(key string) (DataName, error) {
	n, err := parseDataKey(key)
	if err != nil {
		return DataName{}, fmt.Errorf("parse data object name %q: %w", key, err)
	}
	return n, nil
}

func parseDataKey(key string) (n DataName, err error) {
	rest, ok := strings.CutPrefix(key, DataPrefix)
	if !ok || len(rest) < 3 || rest[2] != '/' {
		return n, fmt.Errorf("not one of ours")
	}
	hh, rest := rest[:2], rest[3:]
	stem, ext, ok := cutLast(rest, ".")
	parts := strings.Split(stem, "-")
	if !ok || len(parts) != 5 {
		return n, fmt.Errorf("not one of ours")
	}
	n.Ext = ext
	switch ext {
	case ExtSST, ExtPack, ExtChan:
	default:
		return n, fmt.Errorf("unknown extension %q", ext)
	}
	if n.ID, n.Epoch, err = parseIDEpoch(parts[0] + "-" + parts[1]); err != nil {
		return n, err
	}
	if n.Operator = parts[2]; !ValidUID(n.Operator) {
		return n, fmt.Errorf("invalid operator uid %q", n.Operator)
	}
	if n.Subtask, err = strconv.Atoi(parts[3]); err != nil {
		return n, err
	}
	if n.N, err = strconv.ParseUint(parts[4], 10, 64); err != nil {
		return n, err
	}
	// One name, one spelling: leading zeros, signs and a wrong hash are refused.
	if n.Subtask < 0 || n.Key() != DataPrefix+hh+"/"+rest {
		return n, fmt.Errorf("not as we spell it")
	}
	return n, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// PinKey is the name of a reader's pin on a checkpoint. The nonce is made of
// letters and digits.
func PinKey(id ID, nonce string) string { return PinsPrefix + id.String() + "-" + nonce }

// ParsePinKey reads what PinKey wrote.
func ParsePinKey(key string) (ID, string, error) {
	rest, ok := strings.CutPrefix(key, PinsPrefix)
	a, nonce, ok2 := strings.Cut(rest, "-")
	if !ok || !ok2 || nonce == "" {
		return 0, "", fmt.Errorf("parse pin name %q: not one of ours", key)
	}
	id, err := ParseID(a)
	if err != nil {
		return 0, "", fmt.Errorf("parse pin name %q: %w", key, err)
	}
	return id, nonce, nil
}

// ValidUID reports whether s may name an operator: 1 to 100 characters of
// [0-9A-Za-z._], but not "." or "..", for it also names a directory.
func ValidUID(s string) bool { return validName(s, 100, "._") && s != "." && s != ".." }

// ValidJob reports whether s may name a job: 1 to 100 characters of
// [0-9A-Za-z._-], not beginning with a dot.
func ValidJob(s string) bool { return validName(s, 100, "._-") && s[0] != '.' }

func validName(s string, limit int, extra string) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for _, c := range s {
		switch {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', strings.ContainsRune(extra, c):
		default:
			return false
		}
	}
	return true
}
