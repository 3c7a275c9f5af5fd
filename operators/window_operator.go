package operators

import (
	"slices"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// windowOperator keeps an accumulator for every window of a key. It works for
// every assigner whose windows do not merge and for every trigger, and is fast
// for disjoint windows whose trigger is not early.
type windowOperator[K comparable, T, A, R any] struct {
	windowing[K, T, A, R]
	by       window.Assigner
	cursor   window.Cursor
	disjoint bool
	quiet    bool // a record in an open window never makes a pane

	keys     *state.Value[K, keyWindows[A]]
	ends     *pipeline.Timers[K]
	cleanups *pipeline.Timers[K]
	previews *pipeline.Timers[K]
	assigned []window.Window
}

// keyWindows are the windows of one key. They are kept inside the key's state
// rather than under (key, window), because a table that is several times larger
// is several times slower. Nearly always there is one, which is therefore in
// line.
type keyWindows[A any] struct {
	First liveWindow[A]
	Rest  *restWindows[A] // nil when there was never more than one
}

// restWindows is what few keys need.
type restWindows[A any] struct {
	More    []liveWindow[A]
	EarlyAt int64 // the processing-time timer that is set; 0 is none
}

// liveWindow is one window of a key. What every record touches comes first, so
// that it shares a cache line with the key more often.
type liveWindow[A any] struct {
	Window window.Window
	Acc    A
	Panes  window.PaneState
}

// Namespaces of timers. The ends of different windows and their cleanups may
// fall on the same time, but of disjoint windows no two ends do, and no two
// cleanups.
const (
	endTimers     = "end"
	cleanupTimers = "cleanup"
	earlyTimers   = "early"
)

func newWindowOperator[K comparable, T, A, R any](w windowing[K, T, A, R], by window.Assigner) *windowOperator[K, T, A, R] {
	o := &windowOperator[K, T, A, R]{windowing: w, by: by, quiet: !w.early()}
	if d, ok := by.(window.Disjoint); ok {
		o.disjoint, o.cursor = true, window.NewCursor(d.Window)
	}
	return o
}

// Open implements [pipeline.Opener].
func (o *windowOperator[K, T, A, R]) Open(c *resultContext[K, R]) error {
	o.open(c)
	o.keys = state.NewValue[keyWindows[A]](c.State(), "windows", encoding(&o.agg, newWindowsCodec[A]), o.shape("windows", named(o.by)))
	o.ends = c.Timers(endTimers)
	o.cleanups = c.Timers(cleanupTimers)
	o.previews = c.Timers(earlyTimers)
	return nil
}

// Process implements [pipeline.Processor]; the engine calls ProcessBatch.
func (o *windowOperator[K, T, A, R]) Process(c *resultContext[K, R], v T) error {
	o.assign(c, v)
	return nil
}

// ProcessBatch implements [pipeline.BatchProcessor].
func (o *windowOperator[K, T, A, R]) ProcessBatch(c *resultContext[K, R], b *pipeline.Batch[K, T]) error {
	o.keys.Prefetch(b.Keys[b.Cursor:], b.Hashes[b.Cursor:])
	if o.disjoint {
		o.addBatch(c, b)
		return nil
	}
	for i := b.Cursor; i < len(b.Values); i++ {
		b.Cursor = i
		c.Enter(b.Keys[i], b.Hashes[i], b.Times[i])
		o.assign(c, b.Values[i])
	}
	return nil
}

// addBatch is the way of disjoint windows. A record for an open window that its
// key has already touches the table once.
func (o *windowOperator[K, T, A, R]) addBatch(c *resultContext[K, R], b *pipeline.Batch[K, T]) {
	watermark := c.Watermark()
	for i := b.Cursor; i < len(b.Values); i++ {
		b.Cursor = i
		w := o.cursor.At(b.Times[i])
		c.Enter(b.Keys[i], b.Hashes[i], b.Times[i])
		if o.quiet && w.MaxTimestamp() > watermark {
			if k := o.keys.Ptr(); k != nil {
				if l := k.find(w); l != nil {
					// Panes need not hear of it: that the window has something new
					// is known since its first record, and nobody counts.
					o.agg.Add(&l.Acc, b.Values[i])
					continue
				}
			}
		}
		if w.Late(watermark, o.allowed) {
			o.late.refuse(b.Values[i], b.Times[i], watermark)
			continue
		}
		o.add(c, w, b.Values[i])
	}
}

// assign adds a record to each of its windows that takes it.
func (o *windowOperator[K, T, A, R]) assign(c *resultContext[K, R], v T) {
	o.assigned = o.by.Assign(c.Time(), o.assigned[:0])
	refused := true
	for _, w := range o.assigned {
		if !w.Late(c.Watermark(), o.allowed) {
			refused = false
			o.add(c, w, v)
		}
	}
	if refused {
		o.late.refuse(v, c.Time(), c.Watermark())
	}
}

// add takes a record into a window that is not late, and gives the pane that
// this makes due.
func (o *windowOperator[K, T, A, R]) add(c *resultContext[K, R], w window.Window, v T) {
	k, l := o.added(c, w, v)
	past := w.MaxTimestamp() <= c.Watermark()
	pane, ok := l.Panes.Add(o.trigger, 1, past)
	switch {
	case ok:
		o.take(l, pane)
		o.unawait(k)
		o.emit(c)
	case !past && l.Panes.Fresh == 1 && !o.quiet:
		o.await(c, k, w)
	}
}

// added adds a record to the accumulator of a window, made where there is none.
func (o *windowOperator[K, T, A, R]) added(c *resultContext[K, R], w window.Window, v T) (*keyWindows[A], *liveWindow[A]) {
	if k := o.keys.Ptr(); k != nil {
		if l := k.find(w); l != nil {
			o.agg.Add(&l.Acc, v)
			return k, l
		}
	}
	o.begin(v)
	k := o.keys.Upsert()
	o.live.Add(1)
	if w.MaxTimestamp() > c.Watermark() {
		o.set(o.ends, w.MaxTimestamp())
	}
	if o.allowed > 0 {
		o.set(o.cleanups, w.CleanupTime(o.allowed))
	}
	return k, k.insert(liveWindow[A]{Window: w, Acc: o.scratch})
}

func (o *windowOperator[K, T, A, R]) set(timers *pipeline.Timers[K], time int64) {
	if o.disjoint {
		timers.SetNew(time)
		return
	}
	timers.Set(time)
}

// take puts a pane aside, and purges what it holds when panes are to discard.
// Purging leaves the window alive (rule 12).
func (o *windowOperator[K, T, A, R]) take(l *liveWindow[A], p window.Pane) {
	o.give(l.Window, p, &l.Acc)
	if o.trigger.Accumulation == window.Discarding && !p.Final {
		l.Acc = o.agg.empty()
	}
}

// OnTimer implements [pipeline.TimerHandler].
func (o *windowOperator[K, T, A, R]) OnTimer(c *resultContext[K, R], t pipeline.Timer) error {
	k := o.keys.Ptr()
	if k == nil {
		return nil
	}
	switch {
	case t.Namespace == endTimers:
		o.end(k, t.Time)
	case t.Namespace == cleanupTimers:
		o.cleanup(k, t.Time)
	case t.Domain == pipeline.EventTime:
		o.previewAt(k, t.Time)
	case k.Rest != nil && k.Rest.EarlyAt == t.Time:
		k.Rest.EarlyAt = 0
		o.preview(k)
	}
	if o.unawait(k); k.len() == 0 {
		o.keys.Clear()
	}
	o.emit(c)
	return nil
}

// end gives the on time panes of the windows that end at time.
func (o *windowOperator[K, T, A, R]) end(k *keyWindows[A], time int64) {
	for i := 0; i < k.len(); {
		l := k.at(i)
		if l.Window.MaxTimestamp() != time {
			i++
			continue
		}
		if pane, ok := l.Panes.End(o.trigger, o.allowed); ok {
			o.take(l, pane)
		}
		if o.allowed > 0 {
			i++
			continue
		}
		o.forget(k, i)
	}
}

// cleanup forgets the windows whose allowed lateness is over at time.
func (o *windowOperator[K, T, A, R]) cleanup(k *keyWindows[A], time int64) {
	for i := 0; i < k.len(); {
		l := k.at(i)
		if l.Window.CleanupTime(o.allowed) != time {
			i++
			continue
		}
		if pane, ok := l.Panes.Cleanup(); ok {
			o.take(l, pane)
		}
		o.forget(k, i)
	}
}

func (o *windowOperator[K, T, A, R]) forget(k *keyWindows[A], i int) {
	o.live.Add(-1)
	k.remove(i)
}

// await sets the early timers of a window that has something new.
func (o *windowOperator[K, T, A, R]) await(c *resultContext[K, R], k *keyWindows[A], w window.Window) {
	if at, ok := o.trigger.EarlyEventAt(w, c.Watermark()); ok {
		o.previews.Set(at)
	}
	if o.trigger.EarlyInterval > 0 && k.rest().EarlyAt == 0 {
		k.Rest.EarlyAt, _ = o.trigger.EarlyAt(c.Now())
		o.previews.SetProcessing(k.Rest.EarlyAt)
	}
}

// unawait deletes the early timer of processing time when nothing new is left
// for it.
func (o *windowOperator[K, T, A, R]) unawait(k *keyWindows[A]) {
	if k.Rest == nil || k.Rest.EarlyAt == 0 {
		return
	}
	for i := range k.len() {
		if p := k.at(i).Panes; p.Phase == window.PhaseOpen && p.Fresh > 0 {
			return
		}
	}
	o.previews.DeleteProcessing(k.Rest.EarlyAt)
	k.Rest.EarlyAt = 0
}

// preview gives the early panes of all open windows.
func (o *windowOperator[K, T, A, R]) preview(k *keyWindows[A]) {
	for i := range k.len() {
		l := k.at(i)
		if pane, ok := l.Panes.Early(); ok {
			o.take(l, pane)
		}
	}
}

// previewAt gives the early panes that are due at an event time.
func (o *windowOperator[K, T, A, R]) previewAt(k *keyWindows[A], time int64) {
	for i := range k.len() {
		l := k.at(i)
		if time <= l.Window.Start || time >= l.Window.MaxTimestamp() {
			continue // set for another window
		}
		if pane, ok := l.Panes.Early(); ok {
			o.take(l, pane)
		}
	}
}

func (k *keyWindows[A]) len() int {
	switch {
	case k.First.Window == window.Window{}:
		return 0
	case k.Rest == nil:
		return 1
	}
	return 1 + len(k.Rest.More)
}

func (k *keyWindows[A]) at(i int) *liveWindow[A] {
	if i == 0 {
		return &k.First
	}
	return &k.Rest.More[i-1]
}

func (k *keyWindows[A]) find(w window.Window) *liveWindow[A] {
	if k.First.Window == w {
		return &k.First
	}
	if k.Rest == nil {
		return nil
	}
	return k.Rest.find(w)
}

func (r *restWindows[A]) find(w window.Window) *liveWindow[A] {
	for i := range r.More {
		if r.More[i].Window == w {
			return &r.More[i]
		}
	}
	return nil
}

func (k *keyWindows[A]) rest() *restWindows[A] {
	if k.Rest == nil {
		k.Rest = new(restWindows[A])
	}
	return k.Rest
}

func (k *keyWindows[A]) insert(l liveWindow[A]) *liveWindow[A] {
	if k.len() == 0 {
		k.First = l
		return &k.First
	}
	r := k.rest()
	r.More = append(r.More, l)
	return &r.More[len(r.More)-1]
}

// remove takes a window out. The oldest of the others moves to its place, so
// that the first is the one that most records are for.
func (k *keyWindows[A]) remove(i int) {
	switch {
	case i > 0:
		k.Rest.More = slices.Delete(k.Rest.More, i-1, i)
	case k.len() > 1:
		k.First = k.Rest.More[0]
		k.Rest.More = slices.Delete(k.Rest.More, 0, 1)
	default:
		k.First = liveWindow[A]{}
	}
}
