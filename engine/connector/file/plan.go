package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// inputFile is a file of the input and its size.
type inputFile struct {
	path string
	size int64
}

// plan cuts the input under root into cursors at their starts, in the order of
// paths and offsets. Empty files have none.
func plan(ctx context.Context, root *os.Root, only string, splitBytes int64) ([]*cursor, error) {
	files, err := list(root, only)
	if err != nil {
		return nil, err
	}
	var total int64
	for _, f := range files {
		total += f.size
	}
	if splitBytes == 0 {
		splitBytes = min(max(total/64, minSplitBytes), maxSplitBytes)
	}
	var cursors []*cursor
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		cut, err := cutFile(root, f, splitBytes)
		if err != nil {
			return nil, err
		}
		cursors = append(cursors, cut...)
	}
	return cursors, nil
}

func list(root *os.Root, only string) ([]inputFile, error) {
	if only != "" {
		f, err := statFile(root, only)
		return []inputFile{f}, err
	}
	var files []inputFile
	err := fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", locate(root, path), err)
		case path == ".":
			return nil
		case hidden(e.Name()) && e.IsDir():
			return fs.SkipDir
		case hidden(e.Name()) || e.IsDir():
			return nil
		}
		f, err := statFile(root, path)
		files = append(files, f)
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("directory %s holds no files: %w", root.Name(), fs.ErrNotExist)
	}
	return files, err
}

func statFile(root *os.Root, path string) (inputFile, error) {
	if !fs.ValidPath(path) {
		// It could not be told apart in a checkpoint.
		return inputFile{}, fmt.Errorf("%s: name is not UTF-8: %w", strconv.Quote(locate(root, path)), fs.ErrInvalid)
	}
	info, err := root.Stat(filepath.FromSlash(path))
	if err != nil {
		return inputFile{}, fmt.Errorf("%s: %w", locate(root, path), err)
	}
	if !info.Mode().IsRegular() {
		return inputFile{}, fmt.Errorf("%s is no regular file", locate(root, path))
	}
	return inputFile{path, info.Size()}, nil
}

// cutFile cuts one file about every splitBytes, always behind the end of a
// line. It reads each byte once at most: a place inside a line that was found
// to reach further is passed over.
func cutFile(root *os.Root, f inputFile, splitBytes int64) ([]*cursor, error) {
	file, err := root.Open(filepath.FromSlash(f.path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", locate(root, f.path), err)
	}
	defer file.Close()
	var cursors []*cursor
	for start := int64(0); start < f.size; {
		end := f.size
		if f.size-start > splitBytes {
			// The byte before the place decides whether it begins a line.
			if end, err = lineStart(file, start+splitBytes-1, f.size); err != nil {
				return nil, fmt.Errorf("%s: %w", locate(root, f.path), err)
			}
		}
		cursors = append(cursors, &cursor{Path: f.path, Start: start, End: end, Size: f.size, Offset: start})
		start = end
	}
	return cursors, nil
}

// lineStart returns where the first line begins whose predecessor ends at
// offset or after; size if there is none.
func lineStart(file io.ReaderAt, offset, size int64) (int64, error) {
	buf := make([]byte, 16<<10)
	for offset < size {
		n, err := file.ReadAt(buf[:min(int64(len(buf)), size-offset)], offset)
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			return offset + int64(i) + 1, nil
		}
		offset += int64(n)
		if errors.Is(err, io.EOF) && offset < size {
			return 0, ErrChanged
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
	}
	return size, nil
}
