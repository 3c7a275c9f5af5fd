package operators

import (
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// windowing is what the window operators share: how they aggregate, when they
// give results, and their ways out.
//
// User code may panic wherever it is called, and the engine then goes on with
// the next record or timer. All operators here therefore keep one order. A
// record is first added to an accumulator, and then whatever else it changes is
// stored, so that no window is without records, and none without a timer. A
// timer first changes the state, and then makes the results out of what was
// taken from it, so that a window that cannot make its result is cleaned up all
// the same.
type windowing[K comparable, T, A, R any] struct {
	agg Aggregation[T, A, R]
	latenessConfig
	triggerConfig
	lateTo lateConfig

	late lateOutput[T]
	live *pipeline.Gauge

	due     []duePane[A]
	scratch A // an accumulator being made
}

// duePane is a result to be given, with what it is made of. An accumulator
// that stays in the state shares its memory with the copy here, which is only
// read.
type duePane[A any] struct {
	window window.Window
	pane   window.Pane
	acc    A
}

// resultContext is the context of a window operator.
type resultContext[K comparable, R any] = pipeline.Context[K, Result[K, R]]

func (w *windowing[K, T, A, R]) open(c *resultContext[K, R]) {
	w.late = openLate[T](c, w.lateTo)
	w.live = c.Metrics().Gauge("windows")
}

// begin makes an accumulator of its first record in w.scratch.
func (w *windowing[K, T, A, R]) begin(v T) {
	w.scratch = w.agg.empty()
	w.agg.Add(&w.scratch, v)
}

// give puts a result aside until the state is in order.
func (w *windowing[K, T, A, R]) give(of window.Window, p window.Pane, acc *A) {
	w.due = append(w.due, duePane[A]{of, p, *acc})
}

// emit makes the results that were put aside. If one fails, those behind it
// are lost with it.
func (w *windowing[K, T, A, R]) emit(c *resultContext[K, R]) {
	due := w.due
	w.due = due[:0]
	for i := range due {
		d := &due[i]
		c.EmitAt(Result[K, R]{c.Key(), d.window, w.agg.Result(&d.acc), d.pane}, d.window.MaxTimestamp())
	}
	clear(due)
}

// early says whether there are results before a window is complete.
func (w *windowing[K, T, A, R]) early() bool {
	t := w.trigger
	return t.EarlyInterval > 0 || t.EarlyEventInterval > 0 || t.EarlyRecords > 0
}

// slices says whether overlapping windows can share slices. Not so when an
// open window must know of each record whether a pane holds it already, and
// when late panes hold other records than the slices.
func (w *windowing[K, T, A, R]) slices() bool {
	discardsLate := w.trigger.Accumulation == window.Discarding && w.allowed > 0
	return w.agg.Merge != nil && !w.early() && !discardsLate
}
