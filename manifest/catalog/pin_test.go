package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

const ttl = time.Minute

func pinned(t testing.TB, w *world, e Entry) *Pin {
	t.Helper()
	p, err := w.catalog().Pin(t.Context(), e, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pins are the ids that are pinned, expired ones marked.
func pins(t testing.TB, w *world) string {
	t.Helper()
	list, err := w.catalog().Pins(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, p := range list {
		s := fmt.Sprint(uint64(p.ID))
		if p.Expired {
			s += " expired"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func TestPin_WriteThenHead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		e, _ := o.Head().Newest()
		p := pinned(t, w, e)
		var ops []string
		for _, c := range w.Calls() {
			ops = append(ops, string(c.Op)+" "+c.Key[:4])
		}
		if want := []string{"put pins", "stat pins", "get HEAD"}; !slices.Equal(ops, want) {
			t.Errorf("calls are %q, want %q: HEAD counts only after the pin is there", ops, want)
		}
		if got := pins(t, w); got != "1" {
			t.Errorf("pins are %q", got)
		}
		for range 2 {
			if err := p.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := pins(t, w); got != "" {
			t.Errorf("after release: %q", got)
		}
	})
}

// TestPin_UnlinkedMeanwhile has retention unlink between the reader's look at
// HEAD and its pin.
func TestPin_UnlinkedMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		e, _ := o.Head().Newest()
		commit(t, o, 2, 1, 1)
		if _, err := w.catalog().Pin(t.Context(), e, ttl); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		if got := pins(t, w); got != "" {
			t.Errorf("it left %q behind", got)
		}
	})
}

func TestPin_ReaderWithoutRights(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.Add(storetest.Rule{Op: storetest.Put, Key: "^pins/", Do: storetest.Fail(objectstore.ErrPermission)})
		e, _ := o.Head().Newest()
		if _, err := w.catalog().Pin(t.Context(), e, ttl); !errors.Is(err, objectstore.ErrPermission) {
			t.Errorf("got %v, want ErrPermission", err)
		}
	})
}

func TestPin_LostAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		for n := range 2 {
			w.Add(storetest.Rule{Op: storetest.Put, Key: "^pins/", Nth: n + 1, Do: storetest.LoseAnswer()})
		}
		e, _ := o.Head().Newest()
		p := pinned(t, w, e)
		time.Sleep(ttl / 2)
		if err := p.Renew(t.Context()); err != nil {
			t.Errorf("renewal with a lost answer: %v", err)
		}
		w.Add(nth(1, storetest.Rule{Op: storetest.Put, Key: "^pins/", Do: storetest.LoseRequest()}))
		time.Sleep(ttl / 2)
		if err := p.Renew(t.Context()); !errors.Is(err, objectstore.ErrUnknownOutcome) {
			t.Errorf("renewal with a lost request: %v", err)
		}
		if err := p.Renew(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

func TestF44_F70_PinExpiresByTheStoresClock(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		skew := 24 * time.Hour // the store's clock is a day ahead of ours
		w.past.Now = func() time.Time { return time.Now().Add(skew) }
		e, _ := o.Head().Newest()
		p := pinned(t, w, e)
		time.Sleep(ttl - time.Second)
		if got := pins(t, w); got != "1" {
			t.Errorf("before its time: %q", got)
		}
		if err := p.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(ttl + pinSlack)
		if got := pins(t, w); got != "1" {
			t.Errorf("within the slack: %q", got)
		}
		time.Sleep(time.Second)
		if got := pins(t, w); got != "1 expired" {
			t.Errorf("after its time: %q", got)
		}
		for range 2 { // the answer stays the same
			if err := p.Renew(t.Context()); !errors.Is(err, ErrPinLost) {
				t.Errorf("got %v, want ErrPinLost", err)
			}
		}
	})
}

func TestPin_RemovedByRetention(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		e, _ := o.Head().Newest()
		p := pinned(t, w, e)
		list, err := w.catalog().Pins(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.past.Delete(t.Context(), list[0].Key); err != nil {
			t.Fatal(err)
		}
		if err := p.Renew(t.Context()); !errors.Is(err, ErrPinLost) {
			t.Errorf("got %v, want ErrPinLost", err)
		}
		if got := pins(t, w); got != "" {
			t.Errorf("the renewal brought back %q", got)
		}
	})
}

