package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// inBubble runs a test with fake time, in a job that has checkpoint 1.
func inBubble(t *testing.T, f func(t *testing.T, w *world, o *Owner)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		o := takeOver(t, w.catalog())
		commit(t, o, 1, 0)
		w.Forget()
		f(t, w, o)
	})
}

const manifest2 = "manifests/000000000002-0000000001.manifest"

func TestF16_F18_LostAnswerOfHEAD(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.Add(nth(1, head("HEAD", storetest.Put, storetest.LoseAnswer())))
		commit(t, o, 2, 1)
		want := []string{
			"put " + manifest2 + " if-absent",
			"put HEAD if-match: outcome of the write is unknown",
			"get HEAD", // finds its own nonce
		}
		if got := w.calls(); !slices.Equal(got, want) {
			t.Errorf("calls are %q, want %q", got, want)
		}
		wantIDs(t, o.Head(), 1, 2)
		commit(t, o, 3, 2) // the ETag it found is the right one
		if got := w.calls()[3:]; len(got) != 2 {
			t.Errorf("the next commit took %q", got)
		}
	})
}

// TestF18_RefusedByItsOwnWrite has a store retry a write that it had done: the
// second attempt is refused, and nothing says by whom.
func TestF18_RefusedByItsOwnWrite(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.Add(nth(1, head("HEAD", storetest.Put, storetest.FailAfter(objectstore.ErrPrecondition))))
		commit(t, o, 2, 1)
		wantIDs(t, readHead(t, w.catalog()), 1, 2)
	})
}

func TestF16_LostAnswerOfManifest(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.Add(nth(1, head(manifest2, storetest.Put, storetest.LoseAnswer())))
		commit(t, o, 2, 1)
		want := []string{
			"put " + manifest2 + " if-absent: outcome of the write is unknown",
			"get " + manifest2, // finds its own bytes
			"put HEAD if-match",
		}
		if got := w.calls(); !slices.Equal(got, want) {
			t.Errorf("calls are %q, want %q", got, want)
		}
	})
}

func TestF17_LostRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.Add(
			nth(1, head(manifest2, storetest.Put, storetest.LoseRequest())),
			nth(1, head("HEAD", storetest.Put, storetest.LoseRequest())),
			nth(2, head("HEAD", storetest.Put, storetest.LoseRequest())),
		)
		commit(t, o, 2, 1)
		wantIDs(t, readHead(t, w.catalog()), 1, 2)
	})
}

// TestF17_OldHeadSettlesNothing holds a write back until after HEAD was read:
// the commit must neither fail nor be sent under another nonce, for the write
// may land at any time.
func TestF17_OldHeadSettlesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		before := len(w.past.all())
		for n := range 3 {
			w.Add(nth(n+1, head("HEAD", storetest.Put, storetest.LandLater())))
		}
		done := make(chan error)
		go func() {
			_, err := o.Commit(t.Context(), checkpoint(o, 2, 1), nil)
			done <- err
		}()
		for w.attempts() < 3 {
			time.Sleep(10 * time.Millisecond)
			select {
			case err := <-done:
				t.Fatalf("commit ended with %v while its write was on its way", err)
			default:
			}
		}
		if n := w.Land(t.Context()); n != 1 {
			t.Errorf("%d of the equal writes were done, want 1", n)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := w.past.all()[before:]; len(got) != 1 {
			t.Errorf("HEAD was written %d times", len(got))
		}
		wantIDs(t, o.Head(), 1, 2)
	})
}

// attempts counts the writes of HEAD so far.
func (w *world) attempts() (n int) {
	for _, c := range w.Calls() {
		if c.Op == storetest.Put && c.Key == manifest.HeadKey {
			n++
		}
	}
	return n
}

func TestF17_UnresolvedWhenTheContextEnds(t *testing.T) {
	for name, landed := range map[string]bool{"and lands later": true, "and never lands": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world, o *Owner) {
				w.Add(head("HEAD", storetest.Put, storetest.LandLater()))
				ctx, cancel := contextWithTimeout(t, time.Hour)
				defer cancel()
				m := checkpoint(o, 2, 1)
				_, err := o.Commit(ctx, m, func(Head) []manifest.ID { return []manifest.ID{1} })
				if !errors.Is(err, ErrUnresolved) || !errors.Is(err, errTooLate) {
					t.Fatalf("got %v, want ErrUnresolved with the cause of the context", err)
				}
				wantIDs(t, o.Head(), 1) // so nothing is deleted
				w.ClearRules()
				if landed {
					w.Land(t.Context())
				}
				if e, err := o.Commit(t.Context(), m, nil); err != nil || !w.past.listed(e) {
					t.Fatalf("the same again: %+v, %v", e, err)
				}
				commit(t, o, 3, 2)
				if landed {
					wantIDs(t, o.Head(), 2, 3)
				} else {
					wantIDs(t, o.Head(), 1, 2, 3)
				}
				if n := w.Land(t.Context()); n != 0 {
					t.Errorf("%d late writes were done over a later HEAD", n)
				}
			})
		})
	}
}

