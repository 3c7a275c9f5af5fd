package stdout

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/millrace/millrace/internal/jsonlines"
	"github.com/millrace/millrace/internal/show"
	"github.com/millrace/millrace/pipeline"
)

// Sink prints records. It is made by [JSON] and [Format].
type Sink[T any] struct {
	encode func() func(b []byte, v *T) ([]byte, error)
	out    *output
}

// Option sets something of a sink.
type Option func(*output)

// Writer prints to w instead of the standard output. The sink calls it from
// one goroutine at a time, and always with whole lines.
func Writer(w io.Writer) Option { return func(o *output) { o.w = w } }

// output is what the subtasks share, so that lines do not mix.
type output struct {
	mu sync.Mutex
	w  io.Writer // guarded by mu
}

// JSON returns a sink that prints each record as a line of JSON. A value that
// can't be encoded is rejected.
func JSON[T any](opts ...Option) *Sink[T] {
	return newSink(func() func([]byte, *T) ([]byte, error) {
		e := jsonlines.NewEncoder()
		return func(b []byte, v *T) ([]byte, error) { return e.Append(b, v) }
	}, opts)
}

// Format returns a sink that prints what format returns for each record, with
// a line end. Several subtasks call format at once.
func Format[T any](format func(v T) string, opts ...Option) *Sink[T] {
	return newSink(func() func([]byte, *T) ([]byte, error) {
		return func(b []byte, v *T) ([]byte, error) { return append(append(b, format(*v)...), '\n'), nil }
	}, opts)
}

func newSink[T any](encode func() func([]byte, *T) ([]byte, error), opts []Option) *Sink[T] {
	s := &Sink[T]{encode: encode, out: &output{w: os.Stdout}}
	for _, o := range opts {
		o(s.out)
	}
	return s
}

// Open implements [pipeline.Sink].
func (s *Sink[T]) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return &writer[T]{out: s.out, encode: s.encode(), env: env}, nil
}

// writer gathers lines, and prints them when the input runs dry.
type writer[T any] struct {
	out    *output
	encode func([]byte, *T) ([]byte, error)
	env    *pipeline.SinkEnv
	buf    []byte
}

// bufferSize is when the buffer is printed although more records follow.
const bufferSize = 64 << 10

func (w *writer[T]) Write(ctx context.Context, b *pipeline.Records[T]) error {
	for i := range b.Values {
		if err := w.add(&b.Values[i]); err != nil {
			w.env.Reject(pipeline.DeadLetter{Error: "encode: " + err.Error(), Time: b.Times[i], Record: show.Value(b.Values[i])})
		}
		if len(w.buf) >= bufferSize {
			if err := w.Flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer[T]) add(v *T) (err error) {
	defer pipeline.CatchPanic(&err)
	buf, err := w.encode(w.buf, v)
	if err == nil {
		w.buf = buf
	}
	return err
}

// Flush prints what has gathered.
func (w *writer[T]) Flush(context.Context) error {
	if len(w.buf) == 0 {
		return nil
	}
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	_, err := w.out.w.Write(w.buf)
	w.buf = w.buf[:0]
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// Close prints what a job that failed has left.
func (w *writer[T]) Close() error { return w.Flush(context.Background()) }
