package window

import (
	"fmt"
	"time"
)

// Timing says where a pane stands in the life of its window.
type Timing uint8

const (
	// EarlyPane is given before the watermark reaches the end of the window.
	EarlyPane Timing = iota

	// OnTimePane is given when the watermark reaches the end of the window.
	// There is at most one.
	OnTimePane

	// LatePane is given for records that came after that.
	LatePane
)

// String returns "early", "on time" or "late".
func (t Timing) String() string {
	switch t {
	case EarlyPane:
		return "early"
	case OnTimePane:
		return "on time"
	}
	return "late"
}

// MarshalText gives the name, for JSON and logs.
func (t Timing) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText gives.
func (t *Timing) UnmarshalText(text []byte) error {
	for _, known := range []Timing{EarlyPane, OnTimePane, LatePane} {
		if string(text) == known.String() {
			*t = known
			return nil
		}
	}
	return fmt.Errorf("pane timing %q is not early, on time or late", text)
}

// Pane describes one of the results of a window.
type Pane struct {
	Timing Timing `json:"timing"`

	// Index counts the panes of the window from zero.
	Index int `json:"index"`

	// Final says that no other pane of this window follows. A window may end
	// without one: when its allowed lateness is over there need be nothing new
	// to give. The on time pane is final when no lateness is allowed, however
	// far ahead the watermark is, so that it does not depend on how often
	// watermarks come.
	Final bool `json:"final"`

	// Tombstone says that the pane holds nothing and takes the earlier results
	// of these bounds back: their session is now part of a larger one.
	Tombstone bool `json:"tombstone,omitempty"`
}

// String returns the pane as in "early #0" or "on time #1 final".
func (p Pane) String() string {
	s := fmt.Sprintf("%v #%d", p.Timing, p.Index)
	if p.Final {
		s += " final"
	}
	if p.Tombstone {
		s += " tombstone"
	}
	return s
}

// Phase is where a window is in its life.
type Phase uint8

const (
	PhaseOpen   Phase = iota // the watermark is before the end
	PhaseLate                // the end has passed, late records are taken
	PhaseClosed              // cleaned up, nothing is taken
)

// String returns the name in lower case.
func (p Phase) String() string {
	switch p {
	case PhaseOpen:
		return "open"
	case PhaseLate:
		return "late"
	}
	return "closed"
}

// PaneState decides the panes of one window over its life. It is part of the
// window's state: plain fields, and the zero value is a window with no record
// yet. Purging the accumulator, as discarding does after each pane, leaves it
// alone; only cleanup ends it.
//
//	  Add: early pane            Add: late pane
//	  when n are fresh           when n are fresh
//	  Early: if any fresh
//	        ┌──┐                     ┌──┐
//	        │  ▼      End            │  ▼     Cleanup
//	───▶ [ open ] ──────────────▶ [ late ] ──────────────▶ [ closed ]
//	 │      │      on time pane      ▲      final pane           ▲
//	 │      │                        │      if any fresh         │
//	 │      └────────────────────────┼───────────────────────────┘
//	 └───────────────────────────────┘   End, no lateness allowed:
//	  first record after the end         final on time pane
//
// No pane is empty: each has a record that no pane before it had. The one
// exception is the on time pane of an accumulating window whose records were
// all in early panes. It is given all the same, since without it whether a
// window has a complete result would depend on which moment an early timer
// fired. A discarding window has nothing to put in it and leaves it out.
type PaneState struct {
	Phase Phase

	// Index is the index of the next pane.
	Index int

	// Fresh is the number of records that no pane holds yet.
	Fresh int64
}

// Add takes n more records into the window, and returns the pane to be given
// for them now, if there is one. Past says that the watermark has reached the
// window's MaxTimestamp. The accumulator must hold the records before the pane
// is emitted.
func (p *PaneState) Add(t Trigger, n int64, past bool) (Pane, bool) {
	if p.Phase == PhaseClosed {
		return Pane{}, false
	}
	p.Fresh += n
	if past {
		p.Phase = PhaseLate
	}
	switch {
	case p.Phase == PhaseLate && p.Fresh >= t.lateRecords():
		return p.next(LatePane, false)
	case p.Phase == PhaseOpen && t.EarlyRecords > 0 && p.Fresh >= t.EarlyRecords:
		return p.next(EarlyPane, false)
	}
	return Pane{}, false
}

// Early returns the pane to be given when an early timer fires, if there is
// one.
func (p *PaneState) Early() (Pane, bool) {
	if p.Phase != PhaseOpen || p.Fresh == 0 {
		return Pane{}, false
	}
	return p.next(EarlyPane, false)
}

// End returns the pane to be given when the watermark reaches the window's
// MaxTimestamp, if there is one. A second call gives none.
func (p *PaneState) End(t Trigger, allowedLateness time.Duration) (Pane, bool) {
	if p.Phase != PhaseOpen {
		return Pane{}, false
	}
	final := allowedLateness <= 0
	p.Phase = PhaseLate
	if final {
		p.Phase = PhaseClosed
	}
	if p.Fresh == 0 && (p.Index == 0 || t.Accumulation == Discarding) {
		return Pane{}, false
	}
	return p.next(OnTimePane, final)
}

// Cleanup returns the pane to be given when the watermark reaches the window's
// CleanupTime, if there is one. Where that is also its end, call End first.
func (p *PaneState) Cleanup() (Pane, bool) {
	wasLate := p.Phase == PhaseLate
	p.Phase = PhaseClosed
	if !wasLate || p.Fresh == 0 {
		return Pane{}, false
	}
	return p.next(LatePane, true)
}

// Tombstone returns the pane that takes back the results of a session whose
// bounds no longer exist, if any were given. It is the next and final one
// under the old bounds. Discarding takes nothing back: its panes add up
// whatever bounds they came under, and what they held is not kept to be given
// again.
func (p PaneState) Tombstone(t Trigger) (Pane, bool) {
	if p.Index == 0 || t.Accumulation == Discarding {
		return Pane{}, false
	}
	timing := EarlyPane
	if p.Phase != PhaseOpen {
		timing = LatePane
	}
	return Pane{Timing: timing, Index: p.Index, Final: true, Tombstone: true}, true
}

// next makes the next pane, which holds all that is fresh.
func (p *PaneState) next(timing Timing, final bool) (Pane, bool) {
	pane := Pane{Timing: timing, Index: p.Index, Final: final}
	p.Index++
	p.Fresh = 0
	return pane, true
}
