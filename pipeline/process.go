package pipeline

import (
	"log/slog"
	"reflect"
	"time"

	"github.com/millrace/millrace/state"
)

// Processor is a user's operator: it handles one record at a time, remembers
// by key, sets timers, and emits any number of results. Every subtask has its
// own instance, and one goroutine calls all its methods, so it needs no lock.
//
// An operator may implement further interfaces of this package, found once
// when the job is planned: [Opener], [TimerHandler], [WatermarkHandler],
// [BatchProcessor], [Closer].
type Processor[K comparable, In, Out any] interface {
	// Process handles one record. The context speaks of that record: its key,
	// its event time, the state of its key.
	//
	// An error rejects the record: it goes to the job's dead-letter output, or
	// stops the job where there is none. What was emitted and stored before the
	// error stays. A panic is treated the same. [Fatal] marks an error that always
	// stops the job.
	Process(c *Context[K, Out], in In) error
}

// Opener is implemented by operators that declare state, timers or side
// outputs, or acquire resources, before the first record.
type Opener[K comparable, Out any] interface {
	Open(c *Context[K, Out]) error
}

// TimerHandler is implemented by operators that set timers. OnTimer is called
// with the context speaking of the key the timer was set for; its event time
// is the timer's time. Timers fire in order of time, and before the watermark
// that made them due is forwarded.
type TimerHandler[K comparable, Out any] interface {
	OnTimer(c *Context[K, Out], t Timer) error
}

// WatermarkHandler is implemented by operators that act on event time as a
// whole. OnWatermark is called after the timers that the watermark made due
// and before it is forwarded. The context speaks of no key.
type WatermarkHandler[K comparable, Out any] interface {
	OnWatermark(c *Context[K, Out], watermark int64) error
}

// BatchProcessor is implemented by operators that would rather see a whole
// batch than pay a call for every record; Process is then never called.
//
// ProcessBatch starts at the record b.Cursor and sets b.Cursor to i before it
// hands record i to user code. When it fails, by an error or a panic, the
// engine rejects the record b.Cursor and calls again with Cursor one further
// (even at the end of the batch, where only prepared results are left to be
// emitted), so results prepared for earlier records of the batch must be kept
// until then.
//
// The context does not know which record is in hand: use [Context.Enter]
// before state, timers or Emit.
type BatchProcessor[K comparable, In, Out any] interface {
	ProcessBatch(c *Context[K, Out], b *Batch[K, In]) error
}

// Process adds a user's operator: the one door for operators of all kinds,
// those of package operators included. newOp makes the instance of one
// subtask.
//
//	counts := pipeline.Process(byUser, "count", func() *counter { return &counter{} })
//
// On a stream without a key the key type is [NoKey], and there is no keyed
// state and no timer.
func Process[K comparable, In, Out any, P Processor[K, In, Out]](
	in Input[K, In], name string, newOp func() P, opts ...OperatorOption,
) Stream[Out] {
	p, edges, _, _ := in.input()
	n := p.add(&node{name: name, kind: kindOperator, out: reflect.TypeFor[Out]()})
	n.apply(opts)
	if newOp == nil {
		p.mistake(n.where, "operator %q: the constructor is nil", name)
	}
	n.consume(0, edges)
	n.build = func(env *buildEnv) *instance { return newRunner[K, In, Out](env, newOp()) }
	return streamOf[Out](p, n)
}

// Func makes the constructor of an operator that is a single stateless
// function.
func Func[K comparable, In, Out any](f func(c *Context[K, Out], in In) error) func() ProcessFunc[K, In, Out] {
	return func() ProcessFunc[K, In, Out] { return f }
}

// ProcessFunc is a function as a [Processor].
type ProcessFunc[K comparable, In, Out any] func(c *Context[K, Out], in In) error

// Process calls f.
func (f ProcessFunc[K, In, Out]) Process(c *Context[K, Out], in In) error { return f(c, in) }

// OperatorOption sets something of one source, operator or sink.
type OperatorOption interface{ applyTo(n *node) }

type operatorOption func(n *node)

func (f operatorOption) applyTo(n *node) { f(n) }

// Parallelism sets the number of subtasks of one operator. Default: the
// pipeline's [DefaultParallelism].
func Parallelism(n int) OperatorOption {
	return operatorOption(func(nd *node) { nd.parallelism, nd.fixedParallelism = n, true })
}

