package discard

import (
	"context"

	"github.com/millrace/millrace/pipeline"
)

// Sink returns a sink that does nothing. The engine counts its records.
func Sink[T any]() pipeline.Sink[T] { return discard[T]{} }

type discard[T any] struct{}

func (d discard[T]) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return d, nil
}

func (discard[T]) Write(context.Context, *pipeline.Records[T]) error { return nil }
