package objectstore

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// MaxKey is the longest key in bytes, S3's limit.
	MaxKey = 1024
	// MaxSegment is the longest part of a key between slashes in bytes, the
	// limit of file systems and of the servers that store into them.
	MaxSegment = 255
)

// ValidKey returns an error that is [ErrBadKey] and says why if key cannot
// name an object: it is empty or longer than [MaxKey], not UTF-8, holds a
// control character or a backslash, or one of its slash-separated segments is
// empty, ".", ".." or longer than [MaxSegment].
func ValidKey(key string) error {
	if why := badKey(key); why != "" {
		return fmt.Errorf("%w %q: %s", ErrBadKey, shorten(key), why)
	}
	return nil
}

func badKey(key string) string {
	switch {
	case key == "":
		return "empty"
	case len(key) > MaxKey:
		return "too long"
	case !utf8.ValidString(key):
		return "not UTF-8"
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
		return "control character or backslash"
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch {
		case segment == "":
			return "empty segment"
		case segment == "." || segment == "..":
			return "relative segment"
		case len(segment) > MaxSegment:
			return "segment too long"
		}
	}
	return ""
}

// shorten keeps a hostile key from filling a log.
func shorten(key string) string {
	if len(key) <= 128 {
		return key
	}
	return key[:128] + "..."
}
