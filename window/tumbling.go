package window

import (
	"errors"
	"fmt"
	"time"
)

// TumblingAssigner assigns windows of one size that follow each other. Make
// one with [Tumbling].
type TumblingAssigner struct {
	size, offset time.Duration
	grid         grid
}

var (
	_ Disjoint  = TumblingAssigner{}
	_ Validator = TumblingAssigner{}
)

// Tumbling returns an assigner of windows of the given size, aligned to the
// epoch (in UTC). Size must be a positive whole number of milliseconds. For
// days in a time zone see [Days].
func Tumbling(size time.Duration) TumblingAssigner {
	return TumblingAssigner{size: size}.Offset(0)
}

// Offset moves the start of every window by o, which may be negative. An
// offset beyond the size counts by what is left of it: 75 minutes moves hourly
// windows by 15. Default 0.
func (a TumblingAssigner) Offset(o time.Duration) TumblingAssigner {
	a.offset = o
	a.grid = newGrid(a.size.Milliseconds(), o.Milliseconds())
	return a
}

// Start returns the start of the window of ts.
func (a TumblingAssigner) Start(ts int64) int64 { return a.grid.cell(ts).Start }

// Window returns the window of ts.
func (a TumblingAssigner) Window(ts int64) Window { return a.grid.cell(ts) }

// Assign appends the window of ts.
func (a TumblingAssigner) Assign(ts int64, dst []Window) []Window {
	return append(dst, a.grid.cell(ts))
}

// Validate implements [Validator].
func (a TumblingAssigner) Validate() error {
	return errors.Join(validSize("size", a.size), validWhole("offset", a.offset))
}

// String returns the assigner as it would be made.
func (a TumblingAssigner) String() string {
	return fmt.Sprintf("Tumbling(%v)%s", a.size, offsetString(a.offset))
}

func offsetString(o time.Duration) string {
	if o == 0 {
		return ""
	}
	return fmt.Sprintf(".Offset(%v)", o)
}