// NeedsEventTime declares that an operator works by watermarks. A graph in
// which a source without a [WatermarkStrategy] reaches it is a mistake, since
// it would be silent until the end of input.
func NeedsEventTime() OperatorOption {
	return operatorOption(func(n *node) { n.needsEventTime = true })
}

// Mistake reports a wrong argument of an operator as a mistake of the graph,
// at the line that added it. It is for authors of operators.
func Mistake(err error) OperatorOption {
	return operatorOption(func(n *node) {
		if err != nil {
			n.p.mistake(n.where, "operator %q: %v", n.name, err)
		}
	})
}

// Context is an operator's view of the record or timer in hand, and its way
// to state, timers and outputs. It is valid on the operator's own goroutine
// only.
type Context[K comparable, Out any] struct {
	keyed     *state.Backend[K]
	timers    *timerService[K]
	out       *outlet[Out]
	time      int64
	watermark int64
	inst      *instance
}

// Key returns the key of the record or timer in hand.
func (c *Context[K, Out]) Key() K { return c.keyed.Key() }

// Time returns the event time of the record or timer in hand, in milliseconds.
func (c *Context[K, Out]) Time() int64 { return c.time }

// Watermark returns the current watermark of this subtask, in milliseconds:
// [MinWatermark] before the first and [MaxWatermark] at the end of input. A
// record whose time is at or before it is late.
func (c *Context[K, Out]) Watermark() int64 { return c.watermark }

// Now returns the processing time in milliseconds.
func (c *Context[K, Out]) Now() int64 { return time.Now().UnixMilli() }

// State returns the backend to declare keyed state on, while opening.
func (c *Context[K, Out]) State() *state.Backend[K] { return c.keyed }

// Timers declares a namespace of timers, while opening. Timers of different
// namespaces do not meet.
func (c *Context[K, Out]) Timers(namespace string) *Timers[K] {
	return c.timers.namespace(namespace)
}

// Emit emits a result with the event time of the record or timer in hand.
func (c *Context[K, Out]) Emit(v Out) { c.out.emit(v, c.time) }

// EmitAt emits a result with an event time of its own. A time at or before the
// watermark makes the result late for operators further on.
func (c *Context[K, Out]) EmitAt(v Out, time int64) { c.out.emit(v, time) }

// EmitBatch emits results with their event times, after whatever Emit has
// buffered. Both slices belong to the caller again when it returns; times may
// be the slice of the batch in hand.
func (c *Context[K, Out]) EmitBatch(values []Out, times []int64) { c.out.emitBatch(values, times) }

// Enter makes the context speak of a record, in a [BatchProcessor].
func (c *Context[K, Out]) Enter(key K, hash uint64, time int64) {
	c.keyed.SetKey(key, hash)
	c.time = time
}

// Operator returns the operator's name, Subtask its index among Parallelism.
func (c *Context[K, Out]) Operator() string { return c.inst.node.name }

// Subtask returns the index of this instance among [Context.Parallelism].
func (c *Context[K, Out]) Subtask() int { return c.inst.task.subtask }

// Parallelism returns the number of subtasks of this operator.
func (c *Context[K, Out]) Parallelism() int { return c.inst.node.parallelism }

// Logger returns a logger that carries the operator's name and subtask.
func (c *Context[K, Out]) Logger() *slog.Logger { return c.inst.logger() }

// Metrics returns the operator's own metrics.
func (c *Context[K, Out]) Metrics() *Metrics { return c.inst.metrics }

// Side declares that the operator writes to tag, while opening, and returns
// the way to do so.
func Side[S any, K comparable, Out any](c *Context[K, Out], tag Tag[S]) *SideEmitter[S] {
	return &SideEmitter[S]{sideOutlet[S](c.inst, tag.name), c.inst.metrics.Counter("side_" + tag.name)}
}

// SideEmitter writes to a side output. What nobody consumes is dropped and
// counted.
type SideEmitter[S any] struct {
	out     *outlet[S]
	emitted *Counter
}

// Emit writes a record with its event time to the side output.
func (s *SideEmitter[S]) Emit(v S, time int64) {
	s.emitted.Add(1)
	if s.out != nil {
		s.out.emit(v, time)
	}
}

// Consumed says whether anybody reads the side output, for operators that
// would otherwise do work in vain.
func (s *SideEmitter[S]) Consumed() bool { return s.out != nil }
