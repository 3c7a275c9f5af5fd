package memory

import (
	"context"
	"slices"
	"sync"

	"github.com/millrace/millrace/pipeline"
)

// Sink keeps what is written to it. All its methods are safe from any
// goroutine, during the job and after it.
type Sink[T any] struct {
	mu      sync.Mutex
	records []Record[T]   // guarded by mu
	grown   chan struct{} // closed when records grow; guarded by mu
}

// Record is a value and its event time in milliseconds.
type Record[T any] struct {
	Value T
	Time  int64
}

// NewSink returns an empty sink. It may end several streams of one type, and
// several jobs one after another.
func NewSink[T any]() *Sink[T] { return &Sink[T]{grown: make(chan struct{})} }

// Collect ends a stream in a new sink.
func Collect[T any](in pipeline.Stream[T], name string, opts ...pipeline.OperatorOption) *Sink[T] {
	s := NewSink[T]()
	pipeline.To(in, name, s, opts...)
	return s
}

// Open implements [pipeline.Sink].
func (s *Sink[T]) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return writer[T]{s}, nil
}

// Values returns the values written so far, as a copy, in the order they
// arrived. Values written by several subtasks are interleaved by chance.
func (s *Sink[T]) Values() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	values := make([]T, len(s.records))
	for i, r := range s.records {
		values[i] = r.Value
	}
	return values
}

// Records returns what was written so far with its event times, as a copy.
func (s *Sink[T]) Records() []Record[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.records)
}

// Len returns the number of values written so far.
func (s *Sink[T]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records)
}

// Wait blocks until at least n values have been written, or ctx is done, whose
// error it returns. A test of an endless job uses it to know when to look.
func (s *Sink[T]) Wait(ctx context.Context, n int) error {
	for {
		s.mu.Lock()
		have, grown := len(s.records), s.grown
		s.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Reset forgets what was written.
func (s *Sink[T]) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = nil
}

// writer hides Write from the users of Sink.
type writer[T any] struct{ sink *Sink[T] }

func (w writer[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	s := w.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, v := range b.Values {
		s.records = append(s.records, Record[T]{v, b.Times[i]})
	}
	close(s.grown)
	s.grown = make(chan struct{})
	return nil
}
