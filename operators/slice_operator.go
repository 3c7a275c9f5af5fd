package operators

import (
	"slices"
	"sort"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// sliceOperator keeps an accumulator for each slice of time that overlapping
// windows share. A record is added to one, and a window that gives a result
// merges those it is made of.
//
// An open window has no state of its own: it is there if one of its slices is.
// What is remembered of windows begins when they have ended.
type sliceOperator[K comparable, T, A, R any] struct {
	windowing[K, T, A, R]
	by     window.Slicer
	cursor window.Cursor

	keys    *state.Value[K, keySlices[A]]
	timers  *pipeline.Timers[K]
	windows []window.Window // scratch
}

// keySlices are the slices of one key.
type keySlices[A any] struct {
	// Slices are sorted by start. None is without records.
	Slices []liveSlice[A]
	// Ended are the windows that have ended and still take late records.
	Ended []endedWindow
	// Alarm is when the next of the windows ends or is cleaned up. A timer for
	// each window would cost more than the record that sets them.
	Alarm alarm
}

type liveSlice[A any] struct {
	Window window.Window
	Last   int64 // end of the last window the slice is part of
	Acc    A
}

type endedWindow struct {
	Window window.Window
	Panes  window.PaneState
}

// Open implements [pipeline.Opener].
func (o *sliceOperator[K, T, A, R]) Open(c *resultContext[K, R]) error {
	o.open(c)
	o.cursor = window.NewCursor(o.by.Slice)
	o.keys = state.NewValue[keySlices[A]](c.State(), "slices", encoding(&o.agg, newSlicesCodec[A]), o.shape("slices", named(o.by)))
	o.timers = c.Timers(endTimers)
	return nil
}

// Process implements [pipeline.Processor].
func (o *sliceOperator[K, T, A, R]) Process(c *resultContext[K, R], v T) error {
	o.add(c, v)
	return nil
}

func (o *sliceOperator[K, T, A, R]) add(c *resultContext[K, R], v T) {
	slice := o.cursor.At(c.Time())
	// No window of the slice ends before the slice does, so until then none
	// needs to be looked at.
	if slice.MaxTimestamp() > c.Watermark() {
		o.added(c, slice, v)
		return
	}
	o.addLate(c, slice, v)
}

// added adds a record to its slice, made where there is none.
func (o *sliceOperator[K, T, A, R]) added(c *resultContext[K, R], slice window.Window, v T) *keySlices[A] {
	if k := o.keys.Ptr(); k != nil {
		if i, ok := k.find(slice); ok {
			o.agg.Add(&k.Slices[i].Acc, v)
			return k
		}
	}
	o.begin(v)
	k := o.keys.Upsert()
	o.live.Add(1)
	o.windows = o.by.WindowsOf(slice, o.windows[:0])
	i, _ := k.find(slice)
	last := o.windows[len(o.windows)-1].End
	k.Slices = slices.Insert(k.Slices, i, liveSlice[A]{slice, last, o.scratch})
	o.armEnd(k, c.Watermark())
	return k
}

// addLate adds a record whose slice is over, and gives the late panes of those
// of its windows that are over too.
func (o *sliceOperator[K, T, A, R]) addLate(c *resultContext[K, R], slice window.Window, v T) {
	o.windows = o.by.WindowsOf(slice, o.windows[:0])
	if last := o.windows[len(o.windows)-1]; last.Late(c.Watermark(), o.allowed) {
		o.late.refuse(v, c.Time(), c.Watermark())
		return
	}
	k := o.added(c, slice, v)
	o.due = o.due[:0]
	o.windows = o.by.WindowsOf(slice, o.windows[:0])
	for _, w := range o.windows {
		if w.MaxTimestamp() > c.Watermark() {
			break
		}
		if w.Late(c.Watermark(), o.allowed) {
			continue
		}
		e := k.ended(w)
		arm(o.timers, &k.Alarm, w.CleanupTime(o.allowed))
		if pane, ok := e.Panes.Add(o.trigger, 1, true); ok {
			o.giveWindow(k, w, pane)
		}
	}
	o.emit(c)
}

// giveWindow puts the result of a window aside.
func (o *sliceOperator[K, T, A, R]) giveWindow(k *keySlices[A], w window.Window, p window.Pane) {
	parts := k.in(w)
	if len(parts) == 1 {
		o.give(w, p, &parts[0].Acc)
		return
	}
	o.scratch = o.agg.empty()
	for i := range parts {
		o.agg.Merge(&o.scratch, &parts[i].Acc)
	}
	o.give(w, p, &o.scratch)
}

// OnTimer implements [pipeline.TimerHandler].
func (o *sliceOperator[K, T, A, R]) OnTimer(c *resultContext[K, R], t pipeline.Timer) error {
	k := o.keys.Ptr()
	if k == nil || !k.Alarm.rings(t.Time) {
		return nil
	}
	done := false
	defer rearm(o.timers, &k.Alarm, t.Time, &done)
	o.due = o.due[:0]
	o.end(k, t.Time)
	o.cleanup(k, t.Time)
	if len(k.Slices) == 0 {
		o.keys.Clear()
	}
	done = true
	o.emit(c)
	return nil
}

// end gives the on time panes of the windows that end at time, and arms the
// alarm for the next end.
//
// A window is a row of slices. So of the slices that are over, the newest is
// in every window that is not over before it, and speaks for the others.
func (o *sliceOperator[K, T, A, R]) end(k *keySlices[A], time int64) {
	over := sort.Search(len(k.Slices), func(i int) bool { return k.Slices[i].Window.MaxTimestamp() > time })
	for i := max(over-1, 0); i < len(k.Slices); i++ {
		o.windows = o.by.WindowsOf(k.Slices[i].Window, o.windows[:0])
		o.armEnd(k, time)
		if i >= over {
			continue
		}
		for _, w := range o.windows {
			if w.MaxTimestamp() == time {
				o.endWindow(k, w)
			}
		}
	}
}

func (o *sliceOperator[K, T, A, R]) endWindow(k *keySlices[A], w window.Window) {
	panes := window.PaneState{Fresh: 1} // or more; what counts is that it has records
	pane, ok := panes.End(o.trigger, o.allowed)
	if o.allowed > 0 {
		k.Ended = append(k.Ended, endedWindow{w, panes})
	}
	if ok {
		o.giveWindow(k, w, pane)
	}
}

// cleanup forgets the windows whose allowed lateness is over at time.
func (o *sliceOperator[K, T, A, R]) cleanup(k *keySlices[A], time int64) {
	for i := 0; i < len(k.Ended); {
		e := k.Ended[i]
		if at := e.Window.CleanupTime(o.allowed); at > time {
			arm(o.timers, &k.Alarm, at)
			i++
			continue
		}
		k.Ended = slices.Delete(k.Ended, i, i+1)
		if pane, ok := e.Panes.Cleanup(); ok {
			o.giveWindow(k, e.Window, pane)
		}
	}
	o.dropSlices(k, time)
}

// dropSlices forgets the slices that no window needs any more.
func (o *sliceOperator[K, T, A, R]) dropSlices(k *keySlices[A], time int64) {
	n := 0
	for n < len(k.Slices) && k.Slices[n].cleanupTime(o.allowed) <= time {
		n++
	}
	k.Slices = slices.Delete(k.Slices, 0, n)
	o.live.Add(int64(-n))
}

// armEnd arms the alarm for the first of o.windows that ends after time.
func (o *sliceOperator[K, T, A, R]) armEnd(k *keySlices[A], time int64) {
	for _, w := range o.windows {
		if w.MaxTimestamp() > time {
			arm(o.timers, &k.Alarm, w.MaxTimestamp())
			return
		}
	}
}

// find returns the index of a slice, or where it belongs.
func (k *keySlices[A]) find(slice window.Window) (int, bool) {
	n := len(k.Slices)
	// Nearly always it is the newest.
	if n > 0 && k.Slices[n-1].Window == slice {
		return n - 1, true
	}
	i := sort.Search(n, func(i int) bool { return k.Slices[i].Window.Start >= slice.Start })
	return i, i < n && k.Slices[i].Window == slice
}

// in returns the slices that w is made of.
func (k *keySlices[A]) in(w window.Window) []liveSlice[A] {
	from := sort.Search(len(k.Slices), func(i int) bool { return k.Slices[i].Window.Start >= w.Start })
	to := sort.Search(len(k.Slices), func(i int) bool { return k.Slices[i].Window.Start >= w.End })
	return k.Slices[from:to]
}

// ended returns the state of a window that has ended, made where there is none.
func (k *keySlices[A]) ended(w window.Window) *endedWindow {
	for i := range k.Ended {
		if k.Ended[i].Window == w {
			return &k.Ended[i]
		}
	}
	k.Ended = append(k.Ended, endedWindow{Window: w})
	return &k.Ended[len(k.Ended)-1]
}

// cleanupTime returns the watermark at which no window needs the slice.
func (s *liveSlice[A]) cleanupTime(allowed time.Duration) int64 {
	return window.Window{End: s.Last}.CleanupTime(allowed)
}
