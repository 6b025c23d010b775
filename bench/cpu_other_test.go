//go:build !unix

package bench

import (
	"testing"
	"time"
)

func cpuTime(b *testing.B) time.Duration {
	b.Skip("the CPU time of a process is read on Unix only")
	return 0
}
