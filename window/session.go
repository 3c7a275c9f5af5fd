package window

import (
	"fmt"
	"math"
	"time"
)

// SessionAssigner assigns sessions: runs of records with no pause longer than
// a gap. Make one with [Session].
type SessionAssigner struct {
	gap   time.Duration
	split bool
	loc   *time.Location
}

var (
	_ Merger    = SessionAssigner{}
	_ Validator = SessionAssigner{}
)

// Session returns an assigner of sessions that end when no record came for
// longer than gap; two records exactly one gap apart belong to one session.
// Gap must be a positive whole number of milliseconds.
//
// A session with records from first to last is the window [first, last+gap+1).
// The odd millisecond is deliberate, and differs from Flink, where a session
// ends at last+gap and windows that only touch merge too. There the session is
// complete at the watermark last+gap-1, although a record at last+gap would
// not be late then and would belong to it. Whether it is one session or two
// depends on whether a watermark happened to come between, and so on batch
// sizes. Here a session is complete at the watermark last+gap, which makes
// every record that could still join it late.
func Session(gap time.Duration) SessionAssigner { return SessionAssigner{gap: gap} }

// SplitByDay ends every session at midnight in loc, which must not be nil; a
// session that goes on is another one from there. See [Days] for when midnight
// is. Use it for reports by day, in which a session must not count on two.
// Default off.
func (a SessionAssigner) SplitByDay(loc *time.Location) SessionAssigner {
	a.split, a.loc = true, loc
	return a
}

// Assign appends the session that a record at ts would be on its own. Add it
// to the [Sessions] of the record's key.
func (a SessionAssigner) Assign(ts int64, dst []Window) []Window {
	ts = min(ts, maxTime)
	w := Window{Start: ts, End: addSat(ts, a.gap.Milliseconds()+1)}
	if a.split {
		// No window reaches over a midnight, so none on its two sides ever
		// intersect, and merging need not know about days.
		w.End = min(w.End, Days(a.loc).Window(ts).End)
	}
	return append(dst, w)
}

// Merging reports true.
func (SessionAssigner) Merging() bool { return true }

// Gap returns the longest pause within a session.
func (a SessionAssigner) Gap() time.Duration { return a.gap }

// LastRecord returns the event time of the last record in the session w. It
// is not ok for a session cut off at midnight or at the end of time, whose
// bounds do not tell; the Last of its [LiveSession] does.
func (a SessionAssigner) LastRecord(w Window) (ts int64, ok bool) {
	if w.End == math.MaxInt64 || a.split && w.End == Days(a.loc).Window(w.MaxTimestamp()).End {
		return 0, false
	}
	return w.End - a.gap.Milliseconds() - 1, true
}

// Validate implements [Validator].
func (a SessionAssigner) Validate() error {
	if err := validSize("gap", a.gap); err != nil {
		return err
	}
	if a.split && a.loc == nil {
		return fmt.Errorf("%w: location is nil", ErrInvalid)
	}
	return nil
}

// String returns the assigner as it would be made.
func (a SessionAssigner) String() string {
	if a.split {
		return fmt.Sprintf("Session(%v).SplitByDay(%v)", a.gap, a.loc)
	}
	return fmt.Sprintf("Session(%v)", a.gap)
}
