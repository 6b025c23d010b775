package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) objectstore.Store {
		return storetest.NewFaulty(objectstore.NewMem(), 1)
	})
}

func put(ctx context.Context, s objectstore.Store, key, body string, opts objectstore.PutOptions) error {
	_, err := s.Put(ctx, key, objectstore.Bytes([]byte(body)), opts)
	return err
}

func content(t *testing.T, s objectstore.Store, key string) string {
	t.Helper()
	b, _, err := objectstore.ReadAll(t.Context(), s, key, 1<<20)
	switch {
	case errors.Is(err, objectstore.ErrNotExist):
		return "nothing"
	case err != nil:
		t.Fatal(err)
	}
	return string(b)
}

var absent = objectstore.PutOptions{IfAbsent: true}

func TestPutActions(t *testing.T) {
	errOwn := errors.New("own")
	for _, tc := range []struct {
		name    string
		do      storetest.Action
		want    error
		content string
	}{
		{"nothing", storetest.Action{}, nil, "body"},
		{"Fail", storetest.Fail(errOwn), errOwn, "nothing"},
		{"FailAfter", storetest.FailAfter(errOwn), errOwn, "body"},
		{"LoseAnswer", storetest.LoseAnswer(), objectstore.ErrUnknownOutcome, "body"},
		{"LoseRequest", storetest.LoseRequest(), objectstore.ErrUnknownOutcome, "nothing"},
		{"LandLater", storetest.LandLater(), objectstore.ErrUnknownOutcome, "nothing"},
		{"At Middle", storetest.At(storetest.Middle, func(context.Context, storetest.Call) error { return errOwn }), errOwn, "nothing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mem := objectstore.NewMem()
			s := storetest.NewFaulty(mem, 1, storetest.Rule{Op: storetest.Put, Do: tc.do})
			if err := put(t.Context(), s, "k", "body", absent); !errors.Is(err, tc.want) {
				t.Errorf("Put: %v, want %v", err, tc.want)
			}
			if got := content(t, mem, "k"); got != tc.content {
				t.Errorf("the store holds %s, want %s", got, tc.content)
			}
		})
	}
}

func TestLandKeepsConditions(t *testing.T) {
	mem := objectstore.NewMem()
	s := storetest.NewFaulty(mem, 1, storetest.Rule{Op: storetest.Put, Do: storetest.LandLater()})
	body := []byte("late")
	for _, key := range []string{"free", "taken"} {
		if _, err := s.Put(t.Context(), key, objectstore.Bytes(body), absent); !errors.Is(err, objectstore.ErrUnknownOutcome) {
			t.Fatal(err)
		}
	}
	body[0] = 'X' // a body belongs to its caller again after the Put
	if err := put(t.Context(), mem, "taken", "first", absent); err != nil {
		t.Fatal(err)
	}
	if n := s.Land(t.Context()); n != 1 {
		t.Errorf("%d writes landed", n)
	}
	if a, b := content(t, mem, "free"), content(t, mem, "taken"); a != "late" || b != "first" {
		t.Errorf("the store holds %s and %s", a, b)
	}
	if n := s.Land(t.Context()); n != 0 {
		t.Errorf("%d writes landed twice", n)
	}
}

func TestBodyActions(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   storetest.Action
		off  int64
		want string
		err  error
	}{
		{"CutBody", storetest.CutBody(4), 0, "0123", objectstore.ErrUnavailable},
		{"CutBody at once", storetest.CutBody(0), 0, "", objectstore.ErrUnavailable},
		{"Truncate", storetest.Truncate(4), 0, "0123", nil},
		{"FlipByte", storetest.FlipByte(4), 0, "0123\xcb56789", nil},
		{"FlipByte of a range", storetest.FlipByte(1), 4, "4\xca6789", nil},
		{"Middle", storetest.At(storetest.Middle, func(context.Context, storetest.Call) error { return objectstore.ErrPermission }),
			2, "2345", objectstore.ErrPermission},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mem := objectstore.NewMem()
			if err := put(t.Context(), mem, "k", "0123456789", absent); err != nil {
				t.Fatal(err)
			}
			s := storetest.NewFaulty(mem, 1, storetest.Rule{Op: storetest.Get, Do: tc.do})
			r, _, err := s.Get(t.Context(), "k", tc.off, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got, err := io.ReadAll(r); string(got) != tc.want || !errors.Is(err, tc.err) {
				t.Errorf("read %q, %v, want %q, %v", got, err, tc.want, tc.err)
			}
		})
	}
}

