package pipeline

import (
	"context"
	"log/slog"
)

// Sink says where records go. It is a value of the graph: Open is called once
// for each of the sink's subtasks when the job starts, before any source
// reads.
type Sink[T any] interface {
	// Open returns the writer of one subtask. An error stops the start of the
	// job. ctx is for opening only; it may end while the job still runs.
	Open(ctx context.Context, env *SinkEnv) (Writer[T], error)
}

// Writer writes the records of one subtask. All its methods are called from
// one goroutine. A writer may implement [Flusher] and [Closer].
type Writer[T any] interface {
	// Write takes the records of b, in order. While it blocks, the operators
	// before it wait, up to the source: that is all the backpressure there is.
	//
	// b belongs to the engine and is reused after Write returns; its values may
	// be kept. An error stops the job: a record that can't be written while
	// others can is handed to env.Reject instead.
	Write(ctx context.Context, b *Records[T]) error
}

// Flusher is implemented by writers that buffer. Flush is called when input
// runs dry, at least once every linger at a busy sink, and after the last
// record; when it returns nil, what was written is as safe as the sink
// promises.
type Flusher interface {
	Flush(ctx context.Context) error
}

// SinkEnv is what a writer knows of the job.
type SinkEnv struct {
	// Operator is the sink's name in the graph.
	Operator string
	// Subtask is this writer's index among Parallelism writers.
	Subtask, Parallelism int
	// Reject sends a record to the job's dead-letter output, or stops the job
	// where there is none. Operator and Subtask are filled in. It is to be called
	// from within Write or Flush.
	Reject func(DeadLetter)
	// Logger carries the operator's name and subtask.
	Logger *slog.Logger
	// Metrics are the writer's own.
	Metrics *Metrics
}

// To ends a stream in a sink.
func To[T any](in Stream[T], name string, sink Sink[T], opts ...OperatorOption) {
	n := in.p.add(&node{name: name, kind: kindSink})
	n.apply(opts)
	if isNil(sink) {
		in.p.mistake(n.where, "sink %q is nil", name)
	}
	n.consume(0, in.edges)
	n.build = func(env *buildEnv) *instance { return newSinkRunner(env, sink) }
}
