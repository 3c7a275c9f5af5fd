package window

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrInvalidTrigger is the error under every refusal of a trigger's arguments.
var ErrInvalidTrigger = errors.New("invalid trigger")

// Accumulation says what a pane holds when a window gives several.
type Accumulation uint8

const (
	// Accumulating panes hold everything the window has seen: each replaces
	// the one before. This is the default.
	Accumulating Accumulation = iota

	// Discarding panes hold what came since the one before: they add up.
	Discarding
)

// String returns the name in lower case.
func (a Accumulation) String() string {
	if a == Discarding {
		return "discarding"
	}
	return "accumulating"
}

// Trigger says when a window gives results: on time always, early and late by
// choice. It is plain data; the zero value is [OnTime]. The fields are for the
// operator, users write the methods.
type Trigger struct {
	// EarlyInterval is the processing time between early panes. Zero is none.
	EarlyInterval time.Duration

	// EarlyEventInterval is the event time between early panes. Zero is none.
	EarlyEventInterval time.Duration

	// EarlyRecords is the number of new records that make an early pane. Zero
	// is none.
	EarlyRecords int64

	// LateRecords is the number of late records that make a late pane. Zero
	// is one.
	LateRecords int64

	// Accumulation says what a pane holds.
	Accumulation Accumulation
}

// OnTime returns the trigger that fires when the watermark reaches the end of
// the window and then, while the allowed lateness lasts, once for each late
// record.
func OnTime() Trigger { return Trigger{} }

// EarlyEvery adds an early pane d of processing time after the first record
// that no pane holds yet. Use it to show progress in windows that are long
// compared with the patience of who looks. How many panes there are depends on
// the clock. Default none.
func (t Trigger) EarlyEvery(d time.Duration) Trigger {
	t.EarlyInterval = d
	return t
}

// EarlyEveryEventTime adds an early pane whenever the watermark passes a
// multiple of d within the window and there is something new. Unlike
// EarlyEvery it does not fire while event time stands still. Default none.
func (t Trigger) EarlyEveryEventTime(d time.Duration) Trigger {
	t.EarlyEventInterval = d
	return t
}

// EarlyCount adds an early pane whenever n records came since the last one.
// Default none.
func (t Trigger) EarlyCount(n int64) Trigger {
	t.EarlyRecords = n
	return t
}

// LateCount fires late once for every n late records; a rest below n is given
// at cleanup. Use it where late records come in bursts. Default 1.
func (t Trigger) LateCount(n int64) Trigger {
	t.LateRecords = n
	return t
}

// LateAtCleanup gives all late records in one final pane when the allowed
// lateness is over. Default off: one pane for each.
func (t Trigger) LateAtCleanup() Trigger { return t.LateCount(math.MaxInt64) }

// Accumulating makes each pane hold everything the window has seen. It is the
// default.
func (t Trigger) Accumulating() Trigger {
	t.Accumulation = Accumulating
	return t
}

// Discarding makes each pane hold only what is new in it. Use it where the
// consumer adds panes up. Default accumulating.
func (t Trigger) Discarding() Trigger {
	t.Accumulation = Discarding
	return t
}

// EarlyAt returns the processing time, in milliseconds, at which an early pane
// is due if its first new record comes at now. It is not ok if the trigger has
// no early panes by processing time.
//
// It counts from the record and not from round times of the clock, so that the
// timers of many keys do not all come due in the same millisecond.
func (t Trigger) EarlyAt(now int64) (at int64, ok bool) {
	return addSat(now, t.EarlyInterval.Milliseconds()), t.EarlyInterval > 0
}

// EarlyEventAt returns the event time at which the next early pane of w is due
// after this watermark. It is not ok if the trigger has no early panes by
// event time, or none before the end of w.
//
// The times are multiples of the interval since the epoch, so that a session
// keeps them when a merge moves its start. A watermark that passes several of
// them gives one pane.
func (t Trigger) EarlyEventAt(w Window, watermark int64) (at int64, ok bool) {
	if t.EarlyEventInterval <= 0 {
		return 0, false
	}
	g := newGrid(t.EarlyEventInterval.Milliseconds(), 0)
	at = g.cell(max(w.Start, watermark)).End
	return at, at < w.MaxTimestamp()
}

// Validate returns an error that wraps [ErrInvalidTrigger] if an argument
// makes no sense.
func (t Trigger) Validate() error {
	var errs []error
	check := func(bad bool, what string) {
		if bad {
			errs = append(errs, fmt.Errorf("%w: %s", ErrInvalidTrigger, what))
		}
	}
	check(t.EarlyInterval < 0, "early interval is negative")
	check(t.EarlyInterval%time.Millisecond != 0, "early interval is not a whole number of milliseconds")
	check(t.EarlyEventInterval < 0, "early event interval is negative")
	check(t.EarlyEventInterval%time.Millisecond != 0, "early event interval is not a whole number of milliseconds")
	check(t.EarlyRecords < 0, "early count is negative")
	check(t.LateRecords < 0, "late count is negative")
	check(t.Accumulation > Discarding, "unknown accumulation")
	return errors.Join(errs...)
}

// lateRecords is LateRecords with its default filled in.
func (t Trigger) lateRecords() int64 { return max(t.LateRecords, 1) }
