package engine

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine/internal/exchange"
	"github.com/ckpt-io/ckpt/manifest"
)

const (
	// flushEvery bounds how long a record is held back in a batch that does
	// not fill while its task is busy; an idle task flushes at once.
	flushEvery = 10 * time.Millisecond
	// idlePause follows a Poll that emitted nothing.
	idlePause = 2 * time.Millisecond
)

// task runs one subtask of a chain of operators in one goroutine.
type task struct {
	vertex    *vertex
	index     int
	subs      []*subtask // of the operators, in the order of the chain
	operators []operator
	senders   []sender
	active    *subtask // whose user code runs

	gate      exchange.Gate // nil for a source
	receivers []receiver    // by channel
	align     *aligner

	source      poller // nil but for a source
	woken       chan struct{}
	onExhausted func() // tells that this source is
	exhausted   bool

	mail      mailbox
	reports   *reporter
	last      manifest.ID // the final or stop checkpoint, once seen
	done      bool        // last is complete
	lastFlush time.Time
}

// run processes records until the job's last checkpoint is complete. A panic
// of user code becomes an error.
func (t *task) run(ctx context.Context) (err error) {
	t.active = t.subs[0]
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
		if err != nil {
			err = t.active.fail("run task", err)
		}
	}()
	for !t.done && err == nil {
		if t.source != nil {
			err = t.stepSource(ctx)
		} else {
			err = t.stepGate(ctx)
		}
	}
	return err
}

// stepGate processes one batch, barrier or wake-up.
func (t *task) stepGate(ctx context.Context) error {
	if !t.gate.Pending() || time.Since(t.lastFlush) > flushEvery {
		if err := t.flush(); err != nil {
			return err
		}
	}
	from, b, err := t.gate.Recv(ctx)
	switch {
	case errors.Is(err, exchange.ErrWoken):
		return t.readMail(ctx)
	case err != nil:
		return err
	case b.Records != nil:
		if t.align.aligning {
			t.align.bytes += b.Records.Size()
		}
		return t.receivers[from].receive(b.Records)
	case b.Barrier.Cancelled:
		return t.aligned(ctx, from, t.align.cancel(b.Barrier.Trigger))
	}
	return t.aligned(ctx, from, t.align.barrier(from, b.Barrier.Trigger, time.Now()))
}

// aligned does what the aligner says.
func (t *task) aligned(ctx context.Context, from int, a alignment) error {
	for _, trigger := range a.cancelled {
		if trigger.ID == a.subsumed {
			t.decline(trigger, coordinator.ErrSubsumed)
		}
		if err := t.broadcast(exchange.Barrier{Trigger: trigger, Cancelled: true}); err != nil {
			return err
		}
	}
	if a.unblock {
		t.gate.UnblockAll()
	}
	if a.block {
		t.gate.Block(from)
	}
	if !a.aligned {
		return nil
	}
	var stats manifest.TaskStats
	if t.align.channels > 1 {
		stats.Alignment = time.Since(t.align.began)
		stats.InFlightBytes = t.align.bytes
	}
	return t.checkpoint(ctx, t.align.current, t.align.began, stats)
}

// stepSource polls once, unless signals wait or nothing is left to read.
func (t *task) stepSource(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-t.woken:
		return t.readMail(ctx)
	default:
	}
	if t.exhausted || t.last != 0 {
		return t.waitForMail(ctx, nil)
	}
	n, exhausted, err := t.source.poll(ctx)
	if err != nil {
		return err
	}
	if n < batchRecords || exhausted || time.Since(t.lastFlush) > flushEvery {
		if err := t.flush(); err != nil {
			return err
		}
	}
	switch {
	case exhausted:
		t.exhausted = true
		t.onExhausted()
	case n == 0:
		pause := time.NewTimer(idlePause)
		defer pause.Stop()
		return t.waitForMail(ctx, pause.C)
	}
	return nil
}

func (t *task) waitForMail(ctx context.Context, pause <-chan time.Time) error {
	select {
	case <-t.woken:
		return t.readMail(ctx)
	case <-pause:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *task) flush() error {
	t.lastFlush = time.Now()
	for _, s := range t.senders {
		if err := s.flush(); err != nil {
			return err
		}
	}
	return nil
}

func (t *task) broadcast(b exchange.Barrier) error {
	for _, s := range t.senders {
		if err := s.barrier(b); err != nil {
			return err
		}
	}
	return nil
}

func (t *task) readMail(ctx context.Context) error {
	for _, msg := range t.mail.take() {
		var err error
		switch {
		case msg.trigger != nil:
			err = t.triggered(ctx, *msg.trigger)
		case msg.completed != 0:
			err = t.completed(ctx, msg.completed)
		default:
			err = t.aborted(ctx, msg.aborted)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// triggered starts a checkpoint at a source: it has one channel, the
// coordinator.
func (t *task) triggered(ctx context.Context, trigger coordinator.Trigger) error {
	return t.aligned(ctx, 0, t.align.barrier(0, trigger, time.Now()))
}

func (t *task) completed(ctx context.Context, id manifest.ID) error {
	for i, op := range t.operators {
		err := t.subs[i].guard("commit", func() error { return op.completed(ctx, id) })
		if err != nil {
			return err
		}
	}
	t.done = t.last != 0 && id >= t.last
	return nil
}

func (t *task) aborted(ctx context.Context, id manifest.ID) error {
	for _, op := range t.operators {
		op.aborted(id)
	}
	t.reports.aborted(id)
	return t.aligned(ctx, 0, t.align.abort(id))
}

func (t *task) decline(trigger coordinator.Trigger, reason error) {
	for _, sub := range t.subs {
		t.reports.decline(sub, trigger, reason)
	}
}