func TestPin_Keep(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		e, _ := o.Head().Newest()
		p := pinned(t, w, e)
		ctx := p.Keep(t.Context())
		for range 20 {
			time.Sleep(ttl)
			if got := pins(t, w); got != "1" {
				t.Fatalf("pins are %q", got)
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("it ended: %v", context.Cause(ctx))
		}
		if err := p.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			t.Errorf("after release the cause is %v", cause)
		}
		if got := pins(t, w); got != "" {
			t.Errorf("pins are %q", got)
		}
	})
}

// TestPin_KeepOutlastsTrouble cuts the store off for less, then for more than
// the pin lasts: the reader must have stopped by then.
func TestPin_KeepOutlastsTrouble(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		e, _ := o.Head().Newest()
		p := pinned(t, w, e)
		ctx := p.Keep(t.Context())
		time.Sleep(ttl/4 + time.Second) // renewed just now
		w.Cut(true)
		time.Sleep(ttl * 3 / 4)
		w.Cut(false)
		time.Sleep(ttl / 4)
		if ctx.Err() != nil || pins(t, w) != "1" {
			t.Fatalf("a short trouble ended it: %v, pins %q", context.Cause(ctx), pins(t, w))
		}
		w.Cut(true)
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, ErrPinLost) {
			t.Errorf("the cause is %v, want ErrPinLost", cause)
		}
		w.Cut(false)
		if got := pins(t, w); got != "1" {
			t.Errorf("when the reader stopped the pin was %q", got)
		}
		if err := p.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestPin_KeepDoesNotHang has a renewal that gets no answer.
func TestPin_KeepDoesNotHang(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		e, _ := o.Head().Newest()
		p := pinned(t, w, e)
		w.Add(storetest.Rule{Op: storetest.Put, Key: "^pins/", Do: storetest.Delay(time.Hour)})
		start := time.Now()
		ctx := p.Keep(t.Context())
		<-ctx.Done()
		if d := time.Since(start); d > ttl || !errors.Is(context.Cause(ctx), ErrPinLost) {
			t.Errorf("after %s: %v", d, context.Cause(ctx))
		}
		if err := p.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestPin_KeepEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		e, _ := o.Head().Newest()
		p := pinned(t, w, e)
		parent, cancel := context.WithCancelCause(t.Context())
		ctx := p.Keep(parent)
		cancel(errTooLate)
		synctest.Wait()
		if cause := context.Cause(ctx); !errors.Is(cause, errTooLate) {
			t.Errorf("the cause is %v", cause)
		}
		if err := p.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestPins_WhatIsNotOurs(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.place(t, "pins/README", []byte("x"))
		w.place(t, manifest.PinKey(7, "A"), []byte("no json"))
		w.place(t, manifest.PinKey(8, "A"), []byte(`{"ttl_ms": 999999999999999}`))
		w.place(t, manifest.PinKey(9, "A"), make([]byte, maxPin+1))
		time.Sleep(MaxPinTTL)
		if got := pins(t, w); got != "7, 8, 9" {
			t.Errorf("unreadable pins are %q: they count for as long as any may", got)
		}
		time.Sleep(time.Minute)
		if got := pins(t, w); got != "7 expired, 8 expired, 9 expired" {
			t.Errorf("after that they are %q", got)
		}
	})
}

func TestF36_PinsOfABrokenListing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.place(t, manifest.PinKey(7, "A"), nil)
		w.Add(storetest.Rule{Op: storetest.List, Do: storetest.At(storetest.Middle, func(context.Context, storetest.Call) error {
			return objectstore.ErrUnavailable
		})})
		if list, err := w.catalog().Pins(t.Context()); !errors.Is(err, objectstore.ErrUnavailable) || list != nil {
			t.Errorf("got %v, %v; a part of the pins is none", list, err)
		}
	})
}

func TestPin_TTL(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		e, _ := o.Head().Newest()
		for _, ttl := range []time.Duration{-1, MinPinTTL - 1, MaxPinTTL + 1} {
			if _, err := w.catalog().Pin(t.Context(), e, ttl); err == nil {
				t.Errorf("%s is accepted", ttl)
			}
		}
		if p, err := w.catalog().Pin(t.Context(), e, 0); err != nil || p.ttl != DefaultPinTTL {
			t.Errorf("default is %v, %v", p, err)
		}
	})
}
