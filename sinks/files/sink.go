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
	"syscall"

	"github.com/millrace/millrace/internal/jsonlines"
	"github.com/millrace/millrace/internal/show"
	"github.com/millrace/millrace/pipeline"
)

// Sink writes records to a file, each as a line. It is made by [JSON], [Lines]
// and [Encode].
type Sink[T any] struct {
	path   string
	encode func() func(b []byte, v *T) ([]byte, error)
	cfg    config
}

// Option sets what a sink does with a file that is there.
type Option func(*config)

type config struct{ overwrite, appending bool }

// Overwrite empties a file that exists, and removes part files of an earlier
// run with more subtasks. Default: an existing file stops the start.
func Overwrite() Option { return func(c *config) { c.overwrite = true } }

// Append goes on at the end of a file that exists. Where its last line has no
// end, because a crash cut it short, the line is ended first. Default: an
// existing file stops the start.
func Append() Option { return func(c *config) { c.appending = true } }

// JSON returns a sink that writes JSON lines to path. A value that can't be
// encoded is rejected.
func JSON[T any](path string, opts ...Option) *Sink[T] {
	return newSink(path, func() func([]byte, *T) ([]byte, error) {
		e := jsonlines.NewEncoder()
		return func(b []byte, v *T) ([]byte, error) { return e.Append(b, v) }
	}, opts)
}

// Lines returns a sink that writes strings to path, each with a line end.
func Lines(path string, opts ...Option) *Sink[string] {
	return newSink(path, func() func([]byte, *string) ([]byte, error) {
		return func(b []byte, v *string) ([]byte, error) { return append(append(b, *v...), '\n'), nil }
	}, opts)
}

// Encode returns a sink that writes to path what encode appends to b, as it
// is: a text format ends each record with a line end of its own. Several
// subtasks call encode at once. A value for which it returns an error, or
// panics, is rejected.
func Encode[T any](path string, encode func(b []byte, v T) ([]byte, error), opts ...Option) *Sink[T] {
	return newSink(path, func() func([]byte, *T) ([]byte, error) {
		return func(b []byte, v *T) ([]byte, error) { return encode(b, *v) }
	}, opts)
}

func newSink[T any](path string, encode func() func([]byte, *T) ([]byte, error), opts []Option) *Sink[T] {
	s := &Sink[T]{path: path, encode: encode}
	for _, o := range opts {
		o(&s.cfg)
	}
	return s
}

// Open implements [pipeline.Sink].
func (s *Sink[T]) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	if s.cfg.overwrite && s.cfg.appending {
		return nil, errors.New("invalid option: Overwrite and Append exclude each other")
	}
	path := PartPath(s.path, env.Subtask, env.Parallelism)
	f, err := s.cfg.open(path)
	if err != nil {
		return nil, err
	}
	if env.Subtask == 0 {
		if err := s.cfg.spareParts(s.path, env.Parallelism); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	w := &writer[T]{path: path, f: f, env: env, encode: s.encode()}
	if s.cfg.appending {
		if err := w.endLine(); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	return w, nil
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

func (c *config) open(path string) (*os.File, error) {
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return nil, fmt.Errorf("write %q: is a directory", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, writeError(path, err)
	}
	flags := os.O_CREATE | os.O_EXCL | os.O_WRONLY
	switch {
	case c.overwrite:
		flags = os.O_CREATE | os.O_TRUNC | os.O_WRONLY
	case c.appending:
		flags = os.O_CREATE | os.O_APPEND | os.O_RDWR // reads the last byte
	}
	f, err := os.OpenFile(path, flags, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write %q: %w (options Overwrite and Append allow it)", path, fs.ErrExist)
	}
	if err != nil {
		return nil, writeError(path, err)
	}
	return f, nil
}

// spareParts looks for parts of an earlier run with more subtasks, which a
// reader of all parts would take for output of this one.
func (c *config) spareParts(path string, parallelism int) error {
	if c.appending || parallelism <= 1 {
		return nil
	}
	for i := parallelism; ; i++ {
		part := PartPath(path, i, parallelism)
		if _, err := os.Stat(part); err != nil {
			return nil
		}
		if !c.overwrite {
			return fmt.Errorf("write %q: part of an earlier run: %w (options Overwrite and Append allow it)", part, fs.ErrExist)
		}
		if err := os.Remove(part); err != nil {
			return writeError(part, err)
		}
	}
}

// writeError names the file once, and the folder where that is to blame.
func writeError(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) && pe.Path == path {
		err = pe.Err
	}
	return fmt.Errorf("write %q: %w", path, err)
}

// writer writes one file. Lines gather in buf and leave it whole.
type writer[T any] struct {
	path   string
	f      *os.File
	env    *pipeline.SinkEnv
	encode func([]byte, *T) ([]byte, error)
	buf    []byte
	next   int   // the value of the batch being encoded
	failed error // the first failure to write
}

// bufferSize is when the buffer is written although more records follow.
const bufferSize = 256 << 10

func (w *writer[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	for w.next = 0; w.next < len(b.Values); {
		if err := w.some(b); err != nil {
			v := b.Values[w.next]
			w.env.Reject(pipeline.DeadLetter{
				Error: fmt.Sprintf("encode for %q: %v", w.path, err), Time: b.Times[w.next], Record: show.Value(v),
			})
			w.next++
		}
		if len(w.buf) >= bufferSize {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// some encodes values until the buffer is full or one can't be encoded.
func (w *writer[T]) some(b *pipeline.Records[T]) (err error) {
	before := len(w.buf)
	defer func() {
		if err != nil {
			w.buf = w.buf[:before]
		}
	}()
	defer pipeline.CatchPanic(&err)
	for w.next < len(b.Values) && len(w.buf) < bufferSize {
		before = len(w.buf)
		buf, err := w.encode(w.buf, &b.Values[w.next])
		if err != nil {
			return err
		}
		w.buf = buf
		w.next++
	}
	return nil
}

// Flush hands everything to the operating system.
func (w *writer[T]) Flush(context.Context) error { return w.flush() }

// flush fails for good once it has failed: half a line may be in the file.
func (w *writer[T]) flush() error {
	if w.failed == nil && len(w.buf) > 0 {
		if _, err := w.f.Write(w.buf); err != nil {
			w.failed = writeError(w.path, err)
		}
		w.buf = w.buf[:0]
	}
	return w.failed
}

// Close puts everything on disk.
func (w *writer[T]) Close() error {
	err := w.flush()
	if err == nil {
		// A pipe or a device can't be synced, and says so.
		if err = w.f.Sync(); errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
			err = nil
		} else if err != nil {
			err = writeError(w.path, err)
		}
	}
	if cerr := w.f.Close(); err == nil && cerr != nil {
		err = writeError(w.path, cerr)
	}
	return err
}

// endLine ends a line that a crash cut short, so that only it is unreadable.
func (w *writer[T]) endLine() error {
	fi, err := w.f.Stat()
	if err != nil {
		return writeError(w.path, err)
	}
	if !fi.Mode().IsRegular() || fi.Size() == 0 {
		return nil
	}
	var last [1]byte
	if _, err := w.f.ReadAt(last[:], fi.Size()-1); err != nil && err != io.EOF {
		return writeError(w.path, err)
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
