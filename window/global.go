package window

import "math"

// GlobalAssigner assigns everything to one window. Make one with [Global].
type GlobalAssigner struct{}

var _ Disjoint = GlobalAssigner{}

// Global returns an assigner with a single window for all of event time. It is
// complete only at the end of a bounded input; before that only early firings
// give results.
func Global() GlobalAssigner { return GlobalAssigner{} }

// Window returns the one window.
func (GlobalAssigner) Window(int64) Window {
	return Window{Start: math.MinInt64, End: math.MaxInt64}
}

// Assign appends the one window.
func (a GlobalAssigner) Assign(ts int64, dst []Window) []Window { return append(dst, a.Window(ts)) }

// String returns the assigner as it would be made.
func (GlobalAssigner) String() string { return "Global()" }
