package gokastore

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logs is the file system of one storage, on which writing a log never fails.
// Pebble ends the process where it has to go on to the next log and could not
// write the last one, as on a full disk. Here, what is written from the first
// failure on is thrown away, of all logs, so that what is on disk is still of one
// moment; and the store asks for the failure before it says that anything was
// written.
type logs struct {
	vfs.FS
	failed atomic.Pointer[error]
}

// failure returns why logs are not written any more, or nil.
func (l *logs) failure() error {
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail notes a failure, the first of which counts.
func (l *logs) fail(name string, err error) {
	err = fmt.Errorf("write log %q: %w", name, err)
	l.failed.CompareAndSwap(nil, &err)
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// Create implements [vfs.FS].
func (l *logs) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, category)
	return l.guarded(name, f, err)
}

// ReuseForWrite implements [vfs.FS].
func (l *logs) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(old, name, category)
	return l.guarded(name, f, err)
}

func (l *logs) guarded(name string, f vfs.File, err error) (vfs.File, error) {
	if !isLog(name) {
		return f, err
	}
	if err != nil {
		l.fail(name, err)
		f = nil
	}
	return &logFile{File: f, logs: l, name: name}, nil
}

// Unwrap returns the file system behind.
func (l *logs) Unwrap() vfs.FS { return l.FS }

// logFile is a log that is being written. Nothing else is done with one.
type logFile struct {
	vfs.File // nil: it could not be made
	logs     *logs
	name     string
}

// Write implements [vfs.File].
func (f *logFile) Write(b []byte) (int, error) {
	return len(b), f.do(func() error {
		_, err := f.File.Write(b)
		return err
	})
}

// Preallocate implements [vfs.File].
func (f *logFile) Preallocate(offset, length int64) error {
	return f.do(func() error { return f.File.Preallocate(offset, length) })
}

// Sync implements [vfs.File].
func (f *logFile) Sync() error { return f.do(func() error { return f.File.Sync() }) }

// SyncData implements [vfs.File].
func (f *logFile) SyncData() error { return f.do(func() error { return f.File.SyncData() }) }

// SyncTo implements [vfs.File].
func (f *logFile) SyncTo(length int64) (full bool, err error) {
	err = f.do(func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

// Close implements [vfs.File].
func (f *logFile) Close() error {
	if f.File == nil {
		return nil
	}
	if err := f.File.Close(); err != nil {
		f.logs.fail(f.name, err)
	}
	return nil
}

// Fd implements [vfs.File]: there is none, or Pebble would sync the file past us.
func (f *logFile) Fd() uintptr { return vfs.InvalidFd }

// do does something to the file, unless logs have failed. Its result is always
// nil.
func (f *logFile) do(what func() error) error {
	if f.logs.failure() != nil {
		return nil
	}
	if err := what(); err != nil {
		f.logs.fail(f.name, err)
	}
	return nil
}
