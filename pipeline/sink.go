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
// one goroutine. A writer may implement [Flusher], [Syncer] and [Closer].
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
// runs dry, at least once every linger at a busy sink, before every checkpoint,
// and after the last record; when it returns nil, what was written is as safe as
// the sink promises, unless the writer is a [Syncer].
type Flusher interface {
	Flush(ctx context.Context) error
}

// Syncer is implemented by writers that send in the background, so that neither Flush nor
// a barrier has to wait until what they send has arrived. (A [Committer] waits in Prepare
// and needs no Sync.)
type Syncer interface {
	Flusher
	// Sync is called before every checkpoint and after the last record. It returns at
	// once, with a function that waits until what was written so far is as safe as the
	// sink promises; the checkpoint is not complete before. wait is called from another
	// goroutine, beside Write and Flush, and several may wait at once. Its error fails
	// the checkpoint; one that should stop the job is for Write or Flush to return, too.
	Sync() (wait func(ctx context.Context) error)
}

// Committer is implemented by writers whose output takes effect with a
// checkpoint, so that it does so exactly once: nobody may see what was written
// before the checkpoint is there, and everybody may see it once after, however
// often the job was killed in between.
//
//	Write … Write   Prepare(7)   Write … Write   Prepare(8)
//	                        └──── checkpoint 7 is complete: Commit(7) ...
//
// A job that takes no checkpoints prepares and commits once, at its end.
type Committer interface {
	// Prepare is called at a barrier, after all records before it were written.
	// It makes them safe, so that a later process can commit them, and returns
	// what that process must know, at most a few KB ([SinkEnv.Staging] holds more);
	// nil if there is nothing to commit. Records written from now on belong to the next checkpoint, whose
	// number is higher. An error fails the checkpoint, and as the writer can't be
	// trusted after it, the job.
	Prepare(ctx context.Context, checkpoint int64) (prepared []byte, err error)

	// Commit makes what was prepared visible. It is called once a checkpoint that
	// contains it is complete, in the order it was prepared, and, when the job
	// starts from such a checkpoint, again by another process, right after Open:
	// to commit what is committed already must be harmless. An error stops the
	// job; the next start commits again.
	Commit(ctx context.Context, prepared []byte) error
}

// SinkEnv is what a writer knows of the job.
type SinkEnv struct {
	// Operator is the sink's name in the graph.
	Operator string
	// Subtask is this writer's index among Parallelism writers.
	Subtask, Parallelism int
	// Checkpoints says that the job takes checkpoints.
	Checkpoints bool
	// Run names this start of the job, unlike any other's: letters and digits.
	Run string
	// Prepared is what all subtasks had prepared when the job's checkpoint was
	// taken, nil when the job starts anew. The engine shares it out among the
	// subtasks' Commit; what an earlier run wrote and is not mentioned here will
	// never be committed, and subtask 0 may remove it while opening.
	Prepared [][]byte
	// Staging keeps files with the checkpoint, for writers that are Committers. nil
	// in a job that takes no checkpoints.
	Staging *Staging
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
	} else if has, ok := any(sink).(hasCommitPoint); ok {
		in.p.commitWith(n, has.CommitPoint())
	}
	n.consume(0, in.edges)
	n.build = func(env *buildEnv) *instance { return newSinkRunner(env, sink) }
}
