package window

import (
	"errors"
	"fmt"
	"time"
)

// ErrInvalid is the error under every refusal of an assigner's arguments.
var ErrInvalid = errors.New("invalid window")

// Assigner maps an event time to the windows it belongs to.
//
// Assign appends the windows of ts to dst and returns it, earliest end first
// and without duplicates; the caller owns dst and reuses it, so a call does
// not allocate once dst has room. The same ts always gives the same windows.
// An assigner is immutable and used by all subtasks at once. The operator
// calls Validate while the job is planned; Assign of an invalid assigner may
// panic.
//
// The optional abilities are [Merger], [Disjoint], [Slicer] and [Validator].
type Assigner interface {
	Assign(ts int64, dst []Window) []Window
}

// Merger is an assigner that may say that its windows merge: those of one key
// that intersect become one, see [Sessions].
type Merger interface {
	Assigner
	Merging() bool
}

// Disjoint is an assigner whose windows do not overlap and leave no hole, so
// that each event time has exactly one. Window returns it. Records come nearly
// in order, so a [Cursor] answers most of them without calling Window.
type Disjoint interface {
	Assigner
	Window(ts int64) Window
}

// Slicer is an assigner of overlapping windows whose bounds cut event time
// into slices, such that each window is a row of whole slices. An operator
// updates one slice per record, instead of every window the record is in, and
// merges the slices of a window when it fires. This needs an accumulator that
// can be merged.
type Slicer interface {
	Assigner

	// Slice returns the slice ts belongs to. Slices do not overlap and leave
	// no hole, so a [Cursor] works for them as well.
	Slice(ts int64) Window

	// SlicesOf appends the slices w is made of, earliest first. w is a window
	// from Assign.
	SlicesOf(w Window, dst []Window) []Window

	// WindowsOf appends the windows a slice is part of, earliest end first:
	// the last of them is the one that needs the slice longest. They are the
	// windows Assign gives for any event time in the slice.
	WindowsOf(slice Window, dst []Window) []Window
}

// Validator is implemented by assigners that can be made with arguments that
// make no sense. Validate returns an error that wraps [ErrInvalid].
type Validator interface {
	Validate() error
}

// Merging reports whether the windows of a merge.
func Merging(a Assigner) bool {
	m, ok := a.(Merger)
	return ok && m.Merging()
}

// Validate returns an error that wraps [ErrInvalid] if a is nil or was made
// with arguments that make no sense. Assigners without Validate are valid.
func Validate(a Assigner) error {
	if a == nil {
		return fmt.Errorf("%w: assigner is nil", ErrInvalid)
	}
	if v, ok := a.(Validator); ok {
		return v.Validate()
	}
	return nil
}

// validSize checks a duration that must be positive.
func validSize(what string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("%w: %s is not positive", ErrInvalid, what)
	}
	return validWhole(what, d)
}

// validWhole checks that event time can express d. Rounding instead would
// give other windows than those asked for.
func validWhole(what string, d time.Duration) error {
	if d%time.Millisecond != 0 {
		return fmt.Errorf("%w: %s is not a whole number of milliseconds", ErrInvalid, what)
	}
	return nil
}

// Cursor finds the window of each record for a [Disjoint] assigner (or the
// slice, for a [Slicer]), remembering the last one: a record that falls into
// it costs two comparisons, and neither a division nor a calendar lookup. It
// belongs to one subtask and is not safe for concurrent use.
type Cursor struct {
	find func(ts int64) Window
	last Window
}

// NewCursor returns a cursor over find, which is the Window method of a
// [Disjoint] assigner or the Slice method of a [Slicer].
func NewCursor(find func(ts int64) Window) Cursor { return Cursor{find: find} }

// At returns the window of ts.
func (c *Cursor) At(ts int64) Window {
	if !c.last.Contains(ts) {
		c.last = c.find(ts)
	}
	return c.last
}