// TestF17_NotDoneIsBounded gives up a write that was certainly not done.
func TestF17_F19_NotDoneIsBounded(t *testing.T) {
	for _, key := range []string{"HEAD", manifest2} {
		for _, cause := range []error{objectstore.ErrUnavailable, objectstore.ErrPrecondition} {
			t.Run(fmt.Sprint(key, " ", cause), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *world, o *Owner) {
					w.Add(head(key, storetest.Put, storetest.Fail(cause)))
					start := time.Now()
					_, err := o.Commit(t.Context(), checkpoint(o, 2, 1), nil)
					if !errors.Is(err, cause) || errors.Is(err, ErrUnresolved) {
						t.Errorf("got %v, want %v", err, cause)
					}
					if d := time.Since(start); d < time.Second || d > time.Minute {
						t.Errorf("it took %s", d)
					}
					w.ClearRules()
					commit(t, o, 3, 1)
					wantIDs(t, readHead(t, w.catalog()), 1, 3)
				})
			})
		}
	}
}

func TestF19_ConflictIsRetried(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		for n := range 4 { // a store that lost patience with a conflict
			w.Add(nth(n+1, head("HEAD", storetest.Put, storetest.Fail(objectstore.ErrUnavailable))))
		}
		commit(t, o, 2, 1)
		if n := w.attempts(); n != 5 {
			t.Errorf("%d attempts, want 5", n)
		}
	})
}

func TestF42_RefusalsAreNotRetried(t *testing.T) {
	for _, cause := range []error{objectstore.ErrPermission, objectstore.ErrNoBucket, objectstore.ErrNoSpace} {
		for _, key := range []string{"HEAD", manifest2} {
			inBubble(t, func(t *testing.T, w *world, o *Owner) {
				w.Add(head(key, storetest.Put, storetest.Fail(cause)))
				start := time.Now()
				if _, err := o.Commit(t.Context(), checkpoint(o, 2, 1), nil); !errors.Is(err, cause) {
					t.Errorf("%s: got %v, want %v", key, err, cause)
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("%s: %v took %s", key, cause, d)
				}
			})
		}
	}
}

// TestF17_RefusalAfterUnknown must not take a refusal of the second attempt
// for the fate of the first.
func TestF17_RefusalAfterUnknown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.Add(nth(1, head("HEAD", storetest.Put, storetest.LandLater())))
		for n := range 2 {
			w.Add(nth(n+2, head("HEAD", storetest.Put, storetest.Fail(objectstore.ErrPermission))))
		}
		w.Add(nth(4, head("HEAD", storetest.Put, storetest.At(storetest.Before, func(ctx context.Context, _ storetest.Call) error {
			w.Land(ctx)
			return objectstore.ErrPermission
		}))))
		commit(t, o, 2, 1)
		wantIDs(t, readHead(t, w.catalog()), 1, 2)
	})
}

func TestF21_FencedWhileUnknown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.Add(nth(1, head("HEAD", storetest.Put, storetest.At(storetest.Before, func(context.Context, storetest.Call) error {
			takeOver(t, New(w.past, job)) // somebody else, meanwhile
			return objectstore.ErrUnknownOutcome
		}))))
		if _, err := o.Commit(t.Context(), checkpoint(o, 2, 1), nil); !errors.Is(err, ErrFenced) {
			t.Errorf("got %v, want ErrFenced", err)
		}
		wantIDs(t, readHead(t, w.catalog()), 1)
	})
}

// TestF16_UnknownThenUnlinkByOthers has our write land and another process
// write over it before we look: its nonce is not ours, yet we are in its HEAD.
func TestF16_UnknownThenUnlinkByOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.Add(nth(1, head("HEAD", storetest.Put, storetest.At(storetest.After, func(ctx context.Context, _ storetest.Call) error {
			if _, err := New(w.past, job).Unlink(ctx, 1); err != nil {
				t.Error(err)
			}
			return objectstore.ErrUnknownOutcome
		}))))
		commit(t, o, 2, 1)
		wantIDs(t, readHead(t, w.catalog()), 2)
		if n := w.attempts(); n != 1 {
			t.Errorf("%d attempts, want 1: it had landed", n)
		}
	})
}

func TestF16_TakeOverWithUnknownOutcome(t *testing.T) {
	for name, do := range map[string]func(w *world) storetest.Action{
		"answer lost":  func(*world) storetest.Action { return storetest.LoseAnswer() },
		"request lost": func(*world) storetest.Action { return storetest.LoseRequest() },
		"another process wrote over it": func(w *world) storetest.Action {
			return storetest.At(storetest.After, func(ctx context.Context, _ storetest.Call) error {
				_, err := New(w.past, job).Unlink(ctx, 1)
				return errors.Join(err, objectstore.ErrUnknownOutcome)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world, old *Owner) {
				commit(t, old, 2, 1)
				w.Add(nth(1, head("HEAD", storetest.Put, do(w))))
				o := takeOver(t, w.catalog())
				if o.Epoch() != 2 || readHead(t, w.catalog()).Epoch != 2 {
					t.Errorf("epoch is %d, want 2", o.Epoch())
				}
				commit(t, o, 3, 2)
			})
		})
	}
}

