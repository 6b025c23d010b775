package state

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
)

// sortBytes is what sorting a frozen overlay takes for each key.
const sortBytes = 20

// delta is a table that was written and is to be made durable.
type delta struct {
	manifest.Delta        // its object has no name before the upload begins
	path           string // a link of its own, since ingesting takes the file away
	sending        bool
}

// background ingests the frozen overlays, one after the other in order, until
// ctx ends. Uploads run beside it.
func (s *Store) background(ctx context.Context) {
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-retry:
		}
		s.mu.Lock()
		s.settle() // a capture without changes waits for no upload
		s.mu.Unlock()
		s.sendUnsent(ctx)
		s.materialize(ctx)
		for f := s.nextFrozen(); f != nil && ctx.Err() == nil; f = s.nextFrozen() {
			if err := s.ingest(ctx, f); err != nil {
				s.fail(err)
				return
			}
			s.materialize(ctx)
		}
		if s.full() {
			// The writer is held back, perhaps before its next capture, which
			// would be the time to try again otherwise.
			retry = time.After(s.opts.retryUnsent)
		}
	}
}

// full reports whether overlays wait because too much is not durable yet.
func (s *Store) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) > 0 && s.unsentFull()
}

// unsentFull is the bound of the local disk, with s.mu held.
func (s *Store) unsentFull() bool {
	var sum int64
	for _, d := range s.unsent {
		sum += d.Object.Size
	}
	return sum >= s.opts.MaxUnsentBytes
}

func (s *Store) nextFrozen() *frozen {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 || s.unsentFull() {
		return nil
	}
	f := s.queue[0]
	s.queue = s.queue[1:]
	return f
}

// ingest writes a frozen overlay as a delta, begins its upload and makes it
// part of the database.
func (s *Store) ingest(ctx context.Context, f *frozen) error {
	begin := time.Now()
	path := filepath.Join(s.deltaDir(), fmt.Sprintf("%d.sst", f.position))
	d, err := s.writeWhenRoom(ctx, f, path)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if p := f.capture; p != nil && slices.Contains(s.pending, p) {
		p.encoded = time.Now()
		p.stats.Queue, p.stats.Encode = begin.Sub(p.captured), p.encoded.Sub(begin)
	}
	s.unsent = append(s.unsent, d)
	s.mu.Unlock()
	s.sendUnsent(ctx)

	if err := s.db.Ingest(ctx, []string{path}); err != nil {
		return fmt.Errorf("ingest delta: %w", err)
	}
	s.ingested = f.position
	s.forget(f)
	return nil
}

// The pause before a full disk is tried again, doubled each time.
const (
	fullDiskPause    = time.Second / 4
	maxFullDiskPause = 30 * time.Second
)

// writeWhenRoom is writeDelta. On a full disk it fails the captures that need the
// delta and nothing else, and tries again after a pause or when the next capture
// comes. The overlay keeps what was written, and the writer is held back when
// it is full.
func (s *Store) writeWhenRoom(ctx context.Context, f *frozen, path string) (*delta, error) {
	for pause := fullDiskPause; ; pause = min(2*pause, maxFullDiskPause) {
		d, err := s.writeDelta(f, path)
		if err == nil || !vfs.IsNoSpaceError(err) {
			return d, err
		}
		s.opts.Logger.Warn("disk is full: checkpoints fail until there is room", "dir", s.opts.Dir, "err", err)
		s.mu.Lock()
		s.abort(fmt.Errorf("write delta: %w", err), func(p *Pending) bool { return p.cut >= f.position })
		s.settle()
		s.mu.Unlock()
		s.sendUnsent(ctx)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		timer.Stop()
	}
}

// writeDelta writes a delta to a path, and leaves nothing there if it cannot.
func (s *Store) writeDelta(f *frozen, path string) (*delta, error) {
	file, err := incremental.WriteCompressedDelta(s.fs, path, s.opts.Compression, f.entries())
	if err != nil {
		return nil, err
	}
	d := &delta{Delta: file.Delta(f.position, ""), path: path + ".up"}
	if err := vfs.LinkOrCopy(s.fs, path, d.path); err != nil {
		err = fmt.Errorf("keep delta for its upload: %w", err)
		return nil, errors.Join(err, s.fs.RemoveAll(d.path), s.fs.Remove(path))
	}
	return d, nil
}

// entries yields the changes of a frozen overlay in order.
func (f *frozen) entries() func(yield func(incremental.Entry) bool) {
	return func(yield func(incremental.Entry) bool) {
		for _, r := range f.frozenOrder() {
			rec := f.arena.record(r)
			value, live := recordValue(rec)
			if !yield(incremental.Entry{Key: recordKey(rec), Value: value, Delete: !live}) {
				return
			}
		}
	}
}

// forget makes an overlay clean that the database holds by now: the oldest. A
// reader that no longer finds it among the frozen ones finds it there.
func (s *Store) forget(f *frozen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.capture = nil
	old := *s.clean.Load()
	clean := append(old[:len(old):len(old)], f)
	s.clean.Store(&clean)
	s.cleanBytes.Add(f.memory)
	list := slices.Clone((*s.frozen.Load())[1:])
	s.frozen.Store(&list)
	s.frozenBytes.Add(-f.memory)
	s.evict(0, maxClean)
	s.room.Broadcast()
}
