package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is what the sinks need of a file system, so that tests can fill it up
// and cut its power. Pebble's vfs.FS, which can do both, has no Truncate.
type disk interface {
	OpenFile(path string, flag int) (file, error)
	Stat(path string) (fs.FileInfo, error)
	ReadDir(path string) (names []string, err error)
	Mkdir(path string) error
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes files made, renamed and removed in the folder stay so.
	SyncDir(path string) error
	// Lock makes a file that no other process can lock until it is closed.
	Lock(path string) (io.Closer, error)
}

type file interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Seeker
	io.Closer
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	Sync() error
}

// osDisk is the machine's own.
type osDisk struct{}

func (osDisk) OpenFile(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag, 0o666)
	if err != nil {
		return nil, err // and no file that is not nil
	}
	return f, nil
}

func (osDisk) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }
func (osDisk) Mkdir(path string) error               { return os.Mkdir(path, 0o777) }
func (osDisk) Rename(from, to string) error          { return os.Rename(from, to) }
func (osDisk) Remove(path string) error              { return os.Remove(path) }
func (osDisk) Lock(path string) (io.Closer, error)   { return vfs.Default.Lock(path) }

func (osDisk) ReadDir(path string) ([]string, error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

func (osDisk) SyncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // knows no such thing
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if unsyncable(err) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// unsyncable is the answer of a pipe, a device, or a file system that has no
// use for Sync.
func unsyncable(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}

// makeFolder makes a folder and those above it, and makes sure that they are
// there after a power failure.
func makeFolder(d disk, path string) error {
	if fi, err := d.Stat(path); err == nil {
		if !fi.IsDir() {
			return writeError(path, syscall.ENOTDIR)
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return writeError(path, err)
	}
	above := filepath.Dir(path)
	if above != path {
		if err := makeFolder(d, above); err != nil {
			return err
		}
	}
	// Another subtask may be first.
	if err := d.Mkdir(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return writeError(path, err)
	}
	if err := d.SyncDir(above); err != nil {
		return writeError(path, err)
	}
	return nil
}

// present says whether there is a file of that name.
func present(d disk, path string) (bool, error) {
	_, err := d.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, writeError(path, err)
	}
	return true, nil
}

// list returns the names in a folder; none when it is not there.
func list(d disk, dir string) ([]string, error) {
	names, err := d.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %q: %w", dir, err)
	}
	return names, nil
}

// readWhole reads a small file, nil when it is not there.
func readWhole(d disk, path string) ([]byte, error) {
	f, err := d.OpenFile(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	return b, nil
}

// writeWhole writes a small file so that it is there with all of b or not at
// all.
func writeWhole(d disk, path string, b []byte) error {
	temp := path + ".tmp"
	f, err := d.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY)
	if err != nil {
		return writeError(temp, err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return writeError(temp, err)
	}
	if err := d.Rename(temp, path); err != nil {
		return writeError(path, err)
	}
	return syncFolder(d, path)
}

// syncFolder makes names in the folder of path stay as they are.
func syncFolder(d disk, path string) error {
	dir := filepath.Dir(path)
	if err := d.SyncDir(dir); err != nil {
		return writeError(dir, err)
	}
	return nil
}

// writeError names the file once, and the folder where that is to blame.
func writeError(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) && pe.Path == path {
		err = pe.Err
	}
	return fmt.Errorf("write %q: %w", path, err)
}
