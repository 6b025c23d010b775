package engine

const (
	minOpenFiles = 16
	maxOpenFiles = 1000
)

// openFiles bounds the table files that all keyed state of a process keeps
// open: a quarter of what the system grants it, for transfers, connections and
// the user's own files need some too.
func openFiles() int {
	limit, ok := openFileLimit()
	if !ok {
		return maxOpenFiles
	}
	return int(min(max(limit/4, minOpenFiles), maxOpenFiles))
}
