package operators

import (
	"errors"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// Reduce folds the records of each window of a key into one of their own type:
// [Aggregate] for when no accumulator of another type is needed.
//
//	slowest := operators.Reduce(byPage, "slowest", window.Tumbling(time.Minute), Hit.Slower)
//
// The result of a single record is that record; f is called for each further
// one. f must be associative, and change neither argument: where windows merge
// or share slices it is called with two partial results, earlier records on the
// left as far as they are known to be.
func Reduce[K comparable, T any](
	in pipeline.KeyedStream[K, T], name string, by window.Assigner,
	f func(acc, v T) T, opts ...pipeline.OperatorOption,
) pipeline.Stream[Result[K, T]] {
	if f == nil {
		opts = append(opts, pipeline.Mistake(errors.New("the reducing function is nil")))
	}
	return Aggregate(in, name, by, reduction(f), opts...)
}

// reduced is the accumulator of Reduce.
type reduced[T any] struct {
	Value T
	Any   bool // whether there is a value
}

func reduction[T any](f func(acc, v T) T) Aggregation[T, reduced[T], T] {
	add := func(acc *reduced[T], v T) {
		if acc.Any {
			v = f(acc.Value, v)
		}
		acc.Value, acc.Any = v, true
	}
	return Aggregation[T, reduced[T], T]{
		Add: add,
		Merge: func(acc, other *reduced[T]) {
			if other.Any {
				add(acc, other.Value)
			}
		},
		Result: func(acc *reduced[T]) T { return acc.Value },
		Codec:  newReducedCodec[T](),
	}
}
