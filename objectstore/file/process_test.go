package file_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/file"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// The test binary is also the processes that its tests race and kill.
func TestMain(m *testing.M) {
	dir := os.Getenv("CKPT_FILE_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := child(dir, os.Getenv("CKPT_FILE_TEST_KILL")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const increments = 25

// child counts up a number in the store, as often as it wins, or writes one
// object under a rule that kills it.
func child(dir, kill string) error {
	s, err := file.Open(dir, file.Options{Create: true})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if kill != "" {
		rule, err := storetest.ParseKill(kill)
		if err != nil {
			return err
		}
		return put(ctx, storetest.NewFaulty(s, 1, rule), "d/k", strings.Repeat("new", 1<<20), objectstore.PutOptions{IfAbsent: true})
	}
	for done := 0; done < increments; {
		b, info, err := objectstore.ReadAll(ctx, s, "counter", 100)
		if err != nil {
			return err
		}
		var n int
		fmt.Sscan(string(b), &n)
		switch err := put(ctx, s, "counter", fmt.Sprint(n+1), objectstore.PutOptions{IfMatch: info.ETag}); {
		case err == nil:
			done++
		case !errors.Is(err, objectstore.ErrPrecondition):
			return err
		}
	}
	return nil
}

func childCommand(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// TestRaceBetweenProcesses counts in several processes at once. No increment
// may be lost.
func TestRaceBetweenProcesses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := put(t.Context(), s, "counter", "0", objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	const processes = 4
	var cmds []*exec.Cmd
	for range processes {
		cmd := childCommand(t, "CKPT_FILE_TEST_DIR="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	}
	b, _, err := objectstore.ReadAll(t.Context(), s, "counter", 100)
	if want := fmt.Sprint(processes * increments); err != nil || string(b) != want {
		t.Errorf("counted to %s, %v, want %s", b, err, want)
	}
}

// TestKilledDuringPut kills a writing process at each phase. Until the end
// there is no object, and what is left over is swept.
func TestKilledDuringPut(t *testing.T) {
	for _, tc := range []struct {
		phase    string
		whole    bool
		leftover int
	}{{"before", false, 0}, {"middle", false, 1}, {"after", true, 0}} {
		t.Run(tc.phase, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			if err := childCommand(t, "CKPT_FILE_TEST_DIR="+dir, "CKPT_FILE_TEST_KILL="+tc.phase+" put 1 ^d/").Run(); err == nil {
				t.Fatal("the child lived")
			}
			b, _, err := objectstore.ReadAll(t.Context(), s, "d/k", 10<<20)
			if tc.whole && (err != nil || len(b) != 3<<20) {
				t.Errorf("read %d bytes, %v", len(b), err)
			}
			if !tc.whole {
				wantError(t, "read", err, objectstore.ErrNotExist)
			}
			if n, err := s.SweepTemp(0); n != tc.leftover || err != nil {
				t.Errorf("SweepTemp = %d, %v, want %d", n, err, tc.leftover)
			}
		})
	}
}
