package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
	"github.com/ckpt-io/ckpt/retention"
)

// newSession is a session on a job with checkpoints 1 and 2, over a store into
// which faults can be injected.
func newSession(t *testing.T) (s *session, faulty *storetest.Faulty, stdout, stderr *bytes.Buffer) {
	t.Helper()
	mem := objectstore.NewMem()
	if err := seed(t.Context(), mem, "wordcount", t.TempDir(), 2, manifest.PartsOptions{}); err != nil {
		t.Fatal(err)
	}
	faulty = storetest.NewFaulty(mem, 1)
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	store := objectstore.Prefix(faulty, "wordcount")
	return &session{
		app:  &app{stdout: stdout, stderr: stderr, job: "wordcount"},
		root: faulty, store: store, cat: catalog.New(store, "wordcount"),
	}, faulty, stdout, stderr
}

// retire goes on with the job beside a command, at its first read of the object
// of checkpoint 1: another owner commits 3, which needs nothing, and deletes
// what 1 and 2 held.
func retire(t *testing.T, s *session, faulty *storetest.Faulty) {
	t.Helper()
	faulty.Add(storetest.Rule{Op: storetest.Get, Key: "data/.*-1-1.sst", Nth: 1, Do: storetest.At(storetest.Before,
		func(ctx context.Context, _ storetest.Call) error { return goOn(ctx, s) })})
}

func goOn(ctx context.Context, s *session) error {
	owner, err := s.cat.TakeOver(ctx, catalog.TakeOverOptions{})
	if err != nil {
		return err
	}
	m := &manifest.Manifest{Job: "wordcount", ID: 3, Epoch: owner.Epoch(), Kind: manifest.Periodic}
	if _, err := owner.Commit(ctx, m, func(catalog.Head) []manifest.ID { return []manifest.ID{1, 2} }); err != nil {
		return err
	}
	plan, err := retention.NewPlan(ctx, s.cat, s.store)
	if err != nil {
		return err
	}
	_, err = retention.Apply(ctx, s.cat, s.store, plan, retention.ApplyOptions{})
	return err
}

// TestRestorePinned: what is being restored is not deleted.
func TestRestorePinned(t *testing.T) {
	s, faulty, stdout, stderr := newSession(t)
	retire(t, s, faulty)
	to := filepath.Join(t.TempDir(), "out")
	if err := s.restore(t.Context(), "2", to, ""); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	if !strings.Contains(stdout.String(), filepath.Join(to, "count", "1")) {
		t.Errorf("output %q", stdout)
	}
	for info, err := range s.store.List(t.Context(), manifest.PinsPrefix, "") {
		t.Errorf("pin left: %v %v", info.Key, err)
	}
}

// TestRestoreUnpinned: without the right to write, a restore of the newest
// checkpoint begins again, that of another one says that it is gone.
func TestRestoreUnpinned(t *testing.T) {
	for _, ref := range []string{"latest", "2"} {
		s, faulty, _, stderr := newSession(t)
		faulty.Add(storetest.Rule{Op: storetest.Put, Key: "/pins/", Do: storetest.Fail(objectstore.ErrPermission)})
		retire(t, s, faulty)
		to := filepath.Join(t.TempDir(), "out")
		err := s.restore(t.Context(), ref, to, "")
		if !strings.Contains(stderr.String(), "may not write a pin") {
			t.Errorf("%s: not told of the missing pin: %s", ref, stderr)
		}
		_, serr := os.Stat(to)
		if ref == "latest" {
			if err != nil || serr != nil || !strings.Contains(stderr.String(), "beginning again with the newest") {
				t.Errorf("latest: %v, %v, %s", err, serr, stderr)
			}
		} else if exitCode(err) != exit.NotFound || !strings.Contains(err.Error(), "was retired while") || serr == nil {
			t.Errorf("2: exit code %d (%v), directory: %v", exitCode(err), err, serr)
		}
		if left, _ := os.ReadDir(filepath.Dir(to)); ref != "latest" && len(left) != 0 {
			t.Errorf("%s: left behind: %v", ref, left)
		}
	}
}

// TestRestoreRetiredBeforeThePin: the newest checkpoint is retired between the
// reading of HEAD and the pin.
func TestRestoreRetiredBeforeThePin(t *testing.T) {
	s, faulty, _, stderr := newSession(t)
	faulty.Add(storetest.Rule{Op: storetest.Put, Key: "/pins/", Nth: 1, Do: storetest.At(storetest.Before,
		func(ctx context.Context, _ storetest.Call) error { return goOn(ctx, s) })})
	to := filepath.Join(t.TempDir(), "out")
	if err := s.restore(t.Context(), "latest", to, ""); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stderr.String(), "beginning again with the newest") {
		t.Errorf("talk %q", stderr)
	}
	if _, err := os.Stat(to); err != nil {
		t.Error(err)
	}
}

