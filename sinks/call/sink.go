package call

import (
	"context"

	"github.com/millrace/millrace/internal/show"
	"github.com/millrace/millrace/pipeline"
)

// Sink calls a function. It is made by [Each] and [Batch].
type Sink[T any] struct {
	write func(ctx context.Context, env *pipeline.SinkEnv, b *pipeline.Records[T]) error
}

// Each returns a sink that calls f with every record, in order. A record for
// which f returns an error, or panics, is rejected; an error marked by
// [pipeline.Fatal] stops the job. f is called by each of the sink's subtasks
// from a goroutine of its own, and by each again only after it has returned.
func Each[T any](f func(ctx context.Context, v T) error) Sink[T] {
	return Sink[T]{func(ctx context.Context, env *pipeline.SinkEnv, b *pipeline.Records[T]) error {
		for i, v := range b.Values {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := one(ctx, f, v)
			if err == nil {
				continue
			}
			if pipeline.IsFatal(err) {
				return err
			}
			env.Reject(pipeline.DeadLetter{Error: err.Error(), Time: b.Times[i], Record: show.Value(v)})
		}
		return nil
	}}
}

func one[T any](ctx context.Context, f func(context.Context, T) error, v T) (err error) {
	defer pipeline.CatchPanic(&err)
	return f(ctx, v)
}

// Batch returns a sink that calls f with batches of records and their event
// times, for a service that takes many at once. f must not keep the batch or
// its slices; it may keep the values. An error stops the job.
func Batch[T any](f func(ctx context.Context, b *pipeline.Records[T]) error) Sink[T] {
	return Sink[T]{func(ctx context.Context, _ *pipeline.SinkEnv, b *pipeline.Records[T]) error { return f(ctx, b) }}
}

// Open implements [pipeline.Sink].
func (s Sink[T]) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return writer[T]{s, env}, nil
}

type writer[T any] struct {
	sink Sink[T]
	env  *pipeline.SinkEnv
}

func (w writer[T]) Write(ctx context.Context, b *pipeline.Records[T]) error {
	return w.sink.write(ctx, w.env, b)
}
