package state

// Value is a state of one value per key: a typed handle on a part of a Store,
// for the key last given to [Store.SetKey]. Like the store it belongs to the
// task's goroutine.
type Value[T any] struct {
	store *Store
	desc  descriptor
	codec Codec[T]
	enc   []byte
}

// NewValue makes the handle of the state called name. The name is a stored
// format: 1 to 100 characters of [0-9A-Za-z._].
func NewValue[T any](s *Store, name string, codec Codec[T]) (*Value[T], error) {
	d, err := newDescriptor(s, name, "value", codec.Name())
	if err != nil {
		return nil, err
	}
	return &Value[T]{store: s, desc: d, codec: codec}, nil
}

// Get returns the current key's value, and whether it has one.
func (v *Value[T]) Get() (value T, ok bool, err error) {
	key, err := v.desc.key(false)
	if err != nil {
		return value, false, err
	}
	enc, ok, err := v.store.Get(key)
	if !ok || err != nil {
		return value, false, err
	}
	value, err = v.codec.Decode(enc)
	if err != nil {
		return value, false, v.desc.wrap("read", err)
	}
	return value, true, nil
}

// Set replaces the current key's value.
func (v *Value[T]) Set(value T) error {
	enc, err := v.codec.Append(v.enc[:0], value)
	if err != nil {
		return v.desc.wrap("write", err)
	}
	v.enc = enc
	key, err := v.desc.key(true)
	if err != nil {
		return err
	}
	return v.store.Put(key, enc)
}

// Clear removes the current key's value.
func (v *Value[T]) Clear() error {
	key, err := v.desc.key(false)
	if err != nil {
		return err
	}
	return v.store.Delete(key)
}
