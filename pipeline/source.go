package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
)

// Source says where records come from. It is a value of the graph: Open is
// called once for each of the source's subtasks when the job starts.
type Source[T any] interface {
	// Open returns the reader of one subtask. The subtasks divide the source's
	// splits among themselves by a rule of the source that depends on nothing but
	// env and the splits; [SourceEnv.Mine] is one.
	//
	// An error stops the start of the job. ctx is for opening only; it may end
	// while the job still runs.
	Open(ctx context.Context, env *SourceEnv) (Reader[T], error)
}

// Reader reads the splits of one subtask. All its methods but those of
// [Pauser] are called from one goroutine, which is not that of the operators:
// reading and decoding go on while they work.
type Reader[T any] interface {
	// Read fills b, which it is handed empty, with records of one split, and
	// says in b which split that is and how far it has been read. It blocks until
	// there is something to say, and returns soon after ctx is done.
	//
	// It should not wait for the batch to fill: a record that has arrived goes
	// out. A batch without records is in order; it may only announce splits. The
	// first one goes out at once, even where there are neither records nor splits:
	// the source's other subtasks wait for it, for up to a second, so that time
	// does not depend on who starts first.
	//
	// At the end of a bounded source it returns [ErrEndOfInput], with or without
	// last records in b. Any other error but ctx.Err stops the job.
	Read(ctx context.Context, b *SourceBatch[T]) error
}

// Closer is implemented by operators, readers and writers that hold resources.
// Close is called once after a successful open, whatever became of the job.
type Closer interface{ Close() error }

// Pauser is implemented by readers that can hold splits back, which a source
// needs for [WatermarkStrategy.MaxDrift]. Both methods are called from another
// goroutine than Read, and take effect with the next batch that Read starts.
type Pauser interface {
	Pause(split string)
	Resume(split string)
}

// Ordered is implemented by sources that may have been asked to bring the same
// records in the same order every time, so that a replay has the same results and
// the same late records. A strategy that moves time by the clock
// ([WatermarkStrategy.IdleAfter], [WatermarkStrategy.AdvanceWhenIdle]) would take
// that away without a word; with a source that says it is ordered, it is a mistake
// that Validate reports.
type Ordered interface {
	// Ordered says whether this source was asked to. It is called while the graph
	// is built.
	Ordered() bool
}

// SourceEnv is what a reader knows of the job.
type SourceEnv struct {
	// Operator is the source's name in the graph.
	Operator string
	// Subtask is this reader's index among Parallelism readers.
	Subtask, Parallelism int
	// BatchSize is the number of records a batch should hold at most.
	BatchSize int
	// Positions holds, for splits read before, the position to go on from: the
	// last SourceBatch.Position that took effect. It covers the splits of all
	// subtasks, since a split may have moved.
	Positions map[string][]byte
	// Checkpoints says that the job takes checkpoints.
	Checkpoints bool
	// Logger carries the operator's name and subtask.
	Logger *slog.Logger
	// Metrics are the reader's own.
	Metrics *Metrics
}

// Mine says whether the i-th of the source's splits, in an order all subtasks
// agree on, belongs to this subtask.
func (e *SourceEnv) Mine(i int) bool { return i%e.Parallelism == e.Subtask }

// SourceBatch is what one Read brings: records of one split, in the split's
// order, and news of splits. The engine hands it out empty and takes it back
// when its records have been processed; a reader keeps nothing of it.
type SourceBatch[T any] struct {
	// Split names the split of Values. Stable across restarts: a path, a topic
	// and partition.
	Split string
	// Values are the records.
	Values []T
	// Times are event times in milliseconds, one for each value, or empty where
	// the source knows none.
	Times []int64
	// Rejected are records that could not be decoded. The engine fills in
	// Operator and Subtask.
	Rejected []DeadLetter
	// Position is where Split is to be read on after this batch: opaque to the
	// engine, which keeps the slice.
	Position []byte
	// Watermark is the split's watermark after this batch, for a source that
	// knows it better than any strategy ([SourceWatermarks]). Ignored by other
	// strategies.
	Watermark int64

	added, idle, finished []string
}

// AddSplit announces a split before its first record, so that time waits for
// it. A reader announces all its splits with its first batch.
func (b *SourceBatch[T]) AddSplit(name string) { b.added = append(b.added, name) }

// IdleSplit says that a split has no more records for now, though it is not
// finished: time stops waiting for it until its next record. An idle time-out
// of the watermark strategy does the same without the reader's help.
func (b *SourceBatch[T]) IdleSplit(name string) { b.idle = append(b.idle, name) }

// FinishSplit says that a split has ended or was taken away; time waits for it
// no longer. It takes effect after the batch's records.
func (b *SourceBatch[T]) FinishSplit(name string) { b.finished = append(b.finished, name) }

// News returns the splits that were announced, turned idle and finished with
// this batch, for who reads a [Reader] without the engine: a test, or a source
// around another. The slices are the batch's own.
func (b *SourceBatch[T]) News() (added, idle, finished []string) { return b.added, b.idle, b.finished }

// Reset empties the batch and keeps its memory.
func (b *SourceBatch[T]) Reset() {
	clear(b.Values) // a record must not be kept alive by a spare batch
	clear(b.Rejected)
	*b = SourceBatch[T]{
		Values: b.Values[:0], Times: b.Times[:0], Rejected: b.Rejected[:0], Watermark: MinWatermark,
		added: b.added[:0], idle: b.idle[:0], finished: b.finished[:0],
	}
}

// From adds a source. A [WatermarkStrategy] among the options gives its
// records event time; without one, they carry the source's own times and the
// watermark moves only at the end of input, which suits jobs without
// event-time operators.
func From[T any](p *Pipeline, name string, src Source[T], opts ...OperatorOption) Stream[T] {
	n := p.add(&node{name: name, kind: kindSource, out: reflect.TypeFor[T]()})
	n.apply(opts)
	strategy, err := strategyOf[T](n.strategy)
	if err != nil {
		p.mistake(n.where, "source %q: %v", name, err)
	}
	if isNil(src) {
		p.mistake(n.where, "source %q is nil", name)
	} else if err := checkOrder(src, strategy); err != nil {
		p.mistake(n.where, "source %q: %v", name, err)
	}
	n.build = func(env *buildEnv) *instance { return newSourceRunner(env, src, strategy) }
	return streamOf[T](p, n)
}

// checkOrder refuses an ordered source whose time moves by the clock.
func checkOrder[T any](src Source[T], s WatermarkStrategy[T]) error {
	if o, ok := src.(Ordered); !ok || !o.Ordered() {
		return nil
	}
	clock := ""
	switch {
	case s.idle > 0:
		clock = "IdleAfter"
	case s.advance > 0:
		clock = "AdvanceWhenIdle"
	default:
		return nil
	}
	return fmt.Errorf("%s moves event time by the clock, and the source is to bring the same records in the same order every time: "+
		"which of them are late would depend on how fast they come; leave %[1]s out, or have the source not ordered", clock)
}

// strategyOf recovers the type of the strategy that an option carried.
func strategyOf[T any](s any) (WatermarkStrategy[T], error) {
	switch s := s.(type) {
	case nil:
		return WatermarkStrategy[T]{}, nil
	case WatermarkStrategy[T]:
		return s, s.check()
	default:
		return WatermarkStrategy[T]{}, fmt.Errorf("the watermark strategy is a %T, the source yields %v", s, reflect.TypeFor[T]())
	}
}

// isNil also sees a typed nil pointer in an interface.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Chan, reflect.Slice:
		return r.IsNil()
	}
	return false
}
