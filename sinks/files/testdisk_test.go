package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// testDisk is a disk in memory that fails when told to, and forgets what was
// not synced when its power is cut. What was done to a file, and to the names
// in a folder, since its last sync survives up to a moment; the moments differ
// between files and folders.
type testDisk struct {
	mu      sync.Mutex
	folders map[string]*testFolder
	locks   map[string]bool
	ops     int        // changes so far
	failAt  int        // the change that fails; 0 for none
	failing error      // with what, from then on if it is errPowerCut, and for fails changes otherwise
	fails   int        // how many changes in a row fail
	rng     *rand.Rand // what survives
	keep    survival
}

// survival says what of the unsynced is there after the power was cut.
type survival string

const (
	keepsAll  survival = "all" // as when only the process was killed
	keepsNone survival = "none"
	keepsSome survival = "some"
)

var errPowerCut = errors.New("power cut")

type testFolder struct {
	names  map[string]*testFile
	synced map[string]*testFile
	log    []map[string]*testFile // the names after each change since the sync
}

type testFile struct {
	data, synced []byte
	log          [][]byte // the data after each change since the sync
}

func newTestDisk(seed uint64) *testDisk {
	root := &testFolder{names: map[string]*testFile{}}
	return &testDisk{folders: map[string]*testFolder{"/": root}, locks: map[string]bool{}, rng: rand.New(rand.NewPCG(seed, 1))}
}

// change counts a change, and fails it when its turn has come.
func (d *testDisk) change(op, path string) error {
	d.ops++
	switch {
	case d.failAt == 0 || d.ops < d.failAt:
		return nil
	case d.failing != errPowerCut && d.ops >= d.failAt+d.fails:
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: d.failing}
}

// dead says whether the power is cut.
func (d *testDisk) dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failing == errPowerCut && d.failAt > 0 && d.ops >= d.failAt
}

// restart returns the disk as the next start finds it.
func (d *testDisk) restart() *testDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := newTestDisk(d.rng.Uint64())
	next.keep = d.keep
	survivors := map[*testFile]*testFile{}
	for path, folder := range d.folders {
		names := map[string]*testFile{}
		for name, f := range survive(d, folder.names, folder.synced, folder.log) {
			if survivors[f] == nil {
				data := bytes.Clone(survive(d, f.data, f.synced, f.log))
				survivors[f] = &testFile{data: data, synced: data}
			}
			names[name] = survivors[f]
		}
		next.folders[path] = &testFolder{names: names, synced: maps.Clone(names)}
	}
	return next
}

func survive[V any](d *testDisk, now, synced V, log []V) V {
	switch d.keep {
	case keepsNone:
		return synced
	case keepsSome:
		if i := d.rng.IntN(len(log) + 1); i > 0 {
			return log[i-1]
		}
		return synced
	}
	return now
}

func (d *testDisk) folder(op, path string) (*testFolder, error) {
	if f := d.folders[path]; f != nil {
		return f, nil
	}
	return nil, &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
}

func (f *testFolder) changed() { f.log = append(f.log, maps.Clone(f.names)) }

func (d *testDisk) OpenFile(path string, flag int) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	folder, err := d.folder("open", filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	name := filepath.Base(path)
	f := folder.names[name]
	switch {
	case f == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	case f != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrExist}
	case f == nil:
		if err := d.change("open", path); err != nil {
			return nil, err
		}
		f = &testFile{}
		folder.names[name] = f
		folder.changed()
	}
	h := &testHandle{disk: d, path: path, file: f}
	if flag&os.O_TRUNC != 0 && len(f.data) > 0 {
		if err := d.change("truncate", path); err != nil {
			return nil, err
		}
		f.set(nil)
	}
	return h, nil
}

func (f *testFile) set(data []byte) {
	f.data = data
	f.log = append(f.log, bytes.Clone(data))
}

func (d *testDisk) Stat(path string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.folders[path] != nil {
		return testInfo{name: path, dir: true}, nil
	}
	if folder := d.folders[filepath.Dir(path)]; folder != nil && folder.names[filepath.Base(path)] != nil {
		return testInfo{name: path, size: int64(len(folder.names[filepath.Base(path)].data))}, nil
	}
	return nil, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
}

