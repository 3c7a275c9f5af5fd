package window

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// CumulativeAssigner assigns windows that share a start and grow step by step
// up to a maximum, and then begin anew. Make one with [Cumulative].
type CumulativeAssigner struct {
	max, step, offset time.Duration
	grid              grid // of the largest windows
	slices            grid
}

var (
	_ Slicer    = CumulativeAssigner{}
	_ Validator = CumulativeAssigner{}
)

// Cumulative returns an assigner of windows that grow by step up to max:
// Cumulative(24h, 1h) gives the totals of the day so far, every hour. Both
// must be positive whole numbers of milliseconds, and max a multiple of step.
func Cumulative(max, step time.Duration) CumulativeAssigner {
	return CumulativeAssigner{max: max, step: step}.Offset(0)
}

// Offset moves the start of every window by o, which may be negative. Default
// 0.
func (a CumulativeAssigner) Offset(o time.Duration) CumulativeAssigner {
	a.offset = o
	a.grid = newGrid(a.max.Milliseconds(), o.Milliseconds())
	a.slices = newGrid(a.step.Milliseconds(), o.Milliseconds())
	return a
}

// Assign appends the windows of ts, smallest first.
func (a CumulativeAssigner) Assign(ts int64, dst []Window) []Window {
	ts = min(ts, maxTime)
	p := a.grid.phase(ts)
	start := subSat(ts, p)
	for size := (p/a.slices.size + 1) * a.slices.size; size <= a.grid.size; size += a.slices.size {
		end := addSat(ts, size-p)
		dst = append(dst, Window{Start: start, End: end})
		if end == math.MaxInt64 {
			break // All larger ones are clamped to this same window.
		}
	}
	return dst
}

// Slice returns the slice of ts, which is one step.
func (a CumulativeAssigner) Slice(ts int64) Window { return a.slices.cell(ts) }

// SlicesOf implements [Slicer].
func (a CumulativeAssigner) SlicesOf(w Window, dst []Window) []Window {
	return appendSlices(a.Slice, w, dst)
}

// WindowsOf implements [Slicer].
func (a CumulativeAssigner) WindowsOf(slice Window, dst []Window) []Window {
	return a.Assign(slice.Start, dst)
}

// Validate implements [Validator].
func (a CumulativeAssigner) Validate() error {
	err := errors.Join(validSize("max", a.max), validSize("step", a.step), validWhole("offset", a.offset))
	if err == nil && a.max%a.step != 0 {
		err = fmt.Errorf("%w: max is not a multiple of step", ErrInvalid)
	}
	return err
}

// String returns the assigner as it would be made.
func (a CumulativeAssigner) String() string {
	return fmt.Sprintf("Cumulative(%v, %v)%s", a.max, a.step, offsetString(a.offset))
}
