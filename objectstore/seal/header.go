package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"filippo.io/age"

	"github.com/ckpt-io/ckpt/objectstore"
)

// A stored object is an age file. Its header has one stanza of ours beside
// that of the recipient; age skips it, but its MAC covers it:
//
//	-> github.com/ckpt-io/ckpt/seal 1 <key id> <size> <tag> <padding>
//
// size is that of the content, in decimal. tag is base64 of
// HMAC-SHA256(vouching key, "1" ‖ file key ‖ size as 8 bytes big-endian ‖ the
// object's key): only a holder of the secret key can make it, where age by
// itself lets everybody who knows the recipient make a file; and it ties the
// object to its name. padding makes header and payload nonce headerSize
// bytes, whatever the kind of key, so that the size of the content follows
// from that of the object.
const (
	headerSize = 2048

	intro      = "age-encryption.org/v1\n"
	stanzaType = "github.com/ckpt-io/ckpt/seal"
	version    = "1"
	maxSize    = 1 << 50 // of content
)

var b64 = base64.RawStdEncoding.Strict()

// opened is what a header says of its object.
type opened struct {
	size int64
	aead cipher.AEAD
	etag string // of the object it was read from
}

// recipient wraps file keys for one key and one object.
type recipient struct {
	key    *key
	object string
	size   int64
	file   []byte // the file key of the last Wrap
}

// Wrap implements age.Recipient.
func (r *recipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	stanzas, err := r.key.recipient.Wrap(fileKey)
	if err != nil {
		return nil, err
	}
	r.file = bytes.Clone(fileKey)
	ours := &age.Stanza{Type: stanzaType, Args: []string{
		version, r.key.id, strconv.FormatInt(r.size, 10), b64.EncodeToString(r.key.tag(fileKey, r.object, r.size)),
	}}
	// What is there without the padding; "--- ", the MAC and a newline end it.
	n := len(intro) + len("--- ") + b64.EncodedLen(sha256.Size) + 1 + nonceSize + stanzaLen(ours)
	for _, s := range stanzas {
		n += stanzaLen(s)
	}
	pad := headerSize - n - 1 // a space before it
	if pad < 1 {
		return nil, fmt.Errorf("header is %d bytes too long", 1-pad)
	}
	ours.Args = append(ours.Args, strings.Repeat(".", pad))
	return append(stanzas, ours), nil
}

// stanzaLen is the length of a stanza as age writes it.
func stanzaLen(s *age.Stanza) int {
	n := len("-> ") + len(s.Type) + 1
	for _, a := range s.Args {
		n += 1 + len(a)
	}
	body := b64.EncodedLen(len(s.Body))
	return n + body + body/64 + 1 // lines of 64, the last one shorter
}

// tag vouches for a file key.
func (k *key) tag(fileKey []byte, object string, size int64) []byte {
	mac := hmac.New(sha256.New, k.vouch)
	mac.Write([]byte(version))
	mac.Write(fileKey)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(size)))
	mac.Write([]byte(object))
	return mac.Sum(nil)
}

// newHeader makes the header of a new object, payload nonce included, and the
// cipher of its payload.
func (k *key) newHeader(object string, size int64) ([]byte, cipher.AEAD, error) {
	if size > maxSize {
		return nil, nil, fmt.Errorf("%d bytes are more than an object may have", size)
	}
	r := &recipient{key: k, object: object, size: size}
	file, err := age.EncryptReader(bytes.NewReader(nil), r)
	if err != nil {
		return nil, nil, fmt.Errorf("make header: %w", err)
	}
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(file, header); err != nil {
		return nil, nil, fmt.Errorf("make header: %w", err)
	}
	aead, err := payloadCipher(r.file, header[headerSize-nonceSize:])
	return header, aead, err
}

// open reads the header of an object. Its errors match ErrNotEncrypted,
// ErrKey or ErrDamaged.
func (k *Keys) open(header []byte, object string) (*opened, error) {
	if !bytes.HasPrefix(header, []byte(intro)) {
		return nil, objectstore.ErrNotEncrypted
	}
	if len(header) != headerSize {
		return nil, fmt.Errorf("%w: its header has %d bytes", objectstore.ErrDamaged, len(header))
	}
	says, err := parseStanza(header)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", objectstore.ErrDamaged, err)
	}
	fileKey, err := age.DecryptHeader(header[:headerSize-nonceSize], k.identities()...)
	writer := k.find(says.id)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok && writer == nil {
		return nil, &objectstore.KeyError{Want: []string{says.id}, Have: k.IDs()}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", objectstore.ErrDamaged, err)
	}
	if writer == nil || !hmac.Equal(writer.tag(fileKey, object, says.size), says.tag) {
		return nil, fmt.Errorf("%w: it was not written under this name by a holder of key %s", objectstore.ErrDamaged, says.id)
	}
	aead, err := payloadCipher(fileKey, header[headerSize-nonceSize:])
	if err != nil {
		return nil, err
	}
	return &opened{size: says.size, aead: aead}, nil
}

func (k *Keys) identities() []age.Identity {
	out := make([]age.Identity, len(k.keys))
	for i, one := range k.keys {
		out[i] = one.identity
	}
	return out
}

// stanza is the content of ours.
type stanza struct {
	id   string
	size int64
	tag  []byte
}

func parseStanza(header []byte) (s stanza, err error) {
	_, rest, found := bytes.Cut(header, []byte("\n-> "+stanzaType+" "))
	line, _, ended := bytes.Cut(rest, []byte("\n"))
	fields := strings.Split(string(line), " ")
	if !found || !ended || len(fields) != 5 || fields[0] != version {
		return s, errors.New("its header is not one of ours")
	}
	if s.id = fields[1]; len(s.id) != 2*idSize || strings.Trim(s.id, "0123456789abcdef") != "" {
		return s, errors.New("its header has no key id")
	}
	s.size, err = strconv.ParseInt(fields[2], 10, 64)
	if err != nil || s.size < 0 || s.size > maxSize || strconv.FormatInt(s.size, 10) != fields[2] {
		return s, errors.New("its header has no size")
	}
	if s.tag, err = b64.DecodeString(fields[3]); err != nil {
		return s, errors.New("its header has no tag")
	}
	return s, nil
}