func (d *testDisk) ReadDir(path string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	folder, err := d.folder("open", path)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(folder.names)), nil
}

// Mkdir makes folders that stay: that they do is not tested.
func (d *testDisk) Mkdir(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.change("mkdir", path); err != nil {
		return err
	}
	d.folders[path] = &testFolder{names: map[string]*testFile{}}
	return nil
}

func (d *testDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if filepath.Dir(from) != filepath.Dir(to) {
		return fmt.Errorf("rename %q to another folder", from)
	}
	folder, err := d.folder("rename", filepath.Dir(from))
	if err != nil {
		return err
	}
	f := folder.names[filepath.Base(from)]
	if f == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if err := d.change("rename", from); err != nil {
		return err
	}
	delete(folder.names, filepath.Base(from))
	folder.names[filepath.Base(to)] = f
	folder.changed()
	return nil
}

func (d *testDisk) Remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	folder, err := d.folder("remove", filepath.Dir(path))
	if err != nil {
		return err
	}
	if folder.names[filepath.Base(path)] == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	if err := d.change("remove", path); err != nil {
		return err
	}
	delete(folder.names, filepath.Base(path))
	folder.changed()
	return nil
}

func (d *testDisk) SyncDir(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	folder, err := d.folder("sync", path)
	if err != nil {
		return err
	}
	if err := d.change("sync", path); err != nil {
		return err
	}
	folder.synced, folder.log = maps.Clone(folder.names), nil
	return nil
}

func (d *testDisk) Lock(path string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locks[path] {
		return nil, syscall.EAGAIN
	}
	d.locks[path] = true
	return testLock{d, path}, nil
}

type testLock struct {
	disk *testDisk
	path string
}

func (l testLock) Close() error {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	delete(l.disk.locks, l.path)
	return nil
}

// testHandle is an open file.
type testHandle struct {
	disk *testDisk
	path string
	file *testFile
	at   int64
}

// Write writes half when it fails, as a full disk does.
func (h *testHandle) Write(b []byte) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	err := h.disk.change("write", h.path)
	if err != nil {
		b = b[:len(b)/2]
	}
	data := bytes.Clone(h.file.data)
	data = append(data[:min(h.at, int64(len(data)))], make([]byte, max(0, h.at-int64(len(data))))...)
	data = append(data, b...)
	if rest := h.at + int64(len(b)); rest < int64(len(h.file.data)) {
		data = append(data, h.file.data[rest:]...)
	}
	h.file.set(data)
	h.at += int64(len(b))
	return len(b), err
}

func (h *testHandle) Truncate(size int64) error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.disk.change("truncate", h.path); err != nil {
		return err
	}
	h.file.set(bytes.Clone(h.file.data[:size]))
	return nil
}

func (h *testHandle) Sync() error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.disk.change("sync", h.path); err != nil {
		return err
	}
	h.file.synced, h.file.log = bytes.Clone(h.file.data), nil
	return nil
}

func (h *testHandle) Seek(offset int64, _ int) (int64, error) {
	h.at = offset
	return offset, nil
}

func (h *testHandle) Read(b []byte) (int, error) {
	n, err := h.ReadAt(b, h.at)
	h.at += int64(n)
	return n, err
}

func (h *testHandle) ReadAt(b []byte, at int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	return bytes.NewReader(h.file.data).ReadAt(b, at)
}

func (h *testHandle) Stat() (fs.FileInfo, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	return testInfo{name: h.path, size: int64(len(h.file.data))}, nil
}

func (h *testHandle) Close() error { return nil }

type testInfo struct {
	name string
	size int64
	dir  bool
}

func (i testInfo) Name() string       { return filepath.Base(i.name) }
func (i testInfo) Size() int64        { return i.size }
func (i testInfo) ModTime() time.Time { return time.Time{} }
func (i testInfo) IsDir() bool        { return i.dir }
func (i testInfo) Sys() any           { return nil }

func (i testInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o777
	}
	return 0o666
}
