package objectstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// lax is a store that breaks a condition in the way mode names.
type lax struct {
	objectstore.Store
	mode string
	mu   sync.Mutex
	race int
}

func (l *lax) Put(ctx context.Context, key string, body objectstore.Body, o objectstore.PutOptions) (objectstore.Info, error) {
	switch l.mode {
	case "ignores all":
		o = objectstore.PutOptions{}
	case "ignores IfAbsent":
		o.IfAbsent = false
	case "ignores IfMatch":
		o.IfMatch = ""
	case "IfMatch creates":
		if _, err := l.Stat(ctx, key); errors.Is(err, objectstore.ErrNotExist) {
			o.IfMatch = ""
		}
	case "IfMatch never holds":
		if o.IfMatch != "" {
			return objectstore.Info{}, objectstore.ErrPrecondition
		}
	case "refuses all":
		if o.IfAbsent {
			return objectstore.Info{}, objectstore.ErrPrecondition
		}
	case "says refused, overwrites":
		info, err := l.Store.Put(ctx, key, body, o)
		if err == nil {
			return info, nil
		}
		l.Store.Put(ctx, key, body, objectstore.PutOptions{})
		return objectstore.Info{}, err
	case "two winners", "two winners of IfMatch":
		if strings.HasSuffix(key, "-race") && o.IfAbsent == (l.mode == "two winners") {
			return l.secondWins(ctx, key, body, o)
		}
	}
	return l.Store.Put(ctx, key, body, o)
}

// secondWins lets the first two of the racers through.
func (l *lax) secondWins(ctx context.Context, key string, body objectstore.Body, o objectstore.PutOptions) (objectstore.Info, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.race++; l.race == 2 {
		o = objectstore.PutOptions{}
	}
	return l.Store.Put(ctx, key, body, o)
}

func TestF25_ProbeRefusesStoresThatIgnoreConditions(t *testing.T) {
	for _, tc := range []struct{ mode, want string }{
		{"ignores all", "created an object that existed"},
		{"ignores IfAbsent", "created an object that existed"},
		{"ignores IfMatch", "by a stale ETag"},
		{"IfMatch creates", "replaced an object that does not exist"},
		{"IfMatch never holds", "by its right ETag"},
		{"refuses all", "refused to create a new object"},
		{"says refused, overwrites", "but overwrote it"},
		{"two winners", "race to create by 8 writers it let 2 win"},
		{"two winners of IfMatch", "race to replace by 8 writers it let 2 win"},
	} {
		t.Run(tc.mode, func(t *testing.T) {
			mem := objectstore.NewMem()
			_, err := objectstore.Probe(t.Context(), &lax{Store: mem, mode: tc.mode}, "probe/")
			if !errors.Is(err, objectstore.ErrConditionsIgnored) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Probe: %v, want ErrConditionsIgnored with %q", err, tc.want)
			}
			checkEmpty(t, mem)
		})
	}
}

func checkEmpty(t *testing.T, s objectstore.Store) {
	t.Helper()
	for info, err := range s.List(t.Context(), "", "") {
		t.Errorf("left behind: %q %v", info.Key, err)
	}
}

func TestProbeAccepts(t *testing.T) {
	mem := objectstore.NewMem()
	got, err := objectstore.Probe(t.Context(), objectstore.Prefix(mem, "job"), "probe/")
	if err != nil || got != (objectstore.Capabilities{}) {
		t.Errorf("Probe = %+v, %v", got, err)
	}
	checkEmpty(t, mem)
}

// unquoting is a server that compares ETags without quotes, and its client.
type unquoting struct {
	objectstore.Store
	unquoted bool
}

func (u *unquoting) UnquoteETags(on bool) bool { u.unquoted = on; return true }

func (u *unquoting) Put(ctx context.Context, key string, body objectstore.Body, o objectstore.PutOptions) (objectstore.Info, error) {
	if o.IfMatch != "" && !u.unquoted {
		return objectstore.Info{}, fmt.Errorf("put: %w", objectstore.ErrPrecondition)
	}
	return u.Store.Put(ctx, key, body, o)
}

func TestProbeRemembersETagSpelling(t *testing.T) {
	u := &unquoting{Store: objectstore.NewMem()}
	s := objectstore.Prefix(storetest.NewFaulty(u, 1), "job")
	got, err := objectstore.Probe(t.Context(), s, "probe/")
	if err != nil || !got.UnquotedETags || !u.unquoted {
		t.Errorf("Probe = %+v, %v; store told: %v", got, err, u.unquoted)
	}
	// A store that refuses both spellings gets its first one back.
	u = &unquoting{Store: &lax{Store: objectstore.NewMem(), mode: "IfMatch never holds"}}
	if _, err := objectstore.Probe(t.Context(), u, "p/"); !errors.Is(err, objectstore.ErrConditionsIgnored) || u.unquoted {
		t.Errorf("Probe: %v, unquoted %v", err, u.unquoted)
	}
}

func TestProbeSettlesUnknownOutcomes(t *testing.T) {
	for seed := range uint64(50) {
		mem := objectstore.NewMem()
		s := storetest.NewFaulty(mem, seed,
			storetest.Rule{Op: storetest.Put, Chance: 0.15, Do: storetest.LoseAnswer()},
			storetest.Rule{Op: storetest.Put, Chance: 0.15, Do: storetest.LoseRequest()})
		_, err := objectstore.Probe(t.Context(), s, "probe/")
		// Giving up on a store that loses so much is fine, a wrong verdict is not.
		if errors.Is(err, objectstore.ErrConditionsIgnored) {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func TestProbeOtherErrors(t *testing.T) {
	deny := storetest.Fail(objectstore.ErrPermission)
	s := storetest.NewFaulty(objectstore.NewMem(), 1, storetest.Rule{Op: storetest.Put, Do: deny})
	if _, err := objectstore.Probe(t.Context(), s, "probe/"); !errors.Is(err, objectstore.ErrPermission) || errors.Is(err, objectstore.ErrConditionsIgnored) {
		t.Errorf("Probe without the right to write: %v", err)
	}
	s = storetest.NewFaulty(objectstore.NewMem(), 1, storetest.Rule{Op: storetest.Delete, Do: deny})
	if got, err := objectstore.Probe(t.Context(), s, "probe/"); err != nil || !got.DeleteDenied {
		t.Errorf("Probe without the right to delete: %+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	mem := objectstore.NewMem()
	s = storetest.NewFaulty(mem, 1, storetest.Rule{Op: storetest.Put, Nth: 4, Do: storetest.At(storetest.Before,
		func(context.Context, storetest.Call) error { cancel(); return nil })})
	if _, err := objectstore.Probe(ctx, s, "probe/"); !errors.Is(err, context.Canceled) {
		t.Errorf("Probe that was cancelled: %v", err)
	}
	checkEmpty(t, mem)
}
