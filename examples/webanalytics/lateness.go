package main

import (
	"time"

	"github.com/millrace/millrace/pipeline"
)

// lateness decides which events are late, once for all results.
//
// Every window operator can do so for itself, judging each of its windows, and
// write what it refuses to a side output (operators.LateTo). Here a dozen of
// them read the same events, and an event may well be too late for its minute
// and in time for its hour and its session, so that files of one run would
// disagree about what happened; and by which watermark an operator behind an
// exchange judges depends on how batches interleave. So one operator judges
// beside the source, where the watermark is that of the very record, whatever
// the batch size, and for a single file whatever the parallelism: operators
// behind see the same watermark or an older one, and refuse nothing that passed
// here.
//
// With an allowed lateness, events that are late by no more than that pass for
// the metrics, whose windows are kept for as long and give their results anew.
// Sessions are final when they close, and take none of them.
type lateness struct {
	allowed int64
	late    *pipeline.SideEmitter[LateEvent]
	refused *pipeline.Counter
}

// lateEvents is the side output of lateness.
var lateEvents = pipeline.NewTag[LateEvent]("late")

// LateEvent is a line of late.jsonl.
type LateEvent struct {
	Event
	// LateBy is how far the event was behind the watermark, in milliseconds. An
	// event at the watermark is late by 0.
	LateBy int64 `json:"late_by_ms"`
	// LateFor is what does not count the event: everything, or only sessions.
	LateFor string `json:"late_for"`
}

func newLateness(allowed time.Duration) func() *lateness {
	return func() *lateness { return &lateness{allowed: allowed.Milliseconds()} }
}

// Open implements [pipeline.Opener].
func (l *lateness) Open(c *pipeline.Context[pipeline.NoKey, Event]) error {
	l.late = pipeline.Side(c, lateEvents)
	l.refused = c.Metrics().Counter("refused")
	return nil
}

// Process implements [pipeline.Processor].
func (l *lateness) Process(c *pipeline.Context[pipeline.NoKey, Event], e Event) error {
	watermark := c.Watermark()
	switch {
	case c.Time() > watermark:
		c.Emit(e)
	case c.Time() > watermark-l.allowed:
		l.late.Emit(LateEvent{e, watermark - c.Time(), "sessions"}, c.Time())
		e.late = true
		c.Emit(e)
	default:
		l.late.Emit(LateEvent{e, watermark - c.Time(), "everything"}, c.Time())
		l.refused.Add(1)
	}
	return nil
}
