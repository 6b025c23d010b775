package state

import (
	"context"
	"fmt"
	"slices"
)

// parallelUploads is how many deltas of one store are uploaded at a time. More
// than one are under way only when the object store is slow or spills are many.
const parallelUploads = 4

// sendUnsent begins the upload of every delta that is not under way: new ones
// and those whose last attempt failed.
func (s *Store) sendUnsent(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.unsent {
		if d.sending {
			continue
		}
		d.sending = true
		s.work.Go(func() {
			select {
			case s.uploads <- struct{}{}:
				defer func() { <-s.uploads }()
			case <-ctx.Done():
				return
			}
			err := s.upload(ctx, d)
			if err == nil {
				s.opts.Local.Keep(d.Object, d.path)
			}
			s.uploaded(d, err)
		})
	}
}

// upload makes a delta durable. Its object is named at the first attempt and
// keeps the name: until a report names it nobody can take it away.
func (s *Store) upload(ctx context.Context, d *delta) error {
	s.mu.Lock()
	if d.Object.Key == "" {
		d.Object.Key = s.ledger.DeltaName(d.Position).Key()
	}
	s.mu.Unlock()
	f, err := s.fs.Open(d.path)
	if err != nil {
		// It is nowhere else: no later attempt, and so no later checkpoint,
		// can succeed.
		s.fail(fmt.Errorf("upload delta: %w", err))
		return err
	}
	defer f.Close()
	return s.uploader.Put(ctx, d.Object, f)
}

// uploaded enters the outcome of an upload. A delta that is not durable fails
// the captures that need it, and waits for the next.
func (s *Store) uploaded(d *delta, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err() != nil {
		return
	}
	if err == nil {
		err = s.ledger.AddDelta(d.Delta)
	}
	if err != nil {
		d.sending = false
		s.opts.Logger.Warn("delta is not durable", "object", d.Object.Key, "err", err)
		s.abort(fmt.Errorf("upload delta: %w", err), func(p *Pending) bool { return p.cut >= d.Position })
		return
	}
	s.unsent = slices.DeleteFunc(s.unsent, func(u *delta) bool { return u == d })
	s.sent = append(s.sent, d)
	if err := s.fs.Remove(d.path); err != nil {
		s.opts.Logger.Warn("local file of an uploaded delta stays", "path", d.path, "err", err)
	}
	s.settle()
	s.room.Broadcast() // a base may have given way
	s.wakeWorker()     // or is to be begun, or overlays wait for room on the disk
}
