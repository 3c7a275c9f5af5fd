package operators

import (
	"slices"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// sessionOperator keeps the sessions of each key: windows that merge when a
// record joins them.
type sessionOperator[K comparable, T, A, R any] struct {
	windowing[K, T, A, R]
	by window.Assigner

	keys     *state.Value[K, keySessions[A]]
	timers   *pipeline.Timers[K]
	previews *pipeline.Timers[K]
	assigned []window.Window
	none     window.Sessions // of a key that has no state
}

// keySessions are the sessions of one key.
type keySessions[A any] struct {
	Set window.Sessions
	// Accs hold the accumulator of each session, under the identity that it keeps
	// while its bounds change (rule 8).
	Accs []sessionAcc[A]
	// Alarm is when the next session ends or is cleaned up, or earlier: a session
	// that grows leaves it where it is, and when it rings it is set to the new
	// end. Moving a timer with every record would cost more than the record.
	Alarm alarm
	// EarlyAt is the early timer of processing time that is set; 0 is none.
	EarlyAt int64
}

type sessionAcc[A any] struct {
	ID  uint64
	Acc A
}

// Open implements [pipeline.Opener].
func (o *sessionOperator[K, T, A, R]) Open(c *resultContext[K, R]) error {
	o.open(c)
	o.keys = state.NewValue[keySessions[A]](c.State(), "sessions", encoding(&o.agg, newSessionsCodec[A]), o.shape("sessions", named(o.by)))
	o.timers = c.Timers(endTimers)
	o.previews = c.Timers(earlyTimers)
	return nil
}

// Process implements [pipeline.Processor].
func (o *sessionOperator[K, T, A, R]) Process(c *resultContext[K, R], v T) error {
	o.assign(c, v)
	return nil
}

// assign adds a record to its session, or refuses it.
func (o *sessionOperator[K, T, A, R]) assign(c *resultContext[K, R], v T) {
	o.assigned = o.by.Assign(c.Time(), o.assigned[:0])
	refused := true
	for _, w := range o.assigned {
		refused = !o.add(c, w, v) && refused
	}
	if refused {
		o.late.refuse(v, c.Time(), c.Watermark())
	}
}

// add takes a record's own window into the sessions of its key, and says
// whether the session it would be in still takes it (rule 7).
func (o *sessionOperator[K, T, A, R]) add(c *resultContext[K, R], w window.Window, v T) bool {
	k, set := o.keys.Ptr(), &o.none
	if k != nil {
		set = &k.Set
	}
	m := set.Plan(w)
	if m.Window.Late(c.Watermark(), o.allowed) {
		return false
	}
	o.accumulate(k, m, v)
	for gone, pane := range m.Tombstones(o.trigger) {
		c.EmitAt(Result[K, R]{Key: c.Key(), Window: gone, Pane: pane}, gone.MaxTimestamp())
	}
	if k == nil {
		k = o.keys.Upsert()
	}
	o.apply(c, k, m)
	o.emit(c)
	return true
}

// accumulate adds a record to an accumulator. Where sessions merge, that is a
// new one in o.scratch, so that nothing has changed if user code panics.
func (o *sessionOperator[K, T, A, R]) accumulate(k *keySessions[A], m window.Merge, v T) {
	switch {
	case m.New:
		o.begin(v)
	case len(m.Absorbed) == 0:
		o.agg.Add(k.acc(m.ID), v)
	default:
		o.scratch = o.agg.empty()
		for _, s := range k.Set.Live { // in order of time
			if s.Window.Intersects(m.Window) {
				o.agg.Merge(&o.scratch, k.acc(s.ID))
			}
		}
		o.agg.Add(&o.scratch, v)
	}
}

// apply carries out a merge whose accumulator is ready.
func (o *sessionOperator[K, T, A, R]) apply(c *resultContext[K, R], k *keySessions[A], m window.Merge) {
	grown := m.New || m.Window != m.Survivor.Window
	s := k.Set.Apply(m)
	switch {
	case m.New:
		k.Accs = append(k.Accs, sessionAcc[A]{m.ID, o.scratch})
		o.live.Add(1)
	case len(m.Absorbed) > 0:
		for _, gone := range m.Absorbed {
			k.drop(gone.ID)
		}
		*k.acc(m.ID) = o.scratch
		o.live.Add(-int64(len(m.Absorbed)))
	}
	past := s.Window.MaxTimestamp() <= c.Watermark()
	arm(o.timers, &k.Alarm, o.next(s, past))
	if pane, ok := s.Panes.Add(o.trigger, 1, past); ok {
		o.take(k, s, pane)
	}
	o.await(c, k, s, grown)
}

// next returns when the session is to be looked at again.
func (o *sessionOperator[K, T, A, R]) next(s *window.LiveSession, past bool) int64 {
	if past {
		return s.Window.CleanupTime(o.allowed)
	}
	return s.Window.MaxTimestamp()
}

// take puts a pane aside, and purges what it holds when panes are to discard.
func (o *sessionOperator[K, T, A, R]) take(k *keySessions[A], s *window.LiveSession, p window.Pane) {
	acc := k.acc(s.ID)
	o.give(s.Window, p, acc)
	if o.trigger.Accumulation == window.Discarding {
		*acc = o.agg.empty()
	}
}

// OnTimer implements [pipeline.TimerHandler].
func (o *sessionOperator[K, T, A, R]) OnTimer(c *resultContext[K, R], t pipeline.Timer) error {
	k := o.keys.Ptr()
	if k == nil {
		return nil
	}
	switch {
	case t.Namespace == endTimers:
		if k.Alarm.rings(t.Time) {
			o.advance(k, t.Time)
		}
	case t.Domain == pipeline.EventTime:
		o.preview(k, func(w window.Window) bool { return w.Start < t.Time && t.Time < w.MaxTimestamp() })
	case k.EarlyAt == t.Time:
		k.EarlyAt = 0
		o.preview(k, func(window.Window) bool { return true })
	}
	if o.unawait(k); len(k.Set.Live) == 0 {
		o.keys.Clear()
	}
	o.emit(c)
	return nil
}

// advance gives the panes of sessions that end or are cleaned up at time, and
// arms the alarm for the next.
func (o *sessionOperator[K, T, A, R]) advance(k *keySessions[A], time int64) {
	for i := 0; i < len(k.Set.Live); {
		s := &k.Set.Live[i]
		past := s.Window.MaxTimestamp() <= time
		if past {
			if pane, ok := s.Panes.End(o.trigger, o.allowed); ok {
				o.take(k, s, pane)
			}
		}
		if !s.Window.Late(time, o.allowed) {
			arm(o.timers, &k.Alarm, o.next(s, past))
			i++
			continue
		}
		if pane, ok := s.Panes.Cleanup(); ok {
			o.take(k, s, pane)
		}
		k.drop(s.ID)
		k.Set.Remove(s.ID)
		o.live.Add(-1)
	}
}

// preview gives the early panes of the open sessions for which due holds.
func (o *sessionOperator[K, T, A, R]) preview(k *keySessions[A], due func(window.Window) bool) {
	for i := range k.Set.Live {
		s := &k.Set.Live[i]
		if !due(s.Window) {
			continue
		}
		if pane, ok := s.Panes.Early(); ok {
			o.take(k, s, pane)
		}
	}
}

// await sets the early timers of a session that has something new. Bounds that
// changed may have brought an early event time within them.
func (o *sessionOperator[K, T, A, R]) await(c *resultContext[K, R], k *keySessions[A], s *window.LiveSession, grown bool) {
	if !o.early() {
		return
	}
	o.unawait(k)
	if s.Panes.Phase != window.PhaseOpen || s.Panes.Fresh == 0 {
		return
	}
	if at, ok := o.trigger.EarlyEventAt(s.Window, c.Watermark()); ok && (grown || s.Panes.Fresh == 1) {
		o.previews.Set(at)
	}
	if o.trigger.EarlyInterval > 0 && k.EarlyAt == 0 {
		k.EarlyAt, _ = o.trigger.EarlyAt(c.Now())
		o.previews.SetProcessing(k.EarlyAt)
	}
}

// unawait deletes the early timer of processing time when nothing new is left
// for it.
func (o *sessionOperator[K, T, A, R]) unawait(k *keySessions[A]) {
	if k.EarlyAt == 0 || slices.ContainsFunc(k.Set.Live, func(s window.LiveSession) bool {
		return s.Panes.Phase == window.PhaseOpen && s.Panes.Fresh > 0
	}) {
		return
	}
	o.previews.DeleteProcessing(k.EarlyAt)
	k.EarlyAt = 0
}

// acc returns the accumulator of a session.
func (k *keySessions[A]) acc(id uint64) *A {
	for i := range k.Accs {
		if k.Accs[i].ID == id {
			return &k.Accs[i].Acc
		}
	}
	return nil
}

func (k *keySessions[A]) drop(id uint64) {
	k.Accs = slices.DeleteFunc(k.Accs, func(a sessionAcc[A]) bool { return a.ID == id })
}
