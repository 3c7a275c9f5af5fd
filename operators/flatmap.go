package operators

import "github.com/millrace/millrace/pipeline"

// FlatMap replaces every record by any number of results: whatever f passes to
// emit, in that order. They get the event time of the record.
//
//	words := operators.FlatMap(lines, "split", func(line string, emit func(string)) {
//		for word := range strings.FieldsSeq(line) {
//			emit(word)
//		}
//	})
//
// A record on which f panics goes to the dead-letter output, or stops the job
// where there is none; what f had emitted for it until then stays emitted. All
// subtasks call f, several at a time, each with an emit of its own, which is
// valid until f returns and on its goroutine only.
func FlatMap[T, U any](
	in pipeline.Stream[T], name string, f func(v T, emit func(U)), opts ...pipeline.OperatorOption,
) pipeline.Stream[U] {
	opts = append(settle(opts), needFunc(f == nil))
	return pipeline.Process(in, name, func() *flatMapper[T, U] { return &flatMapper[T, U]{f: f} }, opts...)
}

// flatMapper is the operator behind FlatMap. Results go straight to the
// context, which hands on a batch whenever it is full: a record may have more
// results than memory would hold.
type flatMapper[T, U any] struct {
	f    func(v T, emit func(U))
	emit func(U)
	time int64 // of the record in hand
}

// Open makes emit once, since a closure made for every record would be
// allocated.
func (m *flatMapper[T, U]) Open(c *pipeline.Context[pipeline.NoKey, U]) error {
	m.emit = func(v U) { c.EmitAt(v, m.time) }
	return nil
}

func (m *flatMapper[T, U]) Process(c *pipeline.Context[pipeline.NoKey, U], in T) error {
	m.time = c.Time()
	m.f(in, m.emit)
	return nil
}

func (m *flatMapper[T, U]) ProcessBatch(_ *pipeline.Context[pipeline.NoKey, U], b *pipeline.Records[T]) error {
	for i := b.Cursor; i < len(b.Values); i++ {
		b.Cursor = i
		m.time = b.Times[i]
		m.f(b.Values[i], m.emit)
	}
	return nil
}
