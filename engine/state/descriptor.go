package state

import (
	"encoding/binary"
	"fmt"

	"github.com/ckpt-io/ckpt/manifest"
)

// descriptor is what the handles of named states share: it makes their keys
// and sees to it that a state is read only by the kind of handle and the codec
// that wrote it. To that end every key group in which a state was written
// holds a key of its own with the state's description, so that it follows the
// key group through every rescale.
type descriptor struct {
	store *Store
	name  string
	text  string   // kind and codec
	known []uint64 // a bit for each key group whose description was seen
	buf   []byte
}

// IncompatibleStateError is a state that was written by another kind of handle
// or another codec.
type IncompatibleStateError struct {
	State      string
	Have, Want string // descriptions: kind, codec, codec of the keys
}

func (e *IncompatibleStateError) Error() string {
	return fmt.Sprintf("state %q was written as %s, it cannot be used as %s", e.State, e.Have, e.Want)
}

func newDescriptor(s *Store, name, kind, codec string) (descriptor, error) {
	if !manifest.ValidUID(name) {
		return descriptor{}, fmt.Errorf("state name %q: want 1 to 100 characters of [0-9A-Za-z._]", name)
	}
	text := kind + " " + codec
	if s.opts.KeyCodec != "" {
		text += " by " + s.opts.KeyCodec
	}
	groups := int(s.opts.KeyGroups.Last) + 1
	return descriptor{store: s, name: name, text: text, known: make([]uint64, (groups+63)/64)}, nil
}

// key returns the stored key of the state's value for the current key. It is
// valid until the next call.
func (d *descriptor) key(write bool) ([]byte, error) {
	s := d.store
	if !s.keySet {
		return nil, fmt.Errorf("use state %q: %w", d.name, ErrNoKey)
	}
	if g := s.group; d.known[g/64]&(1<<(g%64)) == 0 {
		if err := d.check(g, write); err != nil {
			return nil, err
		}
	}
	d.buf = append(d.appendPrefix(d.buf[:0], s.group), s.key...)
	return d.buf, nil
}

func (d *descriptor) appendPrefix(dst []byte, group uint16) []byte {
	dst = binary.BigEndian.AppendUint16(dst, group)
	dst = append(dst, byte(len(d.name)))
	return append(dst, d.name...)
}

// check compares the description stored in a key group with ours, and stores
// ours where there is none and the state is about to be written.
func (d *descriptor) check(group uint16, write bool) error {
	d.buf = binary.BigEndian.AppendUint16(d.buf[:0], group)
	d.buf = append(append(d.buf, 0), d.name...)
	have, ok, err := d.store.Get(d.buf)
	switch {
	case err != nil:
		return err
	case ok && string(have) != d.text:
		return &IncompatibleStateError{State: d.name, Have: string(have), Want: d.text}
	case !ok && !write:
		return nil
	case !ok:
		if err := d.store.Put(d.buf, []byte(d.text)); err != nil {
			return err
		}
	}
	d.known[group/64] |= 1 << (group % 64)
	return nil
}

func (d *descriptor) wrap(verb string, err error) error {
	return fmt.Errorf("%s state %q: %w", verb, d.name, err)
}
