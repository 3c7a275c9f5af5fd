package checkpoint

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is the file system with what a store needs of it: errors that name the
// path, and syncs where they belong.
type disk struct{ vfs.FS }

// pathError gives an error the path it lacks. Errors of the operating system
// have it already.
func pathError(op, path string, err error) error {
	var named *fs.PathError
	var link *os.LinkError
	if err == nil || errors.As(err, &named) || errors.As(err, &link) {
		return err
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// missing tells whether the error says that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func (d disk) exists(path string) (bool, error) {
	_, err := d.Stat(path)
	if missing(err) {
		return false, nil
	}
	return err == nil, pathError("stat", path, err)
}

// list returns the names in a directory, sorted, and none when there is no such
// directory.
func (d disk) list(dir string) ([]string, error) {
	names, err := d.List(dir)
	if missing(err) {
		return nil, nil
	}
	slices.Sort(names)
	return names, pathError("list", dir, err)
}

func (d disk) syncDir(dir string) error {
	f, err := d.OpenDir(dir)
	if err != nil {
		return pathError("open", dir, err)
	}
	return closeAfter(f, pathError("sync", dir, f.Sync()))
}

// closeAfter closes the file and returns the first of the two errors.
func closeAfter(f io.Closer, err error) error { return cmp.Or(err, f.Close()) }

// makeDir makes a directory and its parents, so that they are there after a
// crash.
func (d disk) makeDir(dir string) error {
	there, err := d.exists(dir)
	if there || err != nil {
		return err
	}
	parent := d.PathDir(dir)
	if parent != dir {
		if err := d.makeDir(parent); err != nil {
			return err
		}
	}
	if err := d.MkdirAll(dir, 0o755); err != nil {
		return pathError("mkdir", dir, err)
	}
	return d.syncDir(parent)
}

// remove removes a file or an empty directory, if it is there.
func (d disk) remove(path string) error {
	err := d.Remove(path)
	if missing(err) {
		return nil
	}
	return pathError("remove", path, err)
}

func (d disk) removeAll(path string) error {
	return pathError("remove", path, d.RemoveAll(path))
}

func (d disk) rename(from, to string) error {
	return pathError("rename", from, d.Rename(from, to))
}

// write makes a file with that content, synced. Its directory is not.
func (d disk) write(path string, data []byte) error {
	_, err := d.copyFrom(bytes.NewReader(data), path)
	return err
}

// copyFrom makes a file of what the reader has, synced, and returns the sum.
func (d disk) copyFrom(r io.Reader, path string) (sum, error) {
	f, err := d.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return sum{}, pathError("create", path, err)
	}
	h := xxhash.New()
	n, err := copyPieces(f, io.TeeReader(r, h))
	if err == nil {
		err = f.Sync()
	}
	return sum{n, Checksum(h.Sum64())}, closeAfter(f, pathError("write", path, err))
}

// copy copies a file, synced, and returns the sum of what was read.
func (d disk) copy(from, to string) (sum, error) {
	f, err := d.Open(from, vfs.SequentialReadsOption)
	if err != nil {
		return sum{}, pathError("open", from, err)
	}
	s, err := d.copyFrom(f, to)
	return s, closeAfter(f, err)
}

func (d disk) read(path string) ([]byte, error) {
	f, err := d.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, pathError("open", path, err)
	}
	data, err := io.ReadAll(f)
	return data, closeAfter(f, pathError("read", path, err))
}

// sum is what tells whether a file is the one that was written.
type sum struct {
	size     int64
	checksum Checksum
}

func (s sum) String() string { return fmt.Sprintf("%d bytes, xxhash64 %s", s.size, s.checksum) }

// sumOf reads a file. Each piece read is told to progress, which may be nil,
// and whose error ends the reading.
func (d disk) sumOf(path string, progress func(bytes int) error) (sum, error) {
	f, err := d.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return sum{}, pathError("open", path, err)
	}
	s, err := sumOfFile(f, progress)
	return s, closeAfter(f, pathError("read", path, err))
}

func sumOfFile(r io.Reader, progress func(bytes int) error) (sum, error) {
	h := xxhash.New()
	into := io.Writer(h)
	if progress != nil {
		into = io.MultiWriter(h, counter(progress))
	}
	n, err := copyPieces(into, r)
	return sum{n, Checksum(h.Sum64())}, err
}

var pieces = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// copyPieces copies in pieces of a size that disks like, most files being small
// and not worth a buffer of their own.
func copyPieces(w io.Writer, r io.Reader) (int64, error) {
	piece := pieces.Get().(*[256 << 10]byte)
	defer pieces.Put(piece)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, piece[:])
}

// counter is a writer that only counts.
type counter func(bytes int) error

func (c counter) Write(b []byte) (int, error) {
	return len(b), c(len(b))
}

// linkOrCopy puts an immutable file at another path, which must be free: by
// hard link where the file system allows it. What the file holds is then on the
// disk, whoever wrote it.
func (d disk) linkOrCopy(from, to string) (sum, error) {
	switch err := d.Link(from, to); {
	case errors.Is(err, fs.ErrExist):
		return sum{}, pathError("link", to, err)
	case err != nil: // another file system, or one without links
		return d.copy(from, to)
	}
	f, err := d.Open(to, vfs.SequentialReadsOption)
	if err != nil {
		return sum{}, pathError("open", to, err)
	}
	s, err := sumOfFile(f, nil)
	if err == nil {
		err = f.Sync()
	}
	return s, closeAfter(f, pathError("sync", to, err))
}
