//go:build !unix

package engine

// openFileLimit knows of no limit here.
func openFileLimit() (uint64, bool) { return 0, false }
