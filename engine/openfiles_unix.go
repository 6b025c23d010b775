//go:build unix

package engine

import "syscall"

// openFileLimit is the number of files that this process may have open.
func openFileLimit() (uint64, bool) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return uint64(limit.Cur), err == nil
}
