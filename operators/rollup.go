package operators

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// Rollup aggregates by tumbling windows of several sizes at once, from the
// finest to the coarsest, and adds each record only once: a coarser window is
// merged out of the finer ones.
//
//	minutes := []time.Duration{time.Minute, 5 * time.Minute, time.Hour}
//	counts := operators.Rollup(byPage, "counts", minutes, operators.Count[Hit]())
//
// Each size must be a multiple of the one before it. Windows are aligned to the
// epoch in UTC. The size of a result's window tells the granularities apart. The
// results are those that an [Aggregate] of each size would give; where windows
// end together, the finer one's comes first.
//
// With [AllowedLateness] every window is kept for that long after its own end.
// A record that is too late for its finer windows still counts in the coarser;
// one that is too late for all goes to [LateTo]. A record gives a late result for
// each of its windows that is complete and kept.
//
// Windows in time zones, offsets, and a [Trigger] other than the default are
// not supported; the latter is a mistake of the graph. Use an Aggregate for each
// size.
//
// The metrics are those of Aggregate.
func Rollup[K comparable, T, A, R any](
	in pipeline.KeyedStream[K, T], name string, sizes []time.Duration,
	agg Aggregation[T, A, R], opts ...pipeline.OperatorOption,
) pipeline.Stream[Result[K, R]] {
	w := windowing[K, T, A, R]{agg: agg, lateTo: lateConfig{record: reflect.TypeFor[T]()}}
	opts = settle(opts, &w.latenessConfig, &w.lateTo)
	opts = append(opts, pipeline.NeedsEventTime(), pipeline.Mistake(checkSizes(sizes)), pipeline.Mistake(agg.check(true)))
	levels := make([]window.TumblingAssigner, len(sizes))
	for i, size := range sizes {
		levels[i] = window.Tumbling(size)
	}
	return pipeline.Process(in, name, func() *rollupOperator[K, T, A, R] {
		return &rollupOperator[K, T, A, R]{windowing: w, levels: levels}
	}, opts...)
}

func checkSizes(sizes []time.Duration) error {
	if len(sizes) == 0 {
		return errors.New("there is no window size")
	}
	for i, size := range sizes {
		if err := window.Tumbling(size).Validate(); err != nil {
			return err
		}
		if i > 0 && (size <= sizes[i-1] || size%sizes[i-1] != 0) {
			return fmt.Errorf("the size %v is not a multiple of the finer size %v", size, sizes[i-1])
		}
	}
	return nil
}

// rollupOperator keeps the windows of all sizes of a key.
//
// A record is added to the finest of its windows that is still kept, and to no
// other. A window that is cleaned up is merged into the one around it, which is
// kept at least as long. So a window's content is what it has itself, together
// with the finer windows within it that are still kept.
type rollupOperator[K comparable, T, A, R any] struct {
	windowing[K, T, A, R]
	levels  []window.TumblingAssigner
	cursors []window.Cursor

	keys   *state.Value[K, rolledKey[A]]
	timers *pipeline.Timers[K]
}

// rolledKey are the windows of one key.
type rolledKey[A any] struct {
	// Live holds the windows of all levels, by level and then by age. There are
	// few: one or two of each level.
	Live []rolledWindow[A]
	// Alarm is when the next window ends or is cleaned up.
	Alarm alarm
}

// rolledWindow is one window of a key.
type rolledWindow[A any] struct {
	Level  int // 0 is the finest
	Window window.Window
	Panes  window.PaneState
	// Acc holds the records added to this very window and those of the windows
	// within it that are no longer kept. Held says that there are any.
	Acc  A
	Held bool
}

// Open implements [pipeline.Opener].
func (o *rollupOperator[K, T, A, R]) Open(c *resultContext[K, R]) error {
	o.open(c)
	for _, l := range o.levels {
		o.cursors = append(o.cursors, window.NewCursor(l.Window))
	}
	o.keys = state.NewValue[rolledKey[A]](c.State(), "windows", o.shape("windows", fmt.Sprint(o.levels)), encoding(&o.agg, func(acc state.Codec[A]) state.Codec[rolledKey[A]] {
		return rollupCodec[A]{acc, o.levels}
	}))
	o.timers = c.Timers(endTimers)
	return nil
}

// Process implements [pipeline.Processor].
func (o *rollupOperator[K, T, A, R]) Process(c *resultContext[K, R], v T) error {
	o.add(c, v)
	return nil
}

func (o *rollupOperator[K, T, A, R]) add(c *resultContext[K, R], v T) {
	// The windows around an open one are open, and made together with it.
	w := o.cursors[0].At(c.Time())
	if w.MaxTimestamp() > c.Watermark() {
		o.added(c, 0, w, v)
		return
	}
	for level := range o.levels {
		if w := o.cursors[level].At(c.Time()); !w.Late(c.Watermark(), o.allowed) {
			o.addLate(c, o.added(c, level, w, v), level)
			return
		}
	}
	o.late.refuse(v, c.Time(), c.Watermark())
}

// added adds a record to its window of a level, made where there is none.
func (o *rollupOperator[K, T, A, R]) added(c *resultContext[K, R], level int, w window.Window, v T) *rolledKey[A] {
	k := o.keys.Ptr()
	if k != nil {
		if i, ok := k.find(level, w); ok && k.Live[i].Held {
			o.agg.Add(&k.Live[i].Acc, v)
			return k
		}
	}
	o.begin(v)
	if k == nil {
		k = o.keys.Upsert()
	}
	o.ensure(c, k, level)
	i, _ := k.find(level, w)
	k.Live[i].Acc, k.Live[i].Held = o.scratch, true
	return k
}

