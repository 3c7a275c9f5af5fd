package operators

import (
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// onceOperator aggregates disjoint windows that give one result each: when they
// are complete, and never again. Most windows are such, and of these nothing
// needs to be known but the start and the accumulator. That is worth an operator
// of its own, because a look-up in a large table costs what its entries weigh:
// with the state of [windowOperator] a count over 100,000 keys took 1.5 times
// as long.
type onceOperator[K comparable, T, A, R any] struct {
	windowing[K, T, A, R]
	by     window.Disjoint
	cursor window.Cursor

	keys *state.Value[K, onceWindows[A]]
	ends *pipeline.Timers[K]
}

// onceWindows are the open windows of a key: one, nearly always. A key without
// any has no entry.
type onceWindows[A any] struct {
	First onceWindow[A]
	More  *[]onceWindow[A]
}

type onceWindow[A any] struct {
	Start int64
	Acc   A
}

// firesOnce says whether every window gives exactly one result.
func (w *windowing[K, T, A, R]) firesOnce() bool { return w.allowed == 0 && !w.early() }

// Open implements [pipeline.Opener].
func (o *onceOperator[K, T, A, R]) Open(c *resultContext[K, R]) error {
	o.open(c)
	o.cursor = window.NewCursor(o.by.Window)
	o.keys = state.NewValue[onceWindows[A]](c.State(), "windows", encoding(&o.agg, newOnceCodec[A]), o.shape("windows that fire once", named(o.by)))
	o.ends = c.Timers(endTimers)
	return nil
}

// Process implements [pipeline.Processor]; the engine calls ProcessBatch.
func (o *onceOperator[K, T, A, R]) Process(c *resultContext[K, R], v T) error {
	o.add(c, o.cursor.At(c.Time()), v)
	return nil
}

// ProcessBatch implements [pipeline.BatchProcessor].
func (o *onceOperator[K, T, A, R]) ProcessBatch(c *resultContext[K, R], b *pipeline.Batch[K, T]) error {
	o.keys.Prefetch(b.Keys[b.Cursor:], b.Hashes[b.Cursor:])
	watermark, add := c.Watermark(), o.agg.Add
	for i := b.Cursor; i < len(b.Values); i++ {
		b.Cursor = i
		w := o.cursor.At(b.Times[i])
		// The usual record is for the one window that its key has open.
		if k := o.keys.Find(b.Keys[i], b.Hashes[i]); k != nil && k.First.Start == w.Start && w.MaxTimestamp() > watermark {
			add(&k.First.Acc, b.Values[i])
			continue
		}
		c.Enter(b.Keys[i], b.Hashes[i], b.Times[i])
		o.add(c, w, b.Values[i])
	}
	return nil
}

func (o *onceOperator[K, T, A, R]) add(c *resultContext[K, R], w window.Window, v T) {
	if w.MaxTimestamp() <= c.Watermark() {
		o.late.refuse(v, c.Time(), c.Watermark())
		return
	}
	k := o.keys.Ptr()
	if k != nil {
		if k.First.Start == w.Start {
			o.agg.Add(&k.First.Acc, v)
			return
		}
		if acc := k.find(w.Start); acc != nil {
			o.agg.Add(acc, v)
			return
		}
	}
	o.begin(v)
	o.insert(onceWindow[A]{w.Start, o.scratch}, k)
	o.live.Add(1)
	o.ends.SetNew(w.MaxTimestamp())
}

func (o *onceOperator[K, T, A, R]) insert(w onceWindow[A], k *onceWindows[A]) {
	switch {
	case k == nil:
		o.keys.Upsert().First = w
	case k.More == nil:
		k.More = &[]onceWindow[A]{w}
	default:
		*k.More = append(*k.More, w)
	}
}

// OnTimer implements [pipeline.TimerHandler].
func (o *onceOperator[K, T, A, R]) OnTimer(c *resultContext[K, R], t pipeline.Timer) error {
	k := o.keys.Ptr()
	if k == nil {
		return nil
	}
	w := o.by.Window(t.Time) // its last millisecond
	acc := k.find(w.Start)
	if acc == nil {
		return nil
	}
	o.give(w, window.Pane{Timing: window.OnTimePane, Final: true}, acc)
	o.live.Add(-1)
	if k.remove(w.Start); k.More == nil && k.First.Start == w.Start {
		o.keys.Clear()
	}
	o.emit(c)
	return nil
}

func (k *onceWindows[A]) find(start int64) *A {
	if k.First.Start == start {
		return &k.First.Acc
	}
	if k.More != nil {
		for i := range *k.More {
			if (*k.More)[i].Start == start {
				return &(*k.More)[i].Acc
			}
		}
	}
	return nil
}

// remove takes a window out, and leaves the only one for the caller to clear.
func (k *onceWindows[A]) remove(start int64) {
	if k.More == nil {
		return
	}
	more := *k.More
	if k.First.Start == start { // the next oldest takes its place
		k.First = more[0]
		start = more[0].Start
	}
	kept := more[:0]
	for _, w := range more {
		if w.Start != start {
			kept = append(kept, w)
		}
	}
	clear(more[len(kept):])
	if *k.More = kept; len(kept) == 0 {
		k.More = nil
	}
}
