package state

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
)

// ingested returns when the database has all that was captured.
func (j *job) ingested() {
	for left := 1; left > 0; runtime.Gosched() {
		j.store.mu.Lock()
		left = len(*j.store.frozen.Load())
		j.store.mu.Unlock()
	}
}

// What a capture took away from the writer is still read from memory, the newest
// value of each key, as long as there is room.
func TestCleanOverlays(t *testing.T) {
	opts := testOptions(t)
	opts.OverlayBytes = 1 << 20
	j := newJob(t, opts)
	s := j.store
	key := []byte("\x00\x01\x01ak")
	for i := range maxClean + 3 {
		j.put(key, []byte{byte(i)})
		j.put(binary.BigEndian.AppendUint32([]byte("\x00\x01\x01b"), uint32(i)), []byte("v"))
		j.trigger(manifest.Periodic)
		j.commit()
		j.ingested()
		if n, want := len(*s.clean.Load()), min(i+1, maxClean); n != want {
			t.Errorf("%d overlays are clean after %d captures, want %d", n, i+1, want)
		}
		if v, ok, err := s.Get(key); err != nil || !ok || v[0] != byte(i) {
			t.Errorf("after %d captures the value is %x, %v, %v", i+1, v, ok, err)
		}
	}
	j.delete(key)
	j.trigger(manifest.Periodic)
	j.commit()
	j.ingested()
	if v, ok, err := s.Get(key); err != nil || ok {
		t.Errorf("a deleted key has the value %x, %v", v, err)
	}
	// A writer that needs the memory has it.
	value := bytes.Repeat([]byte("v"), 1000)
	for i := range uint32(500) {
		j.put(binary.BigEndian.AppendUint32([]byte("\x00\x01\x01c"), i), value)
		if used := s.active.bytes() + s.frozenBytes.Load() + s.cleanBytes.Load(); s.cleanBytes.Load() > 0 && used > opts.OverlayBytes*5/4 {
			t.Fatalf("overlays take %d bytes of %d, %d of them clean", used, opts.OverlayBytes, s.cleanBytes.Load())
		}
	}
}