func TestRuleChoosesCalls(t *testing.T) {
	s := storetest.NewFaulty(objectstore.NewMem(), 1,
		storetest.Rule{Op: storetest.Put, Key: "^data/", Nth: 2, Do: storetest.Fail(objectstore.ErrNoSpace)},
		storetest.Rule{Key: "^x$", Do: storetest.Fail(objectstore.ErrPermission)})
	var got []error
	for _, key := range []string{"data/1", "other", "data/2", "data/3", "x"} {
		got = append(got, put(t.Context(), s, key, "b", absent))
	}
	_, err := s.Stat(t.Context(), "data/2")
	got = append(got, err, s.Delete(t.Context(), "y", "x"))
	want := []error{nil, nil, objectstore.ErrNoSpace, nil, objectstore.ErrPermission, objectstore.ErrNotExist, objectstore.ErrPermission}
	for i := range want {
		if !errors.Is(got[i], want[i]) {
			t.Errorf("call %d: %v, want %v", i, got[i], want[i])
		}
	}
	s.ClearRules()
	if err := put(t.Context(), s, "x", "b", absent); err != nil {
		t.Errorf("after ClearRules: %v", err)
	}
	s.Add(storetest.Rule{Op: storetest.Put, Nth: 1, Do: storetest.Fail(objectstore.ErrNoSpace)})
	if err := put(t.Context(), s, "y", "b", absent); !errors.Is(err, objectstore.ErrNoSpace) {
		t.Errorf("the first call after Add: %v", err)
	}
}

func TestSeedDecides(t *testing.T) {
	faults := func(seed uint64) (got []int) {
		s := storetest.NewFaulty(objectstore.NewMem(), seed, storetest.Rule{Chance: 0.3, Do: storetest.Fail(objectstore.ErrUnavailable)})
		for i := range 200 {
			if put(t.Context(), s, fmt.Sprint(i), "x", absent) != nil {
				got = append(got, i)
			}
		}
		return got
	}
	a := faults(1)
	if !slices.Equal(a, faults(1)) || slices.Equal(a, faults(2)) || len(a) < 30 || len(a) > 90 {
		t.Errorf("seed 1 gives %d faults of 200, the same again %v, as seed 2 %v", len(a), slices.Equal(a, faults(1)), slices.Equal(a, faults(2)))
	}
}

func TestRecord(t *testing.T) {
	s := storetest.NewFaulty(objectstore.NewMem(), 1, storetest.Rule{Key: "lost", Do: storetest.LoseAnswer()})
	ctx := t.Context()
	put(ctx, s, "HEAD", "1", absent)
	put(ctx, s, "HEAD", "1", absent)
	put(ctx, s, "HEAD", "2", objectstore.PutOptions{IfMatch: "x"})
	put(ctx, s, "lost", "3", objectstore.PutOptions{})
	content(t, s, "HEAD")
	s.Stat(ctx, "none")
	for range s.List(ctx, "pre", "after") {
	}
	s.Delete(ctx, "a", "b")
	want := []string{
		"put HEAD if-absent",
		"put HEAD if-absent: precondition failed",
		"put HEAD if-match: precondition failed",
		"put lost: outcome of the write is unknown",
		"get HEAD",
		"stat none: file does not exist",
		"list pre",
		"delete a b",
	}
	calls := s.Calls()
	var got []string
	for i, c := range calls {
		got = append(got, c.String())
		if c.Seq != i+1 || c.Phase != storetest.After || c.Body != nil {
			t.Errorf("call %d is recorded as %+v", i, c)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("recorded\n%q, want\n%q", got, want)
	}
	s.Forget()
	put(ctx, s, "k", "x", absent)
	if calls := s.Calls(); len(calls) != 1 || calls[0].Seq != 9 {
		t.Errorf("after Forget: %v", calls)
	}
}

// TestHookSeesPairs uses the hook as a scheduling point.
func TestHookSeesPairs(t *testing.T) {
	s := storetest.NewFaulty(objectstore.NewMem(), 1, storetest.Rule{Key: "bad", Do: storetest.Fail(objectstore.ErrNoSpace)})
	var got []string
	s.Hook = func(_ context.Context, c storetest.Call) error {
		got = append(got, fmt.Sprint(c.Seq, " ", c.Phase, " ", c))
		return nil
	}
	put(t.Context(), s, "k", "x", absent)
	put(t.Context(), s, "bad", "x", absent)
	for range s.List(t.Context(), "", "") {
	}
	want := []string{
		"1 before put k if-absent", "1 after put k if-absent",
		"2 before put bad if-absent", "2 after put bad if-absent: no space left in the object store",
		"3 before list ", "3 after list ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the hook saw\n%q, want\n%q", got, want)
	}
	s.Hook = func(_ context.Context, c storetest.Call) error {
		if c.Phase == storetest.After {
			return objectstore.ErrPermission
		}
		return nil
	}
	if err := put(t.Context(), s, "l", "x", absent); !errors.Is(err, objectstore.ErrPermission) {
		t.Errorf("Put whose hook fails after it: %v", err)
	}
}

