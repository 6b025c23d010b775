package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
)

// Rule says what happens to which calls. Of several rules that match a call,
// all apply, in order.
type Rule struct {
	// Op is the operation, any if empty.
	Op Op
	// Key is a regular expression that the key (any of the keys of a Delete,
	// the prefix of a List) must match; empty matches all.
	Key string
	// Nth is which of the matching calls, counted from 1 since the rule was
	// added; 0 means every one.
	Nth int
	// Chance makes the rule apply with this probability, by the seed of the
	// Faulty; 0 means always.
	Chance float64
	// Do is what happens.
	Do Action
}

// Action is what a Rule does to a call. The zero Action does nothing.
type Action struct {
	hooks map[Phase]Hook
	// hold makes a Put return ErrUnknownOutcome and land only at Land.
	hold bool
	// body changes the bytes a Get returns.
	body func(io.Reader) io.Reader
}

// Hook is called at a phase of a call and may block, kill the process or cut
// the store off. An error it returns before the operation is the operation's
// result and nothing is done; in its middle, it breaks the operation off; after
// it, the error replaces the result though the work is done.
type Hook func(ctx context.Context, c Call) error

// At runs a hook at one phase of the call.
func At(p Phase, h Hook) Action { return Action{hooks: map[Phase]Hook{p: h}} }

// Fail makes the operation end with err and do nothing.
func Fail(err error) Action {
	return At(Before, func(context.Context, Call) error { return err })
}

// FailAfter does the operation and then ends it with err.
func FailAfter(err error) Action {
	return At(After, func(context.Context, Call) error { return err })
}

// LoseAnswer does the operation and ends it as if the answer had been lost: a
// Put with ErrUnknownOutcome, anything else with ErrUnavailable. A Put whose
// condition does not hold ends so too.
func LoseAnswer() Action { return At(After, lost) }

// LoseRequest ends the operation as LoseAnswer does, but does nothing.
func LoseRequest() Action { return At(Before, lost) }

// LandLater ends a Put with ErrUnknownOutcome and keeps the write back until
// [Faulty.Land], which does it with its conditions then. Other operations are
// not changed.
func LandLater() Action { return Action{hold: true} }

// Delay waits before the operation.
func Delay(d time.Duration) Action {
	return At(Before, func(ctx context.Context, _ Call) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// CutBody breaks the body that a Get returns off after n bytes with an error
// that is ErrUnavailable.
func CutBody(n int64) Action {
	return Action{body: func(r io.Reader) io.Reader { return &cutReader{r: r, left: n} }}
}

// Truncate ends the body that a Get returns after n bytes without an error,
// as a lying store does.
func Truncate(n int64) Action {
	return Action{body: func(r io.Reader) io.Reader { return io.LimitReader(r, n) }}
}

// FlipByte inverts the n-th byte, from 0, of the body that a Get returns.
func FlipByte(n int64) Action {
	return Action{body: func(r io.Reader) io.Reader { return &flipReader{r: r, at: n} }}
}

// Kill is a Hook that ends this process at once, as kill -9 does. It does not
// return.
func Kill(context.Context, Call) error {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		return fmt.Errorf("kill own process: %w", err)
	}
	select {}
}

// ParseKill makes a rule that kills the process from text, by which a test
// tells its child where to die: "phase op nth regexp", for example
// "middle put 3 ^data/". An op "any" is every operation.
func ParseKill(s string) (Rule, error) {
	f := strings.SplitN(s, " ", 4)
	if len(f) != 4 {
		return Rule{}, fmt.Errorf("parse kill rule %q: want \"phase op nth regexp\"", s)
	}
	phase, op := Phase(f[0]), Op(f[1])
	switch phase {
	case Before, Middle, After:
	default:
		return Rule{}, fmt.Errorf("parse kill rule %q: unknown phase", s)
	}
	switch op {
	case "any":
		op = ""
	case Put, Get, Stat, List, Delete:
	default:
		return Rule{}, fmt.Errorf("parse kill rule %q: unknown operation", s)
	}
	nth, err := strconv.Atoi(f[2])
	if err != nil {
		return Rule{}, fmt.Errorf("parse kill rule %q: %w", s, err)
	}
	if _, err := regexp.Compile(f[3]); err != nil {
		return Rule{}, fmt.Errorf("parse kill rule %q: %w", s, err)
	}
	return Rule{Op: op, Key: f[3], Nth: nth, Do: At(phase, Kill)}, nil
}

// lost is the outcome of a call whose answer does not arrive.
func lost(_ context.Context, c Call) error {
	if c.Op == Put {
		return fmt.Errorf("put %q: injected: %w", c.Key, objectstore.ErrUnknownOutcome)
	}
	return fmt.Errorf("%s %q: injected: %w", c.Op, c.Key, objectstore.ErrUnavailable)
}

// kind names an error in a record.
func kind(err error) string {
	for _, e := range []error{
		objectstore.ErrNotExist, objectstore.ErrPrecondition, objectstore.ErrUnknownOutcome,
		objectstore.ErrUnavailable, objectstore.ErrPermission, objectstore.ErrNoBucket, objectstore.ErrNoSpace,
	} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return err.Error()
}
