package operators

import "github.com/millrace/millrace/pipeline"

// Map replaces every record by f of it. Results keep the order and event times
// of the records.
//
//	hits := operators.Map(lines, "parse", parseHit)
//
// A record on which f panics goes to the dead-letter output, or stops the job
// where there is none. All subtasks call f, several at a time.
//
// A stream whose records have an error to tell is for [TryMap], one of which
// records vanish or multiply for [Filter] and [FlatMap].
func Map[T, U any](
	in pipeline.Stream[T], name string, f func(T) U, opts ...pipeline.OperatorOption,
) pipeline.Stream[U] {
	opts = append(settle(opts), needFunc(f == nil))
	return pipeline.Process(in, name, func() *mapper[T, U] { return &mapper[T, U]{f: f} }, opts...)
}

// TryMap is [Map] for a function that may refuse a record: one for which f
// returns an error goes to the dead-letter output with that error, or stops
// the job where there is none.
func TryMap[T, U any](
	in pipeline.Stream[T], name string, f func(T) (U, error), opts ...pipeline.OperatorOption,
) pipeline.Stream[U] {
	opts = append(settle(opts), needFunc(f == nil))
	return pipeline.Process(in, name, func() *tryMapper[T, U] { return &tryMapper[T, U]{f: f} }, opts...)
}

// mapper is the operator behind Map.
type mapper[T, U any] struct {
	f       func(T) U
	results results[U]
}

func (m *mapper[T, U]) Process(c *pipeline.Context[pipeline.NoKey, U], in T) error {
	c.Emit(m.f(in))
	return nil
}

func (m *mapper[T, U]) ProcessBatch(c *pipeline.Context[pipeline.NoKey, U], b *pipeline.Records[T]) error {
	f, in := m.f, b.Values
	out := m.results.begin(len(in), b.Cursor)[:len(in)]
	i := b.Cursor
	for ; i+4 <= len(in); i += 4 {
		// By fours, because a loop variable is stored and loaded again around
		// every call, which takes as long as a trivial f.
		from, to := in[i:i+4:i+4], out[i:i+4:i+4]
		b.Cursor = i
		to[0] = f(from[0])
		b.Cursor = i + 1
		to[1] = f(from[1])
		b.Cursor = i + 2
		to[2] = f(from[2])
		b.Cursor = i + 3
		to[3] = f(from[3])
	}
	for ; i < len(in); i++ {
		b.Cursor = i
		out[i] = f(in[i])
	}
	m.results.emit(c, b.Times)
	return nil
}

// tryMapper is the operator behind TryMap.
type tryMapper[T, U any] struct {
	f       func(T) (U, error)
	results results[U]
}

func (m *tryMapper[T, U]) Process(c *pipeline.Context[pipeline.NoKey, U], in T) error {
	out, err := m.f(in)
	if err == nil {
		c.Emit(out)
	}
	return err
}

func (m *tryMapper[T, U]) ProcessBatch(c *pipeline.Context[pipeline.NoKey, U], b *pipeline.Records[T]) error {
	values := m.results.begin(len(b.Values), b.Cursor)
	for i := b.Cursor; i < len(b.Values); i++ {
		b.Cursor = i
		out, err := m.f(b.Values[i])
		if err != nil {
			return err
		}
		values[i] = out
	}
	m.results.emit(c, b.Times)
	return nil
}

// results holds one result for each record of a batch, at the record's index,
// until all are there. So the batch's times serve the results as well, and a
// record that is rejected on the way costs nothing until the end: its index is
// noted, and the others close up.
type results[U any] struct {
	values   []U
	rejected []int
	times    []int64 // of a batch from which records were rejected
}

// begin returns the space for the results of a batch of n records, with what
// is there already when the cursor says that the batch goes on behind a
// rejected record.
func (r *results[U]) begin(n, cursor int) []U {
	if cursor > 0 {
		r.rejected = append(r.rejected, cursor-1)
		return r.values
	}
	r.rejected = r.rejected[:0]
	if cap(r.values) < n {
		r.values = make([]U, n)
	}
	r.values = r.values[:n]
	return r.values
}

// emit emits the results and forgets them.
func (r *results[U]) emit(c *pipeline.Context[pipeline.NoKey, U], times []int64) {
	values := r.values
	if len(r.rejected) > 0 {
		values, times = r.close(times)
	}
	c.EmitBatch(values, times)
	clear(r.values) // a result must not live until the next batch
}

// close closes the gaps that rejected records left: in the results in place,
// and in a copy of the times, which belong to the batch.
func (r *results[U]) close(times []int64) ([]U, []int64) {
	values, kept, from := r.values[:0], r.times[:0], 0
	for _, gap := range append(r.rejected, len(times)) {
		values = append(values, r.values[from:gap]...)
		kept = append(kept, times[from:gap]...)
		from = gap + 1
	}
	r.times = kept
	return values, kept
}
