package incremental

import (
	"errors"
	"os"
	"strings"
)

// errAbsent is not one that says that a file does not exist: see RemoteFS.
var errAbsent = errors.New("table was left out of the restore")

// addAbsent makes a table appear at a path that is not there: Pebble opens a
// database only if all tables of its MANIFEST seem to be. Opening it fails the
// database, so it is for those that will be cut off.
func (fs *RecordFS) addAbsent(path string, size int64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.absent[fs.clean(path)] = size
}

func (fs *RecordFS) isAbsent(path string) (size int64, ok bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	size, ok = fs.absent[fs.clean(path)]
	return size, ok
}

// dropAbsent reports whether there was such a table.
func (fs *RecordFS) dropAbsent(path string) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	_, ok := fs.absent[fs.clean(path)]
	delete(fs.absent, fs.clean(path))
	return ok
}

// absentIn gives the names of the absent tables in a directory.
func (fs *RecordFS) absentIn(dir string) (names []string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for path := range fs.absent {
		if fs.PathDir(path) == fs.clean(dir) {
			names = append(names, fs.PathBase(path))
		}
	}
	return names
}

// dropAllAbsent drops those below a directory.
func (fs *RecordFS) dropAllAbsent(dir string) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for path := range fs.absent {
		rest, ok := strings.CutPrefix(path, fs.clean(dir))
		if ok && rest != "" && os.IsPathSeparator(rest[0]) {
			delete(fs.absent, path)
		}
	}
}