func TestTakeOver_FirstHEADLandsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(nth(1, head("HEAD", storetest.Put, storetest.LandLater())))
		w.Add(nth(2, head("HEAD", storetest.Put, storetest.At(storetest.Before, func(ctx context.Context, _ storetest.Call) error {
			w.Land(ctx)
			return nil // and is refused by our own first attempt
		}))))
		o := takeOver(t, w.catalog())
		if n := len(w.past.all()); n != 1 || o.Epoch() != 1 {
			t.Errorf("HEAD was written %d times, epoch %d", n, o.Epoch())
		}
	})
}

// TestSettle_KnowsItsNonce: a swap that landed is won, not one to be made again.
func TestSettle_KnowsItsNonce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.Add(nth(1, head("HEAD", storetest.Put, storetest.LoseAnswer())))
		cur, err := w.catalog().load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next := cur.head.clone()
		next.Swap = "NEXT"
		seen, won, err := w.catalog().settle(t.Context(), cur, next)
		if !won || err != nil || seen.head.Swap != "NEXT" || seen.etag == cur.etag {
			t.Errorf("got %+v, %v, %v", seen, won, err)
		}
	})
}

func TestF16_StoreStoppedByItsContext(t *testing.T) {
	for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
		inBubble(t, func(t *testing.T, w *world, o *Owner) {
			w.Add(nth(1, head("HEAD", storetest.Put, storetest.FailAfter(cause))))
			commit(t, o, 2, 1)
			if n := w.attempts(); n != 1 {
				t.Errorf("%v: %d attempts, want 1: it had landed", cause, n)
			}
		})
	}
}

// TestF26_HeadDestroyedWhileUnknown has HEAD overwritten with garbage behind
// our back. Waiting would not help.
func TestF26_HeadDestroyedWhileUnknown(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world, o *Owner) {
		w.Add(nth(1, head("HEAD", storetest.Put, storetest.At(storetest.After, func(context.Context, storetest.Call) error {
			w.place(t, manifest.HeadKey, []byte("garbage"))
			return objectstore.ErrUnknownOutcome
		}))))
		start := time.Now()
		_, err := o.Commit(t.Context(), checkpoint(o, 2, 1), nil)
		if !errors.Is(err, manifest.ErrCorrupt) || !errors.Is(err, ErrUnresolved) {
			t.Errorf("got %v, want ErrCorrupt and ErrUnresolved", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("it took %s", d)
		}
	})
}

// TestCommit_SameHeadOtherETag copies HEAD onto itself, as a move of the
// bucket or a change of its encryption does.
func TestCommit_SameHeadOtherETag(t *testing.T) {
	s := &versioned{Mem: objectstore.NewMem()}
	o := takeOver(t, New(s, job))
	commit(t, o, 1, 0)
	s.version++
	commit(t, o, 2, 1)
	wantIDs(t, readHead(t, New(s, job)), 1, 2)
}

// versioned is a store whose ETags change by themselves.
type versioned struct {
	*objectstore.Mem
	version int
}

func (s *versioned) tag(etag string) string { return fmt.Sprint(etag, s.version) }

func (s *versioned) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	if opts.IfMatch != "" {
		etag, ok := strings.CutSuffix(opts.IfMatch, fmt.Sprint(s.version))
		if !ok {
			return objectstore.Info{}, objectstore.ErrPrecondition
		}
		opts.IfMatch = etag
	}
	info, err := s.Mem.Put(ctx, key, body, opts)
	info.ETag = s.tag(info.ETag)
	return info, err
}

func (s *versioned) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, objectstore.Info, error) {
	r, info, err := s.Mem.Get(ctx, key, offset, length)
	info.ETag = s.tag(info.ETag)
	return r, info, err
}

// TestSwap_NeverUnconditional survives a store that forgets ETags in its
// answers, and refuses one that gives none at all.
func TestSwap_NeverUnconditional(t *testing.T) {
	s := &noETags{Mem: objectstore.NewMem()}
	o := takeOver(t, New(s, job))
	if _, err := o.Commit(t.Context(), checkpoint(o, 1, 0), nil); err == nil {
		t.Error("committed on a store without ETags")
	}
	s.onRead = true
	commit(t, o, 1, 0)
	commit(t, o, 2, 1)
	if s.unconditional {
		t.Error("HEAD was written without a condition")
	}
}

type noETags struct {
	*objectstore.Mem
	onRead, unconditional bool
}

func (s *noETags) Put(ctx context.Context, key string, body objectstore.Body, opts objectstore.PutOptions) (objectstore.Info, error) {
	s.unconditional = s.unconditional || opts == objectstore.PutOptions{}
	info, err := s.Mem.Put(ctx, key, body, opts)
	info.ETag = ""
	return info, err
}

func (s *noETags) Get(ctx context.Context, key string, offset, length int64) (r io.ReadCloser, info objectstore.Info, err error) {
	r, info, err = s.Mem.Get(ctx, key, offset, length)
	if !s.onRead {
		info.ETag = ""
	}
	return r, info, err
}
