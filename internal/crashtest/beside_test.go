//go:build unix

package crashtest

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestCommandsBesideARunningJob collects garbage, verifies and restores all the
// while a job commits and retires checkpoints.
func TestCommandsBesideARunningJob(t *testing.T) {
	t.Parallel()
	p := onDirectory(t)
	proc := p.start("--interval", "20ms", "--rate", "6000", "--parallelism", "3")
	proc.mustSee(`msg="checkpoint completed"`, 1)
	ended, dir := make(chan struct{}), t.TempDir()
	rounds := make(chan error, 3)
	for _, args := range [][]string{{"gc"}, {"verify", "all"}, {"restore", "latest", "--to", ""}} {
		go func() { rounds <- p.repeat(ended, dir, args) }()
	}
	proc.wantExit(exitOK)
	close(ended)
	for range cap(rounds) {
		if err := <-rounds; err != nil {
			t.Error(err)
		}
	}
	p.audit()
}

// maxRounds of each command are enough: they take the machine from the job.
const maxRounds = 6

// repeat runs a ckpt command until ended is closed, and returns the first
// failure. A last argument that is empty stands for a new directory below dir.
func (p *place) repeat(ended <-chan struct{}, dir string, args []string) error {
	for n := range maxRounds {
		select {
		case <-ended:
			if n == 0 {
				return fmt.Errorf("the job had ended before ckpt %s", args[0])
			}
			return nil
		default:
		}
		line := append([]string{"--store", p.url, "--job", jobName}, args...)
		if last := len(line) - 1; line[last] == "" {
			line[last] = filepath.Join(dir, fmt.Sprint(n))
		}
		var out bytes.Buffer
		cmd := exec.CommandContext(p.t.Context(), filepath.Join(programs.dir, "ckpt"), line...)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("ckpt %s, run %d: %w\n%s", args[0], n, err, out.String())
		}
	}
	return nil
}
