package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/internal/jsonlines"
	"github.com/millrace/millrace/pipeline"
)

// Sink writes records to a file that grows. It is made by [JSON], [Lines] and
// [Encode].
type Sink[T any] struct {
	path   string
	encode func() appender[T]
	cfg    config
	disk   disk
}

// JSON returns a sink that writes JSON lines to path. A value that can't be
// encoded is rejected.
func JSON[T any](path string, opts ...Option) *Sink[T] {
	return newSink(path, jsonAppender[T], opts)
}

// Lines returns a sink that writes strings to path, each with a line end.
func Lines(path string, opts ...Option) *Sink[string] {
	return newSink(path, lineAppender, opts)
}

// Encode returns a sink that writes to path what encode appends to b, as it
// is: a text format ends each record with a line end of its own. Several
// subtasks call encode at once. A value for which it returns an error, or
// panics, is rejected.
func Encode[T any](path string, encode func(b []byte, v T) ([]byte, error), opts ...Option) *Sink[T] {
	return newSink(path, appenderOf(encode), opts)
}

func jsonAppender[T any]() appender[T] {
	e := jsonlines.NewEncoder()
	return func(b []byte, v *T) ([]byte, error) { return e.Append(b, v) }
}

func lineAppender() appender[string] {
	return func(b []byte, v *string) ([]byte, error) { return append(append(b, *v...), '\n'), nil }
}

func appenderOf[T any](encode func(b []byte, v T) ([]byte, error)) func() appender[T] {
	return func() appender[T] {
		return func(b []byte, v *T) ([]byte, error) { return encode(b, *v) }
	}
}

func newSink[T any](path string, encode func() appender[T], opts []Option) *Sink[T] {
	return &Sink[T]{path: path, encode: encode, cfg: configOf(opts), disk: osDisk{}}
}

// Open implements [pipeline.Sink].
func (s *Sink[T]) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	if err := s.cfg.validate(false); err != nil {
		return nil, err
	}
	w := &writer[T]{
		disk: s.disk, path: PartPath(s.path, env.Subtask, env.Parallelism),
		encoder: encoder[T]{env: env, append: s.encode()},
	}
	if fi, err := s.disk.Stat(w.path); err == nil && fi.IsDir() {
		return nil, fmt.Errorf("write %q: is a directory", w.path)
	}
	if err := makeFolder(s.disk, filepath.Dir(w.path)); err != nil {
		return nil, err
	}
	if env.Checkpoints {
		return s.openCommitted(w)
	}
	if err := s.openPlain(w); err != nil {
		return nil, err
	}
	return w, nil
}

// openPlain opens the file of a job without checkpoints.
func (s *Sink[T]) openPlain(w *writer[T]) error {
	if err := w.open(s.cfg); err != nil {
		return err
	}
	// Whoever starts without checkpoints has decided what the file is.
	err := removeIfThere(s.disk, markerPath(w.path))
	if err == nil && w.env.Subtask == 0 {
		err = s.cfg.spareParts(s.disk, s.path, w.env.Parallelism)
	}
	if err != nil {
		_ = w.f.Close()
	}
	return err
}

// PartPath returns the file that a subtask writes: path itself when there is
// one subtask, and otherwise a part with the subtask's number before the
// extension: out-00000.jsonl, out-00001.jsonl.
func PartPath(path string, subtask, parallelism int) string {
	if parallelism <= 1 {
		return path
	}
	ext := filepath.Ext(path)
	return fmt.Sprintf("%s-%05d%s", strings.TrimSuffix(path, ext), subtask, ext)
}

// spareParts looks for parts of an earlier run with more subtasks, which a
// reader of all parts would take for output of this one.
func (c *config) spareParts(d disk, path string, parallelism int) error {
	if c.appending || parallelism <= 1 {
		return nil
	}
	for i := parallelism; ; i++ {
		part := PartPath(path, i, parallelism)
		if there, err := present(d, part); err != nil || !there {
			return err
		}
		if !c.overwrite {
			return fmt.Errorf("write %q: part of an earlier run: %w (options Overwrite and Append allow it)", part, fs.ErrExist)
		}
		if err := d.Remove(part); err != nil {
			return writeError(part, err)
		}
	}
}

// writer writes one file. Records gather in the encoder and leave it whole.
type writer[T any] struct {
	encoder[T]
	disk   disk
	path   string
	f      file
	size   int64 // of what was written to a regular file, with what was there
	failed error // the first failure to write
}

// open opens the file as c says, behind what it keeps of it.
func (w *writer[T]) open(c config) error {
	flags := os.O_CREATE | os.O_EXCL | os.O_WRONLY
	switch {
	case c.overwrite:
		flags = os.O_CREATE | os.O_TRUNC | os.O_WRONLY
	case c.appending:
		flags = os.O_CREATE | os.O_RDWR // reads the last byte
		if !w.env.Checkpoints {
			flags |= os.O_APPEND
		}
	}
	f, err := w.disk.OpenFile(w.path, flags)
	if errors.Is(err, fs.ErrExist) {
		return existing(w.path)
	}
	if err != nil {
		return writeError(w.path, err)
	}
	w.f = f
	if !c.appending {
		return nil
	}
	if err := w.seekEnd(); err != nil {
		_ = f.Close()
		return writeError(w.path, err)
	}
	return nil
}

func existing(path string) error {
	return fmt.Errorf("write %q: %w (options Overwrite and Append allow it)", path, fs.ErrExist)
}

func (w *writer[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	return w.gather(b, w.path, w.flush)
}

// Flush hands everything to the operating system.
func (w *writer[T]) Flush(context.Context) error { return w.flush() }

// flush fails for good once it has failed: half a line may be in the file.
func (w *writer[T]) flush() error {
	if w.failed == nil && len(w.buf) > 0 {
		n, err := w.f.Write(w.buf)
		w.size += int64(n)
		if err != nil {
			w.failed = writeError(w.path, err)
		}
		w.buf = w.buf[:0]
	}
	return w.failed
}

// sync puts everything on disk.
func (w *writer[T]) sync() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil && !unsyncable(err) {
		// What the system could not write it may have dropped, and a second sync
		// would not say so.
		w.failed = writeError(w.path, err)
	}
	return w.failed
}

// Close puts everything on disk.
func (w *writer[T]) Close() error {
	err := w.sync()
	if cerr := w.f.Close(); err == nil && cerr != nil {
		err = writeError(w.path, cerr)
	}
	return err
}

// seekEnd goes to the end of a regular file, and ends a line that a crash cut
// short, so that only it is unreadable.
func (w *writer[T]) seekEnd() error {
	fi, err := w.f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 {
		return err
	}
	w.size = fi.Size()
	if _, err := w.f.Seek(w.size, io.SeekStart); err != nil {
		return err
	}
	var last [1]byte
	if _, err := w.f.ReadAt(last[:], w.size-1); err != nil && err != io.EOF {
		return err
	}
	if last[0] != '\n' {
		w.log().Warn("the file ended in the middle of a line", "path", w.path)
		w.buf = append(w.buf, '\n')
	}
	return nil
}

func (w *writer[T]) log() *slog.Logger {
	if w.env.Logger != nil {
		return w.env.Logger
	}
	return slog.Default()
}