// ensure makes the windows of a record from level on, where they are missing.
func (o *rollupOperator[K, T, A, R]) ensure(c *resultContext[K, R], k *rolledKey[A], level int) {
	for ; level < len(o.levels); level++ {
		w := o.cursors[level].At(c.Time())
		i, ok := k.find(level, w)
		if ok {
			return // and so are those around it
		}
		l := rolledWindow[A]{Level: level, Window: w}
		if w.MaxTimestamp() > c.Watermark() {
			l.Panes.Fresh = 1 // or more; what counts is that it has records
		}
		k.Live = slices.Insert(k.Live, i, l)
		arm(o.timers, &k.Alarm, o.next(&l, c.Watermark()))
		o.live.Add(1)
	}
}

// next returns when the window is to be looked at again.
func (o *rollupOperator[K, T, A, R]) next(l *rolledWindow[A], watermark int64) int64 {
	if end := l.Window.MaxTimestamp(); end > watermark {
		return end
	}
	return l.Window.CleanupTime(o.allowed)
}

// addLate gives the late panes for a record that was added to a window of
// level.
func (o *rollupOperator[K, T, A, R]) addLate(c *resultContext[K, R], k *rolledKey[A], level int) {
	o.due = o.due[:0]
	for ; level < len(o.levels); level++ {
		w := o.cursors[level].At(c.Time())
		if w.MaxTimestamp() > c.Watermark() {
			break
		}
		i, _ := k.find(level, w)
		if pane, ok := k.Live[i].Panes.Add(o.trigger, 1, true); ok {
			o.giveWindow(k, &k.Live[i], pane)
		}
	}
	o.emit(c)
}

// giveWindow puts the result of a window aside: of what it holds itself, and of
// the finer windows within it.
func (o *rollupOperator[K, T, A, R]) giveWindow(k *rolledKey[A], l *rolledWindow[A], p window.Pane) {
	parts, only := 0, l
	for i := range k.Live {
		if k.Live[i].within(l) {
			parts, only = parts+1, &k.Live[i]
		}
	}
	if parts == 1 {
		o.give(l.Window, p, &only.Acc)
		return
	}
	o.scratch = o.agg.empty()
	if l.Held { // it holds the oldest
		o.agg.Merge(&o.scratch, &l.Acc)
	}
	for i := range k.Live {
		if part := &k.Live[i]; part != l && part.within(l) {
			o.agg.Merge(&o.scratch, &part.Acc)
		}
	}
	o.give(l.Window, p, &o.scratch)
}

// within says whether l holds records of w.
func (l *rolledWindow[A]) within(w *rolledWindow[A]) bool {
	return l.Held && l.Level <= w.Level && w.Window.Contains(l.Window.Start)
}

// OnTimer implements [pipeline.TimerHandler].
func (o *rollupOperator[K, T, A, R]) OnTimer(c *resultContext[K, R], t pipeline.Timer) error {
	k := o.keys.Ptr()
	if k == nil || !k.Alarm.rings(t.Time) {
		return nil
	}
	done := false
	defer rearm(o.timers, &k.Alarm, t.Time, &done)
	for i := 0; i < len(k.Live); { // the finer first
		l := &k.Live[i]
		o.due = o.due[:0]
		o.end(k, l, t.Time)
		if l.Window.Late(t.Time, o.allowed) {
			o.retire(k, i)
		} else {
			arm(o.timers, &k.Alarm, o.next(l, t.Time))
			i++
		}
		o.emit(c)
	}
	if len(k.Live) == 0 {
		o.keys.Clear()
	}
	done = true
	return nil
}

func (o *rollupOperator[K, T, A, R]) end(k *rolledKey[A], l *rolledWindow[A], time int64) {
	if l.Window.MaxTimestamp() > time {
		return
	}
	if pane, ok := l.Panes.End(o.trigger, o.allowed); ok {
		o.giveWindow(k, l, pane)
	}
}

// retire takes a window out and merges it into the one around it, which is kept
// at least as long and, if both go now, comes later in Live. What that one would
// give stays the same: it has only moved.
func (o *rollupOperator[K, T, A, R]) retire(k *rolledKey[A], i int) {
	gone := k.Live[i]
	k.Live = slices.Delete(k.Live, i, i+1)
	o.live.Add(-1)
	if gone.Level+1 == len(o.levels) || !gone.Held {
		return
	}
	around, _ := k.find(gone.Level+1, o.cursors[gone.Level+1].At(gone.Window.Start))
	to := &k.Live[around]
	if !to.Held { // the accumulator changes hands, and its memory with it
		to.Acc, to.Held = gone.Acc, true
		return
	}
	o.scratch = gone.Acc
	o.agg.Merge(&to.Acc, &o.scratch)
}

// find returns the index of a window, or where it belongs.
func (k *rolledKey[A]) find(level int, w window.Window) (int, bool) {
	for i := range k.Live {
		l := &k.Live[i]
		if l.Level == level && l.Window == w {
			return i, true
		}
		if l.Level > level || l.Level == level && l.Window.Start > w.Start {
			return i, false
		}
	}
	return len(k.Live), false
}
