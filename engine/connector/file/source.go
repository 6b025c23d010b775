// Package file is a replayable source of text lines: a file, or all files of a
// directory, cut into splits that the subtasks of a source read in parallel.
// Following a file that grows is left to others: what is read is what was there
// when the job began.
package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest"
)

// ErrChanged is input that is no longer what the job began to read: shorter, or
// of other lines. Going on would lose or repeat records.
var ErrChanged = engine.Permanent("input was changed since the job began")

// Options are the settings of a Source.
type Options struct {
	// Passes is how often the whole input is read; zero means once. A job may
	// be restarted with more passes, and then goes on to read those.
	Passes int
	// SplitBytes is the size of a split, which ends at the end of the line it
	// falls into. Zero means a 64th of the input, but 64 KiB at least and 64
	// MiB at most. A job that has begun keeps the splits it began with.
	SplitBytes int64
	// MaxLineBytes is the longest line that is read, its end not counted; a
	// longer one is an error. Zero means 64 MiB.
	MaxLineBytes int
	// BatchLines is how many lines one Poll emits at most; zero means 1024.
	BatchLines int
}

const (
	minSplitBytes = 64 << 10
	maxSplitBytes = 64 << 20
)

func (o Options) withDefaults() Options {
	if o.Passes == 0 {
		o.Passes = 1
	}
	if o.MaxLineBytes == 0 {
		o.MaxLineBytes = 64 << 20
	}
	if o.BatchLines == 0 {
		o.BatchLines = 1024
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"Passes", int64(o.Passes)}, {"SplitBytes", o.SplitBytes},
		{"MaxLineBytes", int64(o.MaxLineBytes)}, {"BatchLines", int64(o.BatchLines)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %d, below zero", f.name, f.value))
		}
	}
	return errors.Join(errs...)
}

// Source reads lines of text. A line is what bufio.ScanLines makes of it: it
// comes without its end, which is "\n" or "\r\n", and the last one needs none.
// The bytes are passed on as they are, whatever their encoding.
type Source struct {
	path string
	opts Options
}

var _ engine.Source[string] = (*Source)(nil)

// New makes a source of the file or directory at path. Of a directory it reads
// all regular files, also in directories below it, in the order of their names;
// names that begin with a dot are passed over, and so is every file that is
// added after the job began. Links are followed as long as they lead to a file
// inside the directory.
func New(path string, opts Options) (*Source, error) {
	err := opts.validate()
	if path == "" {
		err = errors.Join(errors.New("path is empty"), err)
	}
	if err != nil {
		return nil, fmt.Errorf("make file source: %w", err)
	}
	return &Source{path: path, opts: opts.withDefaults()}, nil
}

// Splits cuts the input. Its errors name the path that could not be read; a
// missing one is fs.ErrNotExist, as is a directory without files.
func (s *Source) Splits(ctx context.Context) ([]manifest.Split, error) {
	root, only, err := s.open()
	if err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	defer root.Close()
	cursors, err := plan(ctx, root, only, s.opts.SplitBytes)
	if err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	return encodeSplits(cursors)
}

// Reader makes a reader, which opens the input when it is restored.
func (s *Source) Reader(engine.SourceContext) (engine.SourceReader[string], error) {
	return &reader{source: s}, nil
}

// open opens the directory that all paths of splits are relative to, so that
// none can lead out of it. If the input is a single file, only is its name.
func (s *Source) open() (root *os.Root, only string, err error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, "", err
	}
	dir := s.path
	if !info.IsDir() {
		if !info.Mode().IsRegular() {
			return nil, "", fmt.Errorf("%s is no regular file and cannot be read again from a position", s.path)
		}
		// The file itself may be a link to anywhere.
		if dir, err = filepath.EvalSymlinks(s.path); err != nil {
			return nil, "", err
		}
		dir, only = filepath.Split(dir)
		if dir == "" {
			dir = "."
		}
	}
	root, err = os.OpenRoot(dir)
	return root, only, err
}

// locate makes a split's path one that a person can find.
func locate(root *os.Root, path string) string {
	return filepath.Join(root.Name(), filepath.FromSlash(path))
}

func hidden(name string) bool { return strings.HasPrefix(name, ".") }
