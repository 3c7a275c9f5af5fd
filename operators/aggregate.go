package operators

import (
	"fmt"
	"reflect"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// Result is one result of a window of a key.
//
// Its event time is the last of the window, Window.MaxTimestamp, whatever the
// pane: so windows chain, and a result that is late is late as well for the
// operators behind, which can allow for that in turn.
type Result[K comparable, R any] struct {
	Key    K             `json:"key"`
	Window window.Window `json:"window"`
	Value  R             `json:"value"`

	// Pane says which of the window's results this is. Without early triggers
	// and allowed lateness there is one for each window, and it is final. If
	// Pane.Tombstone is set, Value is the zero value, and the earlier results
	// of this key and window no longer stand.
	Pane window.Pane `json:"pane"`
}

// String renders the result in one line.
func (r Result[K, R]) String() string {
	return fmt.Sprintf("%v %v %+v (%v)", r.Key, r.Window, r.Value, r.Pane)
}

// Aggregate gathers the records of each key by windows, and gives a [Result]
// for each window that has any.
//
//	uv := operators.Aggregate(byPage, "uv", window.Tumbling(time.Minute), operators.HLL(14, Hit.Visitor))
//
// A window is complete, and gives its result, when the watermark reaches its
// last millisecond. It is then kept for as long as [AllowedLateness] says. A
// record counts in each of its windows that is still kept; when none is, it
// goes to [LateTo]. [Trigger] asks for further results. Windows without records
// give none.
//
// Sessions need agg.Merge. When a record joins a session that has given a
// result already, or joins several to one, the results under the old bounds
// are taken back by a tombstone before there is a new one; a discarding
// trigger takes nothing back. Sliding and cumulative windows share one
// accumulator for each slice of time, which a window's result merges, unless
// agg.Merge is nil, or the trigger has early results, or it is discarding and
// lateness is allowed: then every window has its own, and each record costs as
// many calls of Add as it has windows.
//
// Except for [window.Global], the stream must have watermarks. A global window
// is complete at the end of input.
//
// Metrics: late counts records that every window refused, unassigned those
// that the assigner gave no window, windows is the number of windows (or
// slices) in memory.
func Aggregate[K comparable, T, A, R any](
	in pipeline.KeyedStream[K, T], name string, by window.Assigner,
	agg Aggregation[T, A, R], opts ...pipeline.OperatorOption,
) pipeline.Stream[Result[K, R]] {
	w := windowing[K, T, A, R]{agg: agg, lateTo: lateConfig{record: reflect.TypeFor[T]()}}
	opts = settle(opts, &w.latenessConfig, &w.triggerConfig, &w.lateTo)
	opts = append(opts, pipeline.Mistake(window.Validate(by)), pipeline.Mistake(agg.check(window.Merging(by))))
	if needsWatermarks(by, w.trigger) {
		opts = append(opts, pipeline.NeedsEventTime())
	}
	if window.Merging(by) {
		return pipeline.Process(in, name, func() *sessionOperator[K, T, A, R] {
			return &sessionOperator[K, T, A, R]{windowing: w, by: by}
		}, opts...)
	}
	if s, ok := by.(window.Slicer); ok && w.slices() {
		return pipeline.Process(in, name, func() *sliceOperator[K, T, A, R] {
			return &sliceOperator[K, T, A, R]{windowing: w, by: s}
		}, opts...)
	}
	if d, ok := by.(window.Disjoint); ok && w.firesOnce() {
		return pipeline.Process(in, name, func() *onceOperator[K, T, A, R] {
			return &onceOperator[K, T, A, R]{windowing: w, by: d}
		}, opts...)
	}
	return pipeline.Process(in, name, func() *windowOperator[K, T, A, R] {
		return newWindowOperator(w, by)
	}, opts...)
}

// needsWatermarks says whether results before the end of input depend on
// watermarks.
func needsWatermarks(by window.Assigner, t window.Trigger) bool {
	_, global := by.(window.GlobalAssigner)
	return !global || t.EarlyEventInterval > 0
}
