package seal

import (
	"bufio"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"filippo.io/age"
)

// ErrBadKeys is a key file that cannot be used. The text around it never shows
// what is in the file.
var ErrBadKeys = errors.New("invalid key file")

// maxKeyFile bounds a key file in bytes.
const maxKeyFile = 1 << 20

// Keys are the secret keys at hand. New objects are encrypted under the first;
// all of them are tried for reading. They do not change, may be used
// concurrently, and show nothing but their ids when printed.
type Keys struct{ keys []*key }

// key is an age identity and what is derived from it.
type key struct {
	id        string
	identity  age.Identity
	recipient age.Recipient
	vouch     []byte // key of the tag that says that a holder of the key wrote an object
}

// ReadKeys reads a file of age identities, as age-keygen makes them: one a
// line, "AGE-SECRET-KEY-1…" or the post-quantum "AGE-SECRET-KEY-PQ-1…"; empty
// lines and those that begin with # are skipped. Its errors are ErrBadKeys.
func ReadKeys(r io.Reader) (*Keys, error) {
	k := &Keys{}
	lines := bufio.NewScanner(io.LimitReader(r, maxKeyFile))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		one, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrBadKeys, n, err)
		}
		if k.find(one.id) == nil {
			k.keys = append(k.keys, one)
		}
	}
	if lines.Err() != nil {
		return nil, fmt.Errorf("%w: it cannot be read as lines of text", ErrBadKeys)
	}
	if len(k.keys) == 0 {
		return nil, fmt.Errorf("%w: it holds no key", ErrBadKeys)
	}
	return k, nil
}

// LoadKeys reads a key file. exposed says that others than its owner may read
// it (where the system tells).
func LoadKeys(path string) (k *Keys, exposed bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, fmt.Errorf("read key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, fmt.Errorf("read key file: %w", err)
	}
	k, err = ReadKeys(f)
	if err != nil {
		return nil, false, fmt.Errorf("read key file %q: %w", path, err)
	}
	exposed = runtime.GOOS != "windows" && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0
	return k, exposed, nil
}

// parseKey never wraps an error of the parser's, which may quote a secret.
func parseKey(line string) (*key, error) {
	if id, err := age.ParseX25519Identity(line); err == nil {
		return newKey(id, id.Recipient(), id.String(), id.Recipient().String())
	}
	if id, err := age.ParseHybridIdentity(line); err == nil {
		return newKey(id, id.Recipient(), id.String(), id.Recipient().String())
	}
	return nil, errors.New("not an age identity of kind AGE-SECRET-KEY-1 or AGE-SECRET-KEY-PQ-1")
}

func newKey(identity age.Identity, recipient age.Recipient, secret, public string) (*key, error) {
	vouch, err := hkdf.Key(sha256.New, []byte(secret), nil, "github.com/ckpt-io/ckpt/seal vouch", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	sum := sha256.Sum256([]byte(public))
	return &key{id: hex.EncodeToString(sum[:idSize]), identity: identity, recipient: recipient, vouch: vouch}, nil
}

// idSize is the length of an id before it is spelled in hexadecimal.
const idSize = 8

// IDs are the ids of the keys: the first 16 hexadecimal digits of the SHA-256
// of the age recipient, as age-keygen -y prints it, without a newline. An id
// is no secret, and does not give away the recipient.
func (k *Keys) IDs() []string {
	if k == nil {
		return nil
	}
	ids := make([]string, len(k.keys))
	for i, one := range k.keys {
		ids[i] = one.id
	}
	return ids
}

func (k *Keys) find(id string) *key {
	for _, one := range k.keys {
		if one.id == id {
			return one
		}
	}
	return nil
}

// Format prints the ids, whatever the verb.
func (k *Keys) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "keys %s", strings.Join(k.IDs(), " ")) }

// LogValue is the ids.
func (k *Keys) LogValue() slog.Value { return slog.StringValue(strings.Join(k.IDs(), " ")) }
