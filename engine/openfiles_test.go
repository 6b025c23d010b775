//go:build unix

package engine

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// F80: the table files that are kept open are a part of what is allowed.
func TestF80_OpenFilesFollowTheLimit(t *testing.T) {
	if os.Getenv("ENGINE_OPEN_FILES") != "" {
		t.Logf("kept open: %d.", openFiles())
		return
	}
	for limit, want := range map[string]string{"40": "16.", "256": "64.", "1024": "256."} {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "ulimit -n "+limit+`; exec "$0" "$@"`,
			os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "ENGINE_OPEN_FILES=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "kept open: "+want) {
			t.Errorf("with %s open files: %v\n%s", limit, err, out)
		}
	}
}
