package operators

import "github.com/millrace/millrace/pipeline"

// Filter keeps the records for which keep returns true, in order and with
// their event times.
//
//	errors := operators.Filter(lines, "errors", Line.IsError)
//
// A record on which keep panics goes to the dead-letter output, or stops the
// job where there is none. All subtasks call keep, several at a time.
func Filter[T any](
	in pipeline.Stream[T], name string, keep func(T) bool, opts ...pipeline.OperatorOption,
) pipeline.Stream[T] {
	opts = append(settle(opts), needFunc(keep == nil))
	return pipeline.Process(in, name, func() *filter[T] { return &filter[T]{keep: keep} }, opts...)
}

// filter is the operator behind Filter.
type filter[T any] struct {
	keep func(T) bool
	kept kept[T]
}

func (f *filter[T]) Process(c *pipeline.Context[pipeline.NoKey, T], in T) error {
	if f.keep(in) {
		c.Emit(in)
	}
	return nil
}

func (f *filter[T]) ProcessBatch(c *pipeline.Context[pipeline.NoKey, T], b *pipeline.Records[T]) error {
	keep, in, times := f.keep, b.Values, b.Times[:len(b.Values)]
	f.kept.begin(len(in), b.Cursor)
	to, toTimes, n := f.kept.values, f.kept.times, f.kept.n
	for i := b.Cursor; i < len(in); i++ {
		b.Cursor = i
		if v := in[i]; keep(v) {
			to[n], toTimes[n] = v, times[i]
			n++
			f.kept.n = n // for the call after a panic
		}
	}
	emitKept(c, &f.kept)
	return nil
}

// kept gathers the records of a batch that go on. It counts in a field, so
// that after a panic it knows what it has.
type kept[T any] struct {
	values []T
	times  []int64
	n      int
}

// begin makes space for a batch of n records. A cursor behind the first says
// that the batch goes on after a rejected record, and nothing is to be lost.
func (k *kept[T]) begin(n, cursor int) {
	if cursor == 0 && len(k.values) < n {
		k.values, k.times = make([]T, n), make([]int64, n)
	}
}

func (k *kept[T]) add(v T, time int64) {
	k.values[k.n], k.times[k.n] = v, time
	k.n++
}

// emitKept emits what was gathered and forgets it: a record must not live
// until the next batch.
func emitKept[K comparable, T any](c *pipeline.Context[K, T], k *kept[T]) {
	c.EmitBatch(k.values[:k.n], k.times[:k.n])
	clear(k.values[:k.n])
	k.n = 0
}
