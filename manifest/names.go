package manifest

import (
	"fmt"
	"strconv"
	"strings"
)

// Every name a job stores under its prefix is made and parsed here:
//
//	HEAD
//	manifests/<id>-<epoch>.manifest
//	data/<hh>/<id>-<epoch>-<operator>-<subtask>-<n>.<ext>
//	data/<hh>/<id>-<epoch>-<n>.parts
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

// Extensions of the tasks' data objects.
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

// hashHex is the lowest byte of the FNV-1a hash of s.
func hashHex(s string) string {
	const digits = "0123456789abcdef"
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return string([]byte{digits[h>>4&15], digits[h&15]})
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
	stem, ext, err := cutDataKey(key)
	if err != nil {
		return n, err
	}
	switch n.Ext = ext; ext {
	case ExtSST, ExtPack, ExtChan:
	default:
		return n, fmt.Errorf("unknown extension %q", ext)
	}
	stamp, rest, ok := cutStamp(stem)
	operator, rest, ok2 := strings.Cut(rest, "-")
	subtask, count, ok3 := strings.Cut(rest, "-")
	if !ok || !ok2 || !ok3 {
		return n, fmt.Errorf("not one of ours")
	}
	if n.ID, n.Epoch, err = parseIDEpoch(stamp); err != nil {
		return n, err
	}
	if n.Operator = operator; !ValidUID(operator) {
		return n, fmt.Errorf("invalid operator uid %q", operator)
	}
	index, err := parseCount(subtask, strconv.IntSize-1)
	if err != nil {
		return n, err
	}
	n.Subtask = int(index)
	n.N, err = parseCount(count, 64)
	return n, err
}

// cutDataKey takes the name of a data object apart: what stands before its
// extension, after the digits of the hash, and the extension.
func cutDataKey(key string) (stem, ext string, err error) {
	rest, ok := strings.CutPrefix(key, DataPrefix)
	if !ok || len(rest) < 3 || rest[2] != '/' {
		return "", "", fmt.Errorf("not one of ours")
	}
	hh, rest := rest[:2], rest[3:]
	stem, ext, ok = cutLast(rest, ".")
	if !ok || hashHex(rest) != hh {
		return "", "", fmt.Errorf("not as we spell it")
	}
	return stem, ext, nil
}

// cutStamp splits <id>-<epoch>-<rest>.
func cutStamp(stem string) (stamp, rest string, ok bool) {
	const width = idWidth + 1 + epochWidth
	if len(stem) <= width || stem[width] != '-' {
		return "", "", false
	}
	return stem[:width], stem[width+1:], true
}

// parseCount reads a number in its one spelling: no sign, no leading zero.
func parseCount(s string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, bits)
	if err == nil && (len(s) > 1 && s[0] == '0') {
		err = fmt.Errorf("not as we spell it")
	}
	return n, err
}

// PackName is the name of a pack of task parts, which the committing side
// writes. It has no operator, and so never that of a task's object.
type PackName struct {
	ID    ID // the checkpoint that was being committed
	Epoch Epoch
	N     uint64 // counts the packs of one checkpoint
}

const extParts = "parts"

// Key is the object's name relative to the job's prefix.
func (n PackName) Key() string {
	rest := fmt.Sprintf("%s-%s-%d.%s", n.ID, n.Epoch, n.N, extParts)
	return DataPrefix + hashHex(rest) + "/" + rest
}

// ParsePackKey reads what PackName.Key wrote.
func ParsePackKey(key string) (PackName, error) {
	n, err := parsePackKey(key)
	if err != nil {
		return PackName{}, fmt.Errorf("parse pack name %q: %w", key, err)
	}
	return n, nil
}

func parsePackKey(key string) (n PackName, err error) {
	stem, ext, err := cutDataKey(key)
	if err != nil {
		return n, err
	}
	stamp, count, ok := cutStamp(stem)
	if !ok || ext != extParts {
		return n, fmt.Errorf("not one of ours")
	}
	if n.ID, n.Epoch, err = parseIDEpoch(stamp); err != nil {
		return n, err
	}
	n.N, err = parseCount(count, 64)
	return n, err
}

// WrittenFor says for which checkpoint, and in which epoch, an object below
// DataPrefix was written: that of a task or a pack.
func WrittenFor(key string) (ID, Epoch, error) {
	if strings.HasSuffix(key, "."+extParts) {
		n, err := ParsePackKey(key)
		return n.ID, n.Epoch, err
	}
	n, err := ParseDataKey(key)
	return n.ID, n.Epoch, err
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
