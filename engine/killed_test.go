//go:build unix

package engine_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/objectstore/file"
)

// A job that is killed again and again recovers from what it left on the disk,
// which does not grow by it.
func TestKilledJobLeavesTheDiskBounded(t *testing.T) {
	kills := 8
	if os.Getenv("CKPT_HEAVY") != "" {
		kills = 20
	}
	if dir := os.Getenv("ENGINE_KILLED_IN"); dir != "" {
		killedJob(t, dir)
		return
	}
	dir := t.TempDir()
	var most int
	for i := range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "ENGINE_KILLED_IN="+dir, "TMPDIR="+dir)
		out, _ := cmd.CombinedOutput()
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Fatalf("life %d ended with %v\n%s", i, cmd.ProcessState, out)
		}
		if local := strings.Contains(string(out), "local copies: true"); local != (i > 0) {
			t.Errorf("life %d was restored from local copies: %t\n%s", i, local, out)
		}
		var epochs, files int
		err := filepath.WalkDir(filepath.Join(dir, "state"), func(path string, d fs.DirEntry, err error) error {
			if _, isNumber := strconv.Atoi(d.Name()); isNumber == nil && d.IsDir() && filepath.Base(filepath.Dir(filepath.Dir(path))) == "state" {
				epochs++
			}
			files++
			return err
		})
		if err != nil || epochs != 1 {
			t.Errorf("%d working directories after %d kills (%v)", epochs, i+1, err)
		}
		if i < 3 {
			most = max(most, files)
		} else if files > 3*most {
			t.Errorf("%d files after %d kills, at most %d after the first", files, i+1, most)
		}
	}
}

// killedJob runs until a few checkpoints are committed and kills itself.
func killedJob(t *testing.T, dir string) {
	store, err := file.Open(filepath.Join(dir, "store"), file.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(t, store, 2)
	cfg.StateDir = filepath.Join(dir, "state")
	cfg.Materialize = state.MaterializePolicy{MaxDeltas: 4}
	cfg.Events.Started = func(s engine.Started) { t.Logf("local copies: %t", s.State.LocalObjects > 0 && s.State.Objects == 0) }
	left := 3
	cfg.Events.Checkpoints.Completed = func(coordinator.Completed) {
		if left--; left == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	src := &numbers{splits: 2, records: 1 << 20, chunk: 20}
	err = engine.Run(t.Context(), counting(src, discard[counted]{}, nil, engine.MaxParallelism(16)), cfg)
	t.Fatalf("it was not killed: %v", err)
}