func TestMiddleOfDeleteAndList(t *testing.T) {
	mem := objectstore.NewMem()
	left := func() (keys []string) {
		for info := range mem.List(t.Context(), "", "") {
			keys = append(keys, info.Key)
		}
		return keys
	}
	for _, k := range []string{"a", "b", "c", "d"} {
		if err := put(t.Context(), mem, k, "x", absent); err != nil {
			t.Fatal(err)
		}
	}
	var seen []string
	s := storetest.NewFaulty(mem, 1, storetest.Rule{Do: storetest.At(storetest.Middle, func(_ context.Context, c storetest.Call) error {
		seen = append(seen, fmt.Sprint(c.Op, c.Phase, left()))
		return objectstore.ErrUnavailable
	})})
	if err := s.Delete(t.Context(), "a", "b", "c"); !errors.Is(err, objectstore.ErrUnavailable) {
		t.Errorf("Delete: %v", err)
	}
	var got []string
	var last error
	for info, err := range s.List(t.Context(), "", "") {
		got, last = append(got, info.Key), err
	}
	if !slices.Equal(got, []string{"b", ""}) || !errors.Is(last, objectstore.ErrUnavailable) {
		t.Errorf("List gave %q and at last %v", got, last)
	}
	if want := []string{"deletemiddle[b c d]", "listmiddle[b c d]"}; !slices.Equal(seen, want) {
		t.Errorf("the hook saw %q, want %q", seen, want)
	}
}

func TestCut(t *testing.T) {
	mem := objectstore.NewMem()
	s := storetest.NewFaulty(mem, 1)
	if err := put(t.Context(), s, "k", "0123456789", absent); err != nil {
		t.Fatal(err)
	}
	r, _, err := s.Get(t.Context(), "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// The cut comes between a write and its answer.
	s.Add(storetest.Rule{Key: "during", Do: storetest.At(storetest.Middle, func(context.Context, storetest.Call) error { s.Cut(true); return nil })})
	if err := put(t.Context(), s, "during", "x", absent); !errors.Is(err, objectstore.ErrUnknownOutcome) {
		t.Errorf("Put during which it was cut off: %v", err)
	}
	if got := content(t, mem, "during"); got != "x" {
		t.Errorf("the write under way left %s", got)
	}
	if err := put(t.Context(), s, "later", "x", absent); !errors.Is(err, objectstore.ErrUnknownOutcome) || content(t, mem, "later") != "nothing" {
		t.Errorf("Put while cut off: %v", err)
	}
	if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, objectstore.ErrUnavailable) {
		t.Errorf("Stat while cut off: %v", err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, objectstore.ErrUnavailable) {
		t.Errorf("read while cut off: %v", err)
	}
	s.Cut(false)
	if _, err := s.Stat(t.Context(), "k"); err != nil {
		t.Errorf("Stat when joined again: %v", err)
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(objectstore.NewMem(), 1, storetest.Rule{Do: storetest.Delay(time.Minute)})
		start := time.Now()
		if err := put(t.Context(), s, "k", "x", absent); err != nil || time.Since(start) != time.Minute {
			t.Errorf("Put took %v, %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := put(ctx, s, "l", "x", absent); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Put with a deadline: %v", err)
		}
	})
}

func TestParseKill(t *testing.T) {
	r, err := storetest.ParseKill("middle put 3 ^data/ .*")
	if err != nil || r.Op != storetest.Put || r.Nth != 3 || r.Key != "^data/ .*" {
		t.Errorf("ParseKill = %+v, %v", r, err)
	}
	if r, err := storetest.ParseKill("before any 0 ."); err != nil || r.Op != "" {
		t.Errorf("ParseKill = %+v, %v", r, err)
	}
	for _, bad := range []string{"", "middle put 3", "during put 3 x", "before move 1 x", "before put one x", "before put 1 ("} {
		if _, err := storetest.ParseKill(bad); err == nil {
			t.Errorf("ParseKill(%q): no error", bad)
		}
	}
}

// TestKill runs this test again as a child that dies in it.
func TestKill(t *testing.T) {
	if os.Getenv("CKPT_STORETEST_DIE") != "" {
		put(t.Context(), storetest.NewFaulty(objectstore.NewMem(), 1, storetest.Rule{Do: storetest.At(storetest.Before, storetest.Kill)}), "k", "x", absent)
		os.Exit(0)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$")
	cmd.Env = append(os.Environ(), "CKPT_STORETEST_DIE=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() == 2 {
		t.Errorf("the child ended with %v\n%s", err, out)
	}
}
