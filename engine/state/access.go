package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// SetKey makes key, which belongs to the given key group, the one that typed
// handles read and write. The bytes are copied.
func (s *Store) SetKey(group uint16, key []byte) error {
	if !s.opts.KeyGroups.Contains(group) {
		return fmt.Errorf("key group %d, task has %v: %w", group, s.opts.KeyGroups, ErrKeyGroup)
	}
	s.group, s.keySet = group, true
	s.key = append(s.key[:0], key...)
	return nil
}

// checkKey refuses keys that no delta may hold.
func (s *Store) checkKey(key []byte) error {
	if len(key) < 3 {
		return fmt.Errorf("state key %x: want a key group and a state name", key)
	}
	if len(key) > MaxKeyBytes {
		return &TooLargeError{What: "key", Size: len(key), Limit: MaxKeyBytes}
	}
	if group := binary.BigEndian.Uint16(key); !s.opts.KeyGroups.Contains(group) {
		return fmt.Errorf("key group %d, task has %v: %w", group, s.opts.KeyGroups, ErrKeyGroup)
	}
	return nil
}

// Get returns the value of key. It is valid until the next call of the store.
func (s *Store) Get(key []byte) (value []byte, ok bool, err error) {
	if err := s.err(); err != nil {
		return nil, false, err
	}
	if err := s.checkKey(key); err != nil {
		return nil, false, err
	}
	if value, deleted, known := s.active.get(key); known {
		return value, !deleted, nil
	}
	// An overlay leaves this list only when the database holds its changes and
	// the clean ones have it: so they are looked at in this order.
	frozen := *s.frozen.Load()
	for i := len(frozen) - 1; i >= 0; i-- {
		if value, deleted, known := frozen[i].get(key); known {
			return value, !deleted, nil
		}
	}
	for _, f := range slices.Backward(*s.clean.Load()) {
		if value, deleted, known := f.get(key); known {
			return value, !deleted, nil
		}
	}
	value, closer, err := s.db.Get(key)
	if err == nil {
		s.read = append(s.read[:0], value...)
		value, ok, err = s.read, true, closer.Close()
	} else if errors.Is(err, pebble.ErrNotFound) {
		err = nil
	}
	// What came from a database that failed meanwhile is not to be trusted.
	if failure := s.err(); failure != nil {
		err = failure
	}
	if err != nil {
		return nil, false, fmt.Errorf("read state: %w", err)
	}
	return value, ok, nil
}

// Put sets the value of key; both are copied. It waits only while so much is
// on its way to disk that memory would exceed its bound. A *TooLargeError
// leaves the state as it was.
func (s *Store) Put(key, value []byte) error {
	if len(value) > MaxValueBytes {
		return &TooLargeError{What: "value", Size: len(value), Limit: MaxValueBytes}
	}
	return s.write(key, value, false)
}

// Delete removes key; a missing one is no error. It may wait as Put does.
func (s *Store) Delete(key []byte) error { return s.write(key, nil, true) }

func (s *Store) write(key, value []byte, deleted bool) error {
	if err := s.err(); err != nil {
		return err
	}
	if err := s.checkKey(key); err != nil {
		return err
	}
	if used := s.active.bytes(); used >= s.opts.OverlayBytes/2 || used+s.frozenBytes.Load()+s.cleanBytes.Load() >= s.opts.OverlayBytes {
		if err := s.makeRoom(); err != nil {
			return err
		}
	}
	s.active.set(key, value, deleted)
	return nil
}

// makeRoom spills the active overlay if it has had its half of the memory, gives
// up clean ones, and waits for the background while all of it is in use.
func (s *Store) makeRoom() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active.bytes() >= s.opts.OverlayBytes/2 {
		s.freeze(nil)
		s.wakeWorker()
	}
	s.evict(s.active.bytes(), maxClean)
	for s.err() == nil && s.frozenBytes.Load() > 0 && s.active.bytes()+s.frozenBytes.Load() >= s.opts.OverlayBytes {
		s.room.Wait()
	}
	return s.err()
}

// freeze hands the active overlay to the background, with s.mu held.
func (s *Store) freeze(capture *Pending) {
	if s.active.count == 0 {
		return
	}
	f := &frozen{
		overlay: s.active, capture: capture, position: s.ledger.NextPosition(),
		memory: s.active.bytes() + int64(s.active.count)*sortBytes,
	}
	old := *s.frozen.Load()
	list := append(old[:len(old):len(old)], f)
	s.frozen.Store(&list)
	s.frozenBytes.Add(f.memory)
	s.queue = append(s.queue, f)
	s.last = f.position
	s.changed += s.active.payload
	s.active = newOverlay()
	s.evict(0, maxClean)
}

// maxClean is how many overlays stay readable after the database has them. More
// would cost a read that misses all of them.
const maxClean = 4

// evict gives up the oldest clean overlays, with s.mu held, until there are no
// more than limit and all overlays are within their memory, of which the active
// one has so much.
func (s *Store) evict(active int64, limit int) {
	clean := *s.clean.Load()
	n, bytes := len(clean), s.cleanBytes.Load()
	for ; n > 0 && (n > limit || active+s.frozenBytes.Load()+bytes >= s.opts.OverlayBytes); n-- {
		bytes -= clean[len(clean)-n].memory
	}
	if n < len(clean) {
		clean = slices.Clone(clean[len(clean)-n:])
		s.clean.Store(&clean)
		s.cleanBytes.Store(bytes)
	}
}

func (s *Store) wakeWorker() {
	select {
	case s.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}