// TestVerifyWhileRetired: what a running job deletes meanwhile is no damage.
func TestVerifyWhileRetired(t *testing.T) {
	s, faulty, stdout, stderr := newSession(t)
	retire(t, s, faulty)
	if err := s.verify(t.Context(), "all", false); err != nil {
		t.Errorf("%v\n%s", err, stdout)
	}
	if !strings.Contains(stderr.String(), "checkpoint 2 was retired meanwhile") {
		t.Errorf("talk %q", stderr)
	}
}

// TestVerifyStoreTrouble: a store that does not answer says nothing about its
// objects.
func TestVerifyStoreTrouble(t *testing.T) {
	for _, quick := range []bool{false, true} {
		s, faulty, _, _ := newSession(t)
		faulty.Add(storetest.Rule{Key: "/data/", Do: storetest.Fail(objectstore.ErrUnavailable)})
		if err := s.verify(t.Context(), "all", quick); exitCode(err) != exit.Store {
			t.Errorf("quick %v: exit code %d (%v), want %d", quick, exitCode(err), err, exit.Store)
		}
	}
}

// TestF33_F34_VerifyOfALyingStore: the store returns other bytes, or fewer, than
// were stored.
func TestF33_F34_VerifyOfALyingStore(t *testing.T) {
	for name, lie := range map[string]storetest.Action{"flip": storetest.FlipByte(9), "cut": storetest.Truncate(9)} {
		s, faulty, _, _ := newSession(t)
		faulty.Add(storetest.Rule{Op: storetest.Get, Key: "data/.*-1-1.sst", Do: lie})
		if err := s.verify(t.Context(), "all", false); exitCode(err) != exit.Corrupt {
			t.Errorf("%s: exit code %d (%v), want %d", name, exitCode(err), err, exit.Corrupt)
		}
		to := filepath.Join(t.TempDir(), "out")
		if err := s.restore(t.Context(), "2", to, ""); err == nil {
			t.Errorf("%s: restored", name)
		}
		if left, _ := os.ReadDir(filepath.Dir(to)); len(left) != 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

// TestF42_GCWithoutTheRightToDelete fails with what is left counted.
func TestF42_GCWithoutTheRightToDelete(t *testing.T) {
	s, faulty, stdout, stderr := newSession(t)
	faulty.Add(storetest.Rule{Op: storetest.Delete, Do: storetest.Fail(fmt.Errorf("delete: %w", objectstore.ErrPermission))})
	err := s.gc(t.Context(), gcFlags{keep: 1})
	if exitCode(err) != exit.Store || !errors.Is(err, objectstore.ErrPermission) {
		t.Errorf("exit code %d (%v), want %d", exitCode(err), err, exit.Store)
	}
	if !strings.Contains(stderr.String(), "1 failed") {
		t.Errorf("talk %q, output %q", stderr, stdout)
	}
	faulty.ClearRules()
	if err := s.gc(t.Context(), gcFlags{}); err != nil {
		t.Fatal(err)
	}
	if err := s.verify(t.Context(), "all", false); err != nil {
		t.Fatal(err)
	}
}

// TestApplyEditedPlan: what a plan file says of a live object is left out.
func TestApplyEditedPlan(t *testing.T) {
	s, _, _, stderr := newSession(t)
	plan, err := retention.NewPlan(t.Context(), s.cat, s.store)
	if err != nil {
		t.Fatal(err)
	}
	for info, err := range s.store.List(t.Context(), manifest.DataPrefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		plan.Deletes = append(plan.Deletes, retention.Item{Key: info.Key, Size: info.Size, Reason: retention.Unused})
	}
	if err := s.applyPlan(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stderr.String(), "left out 2 objects of the plan") {
		t.Errorf("talk %q", stderr)
	}
	if err := s.verify(t.Context(), "all", false); err != nil {
		t.Error(err)
	}
	plan.UUID, plan.Unlink = "another", []manifest.ID{1}
	if err := s.applyPlan(t.Context(), plan); !errors.Is(err, retention.ErrOtherJob) {
		t.Errorf("error %v, want ErrOtherJob", err)
	}
	if _, _, err := s.cat.Resolve(t.Context(), "1"); err != nil {
		t.Errorf("the plan of another job unlinked a checkpoint: %v", err)
	}
}
