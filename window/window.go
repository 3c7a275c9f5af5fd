package window

import (
	"fmt"
	"math"
	"time"
)

// Window is the half-open interval of event time [Start, End), in milliseconds
// since the epoch. It is a plain value, comparable and usable as a map key.
//
// The bounds of a window that would reach beyond what an int64 can hold are
// clamped. The two ends of that range stand for "no time yet" and "end of
// input" as watermarks; a record at math.MaxInt64, which no half-open window
// could contain, is treated as one a millisecond earlier.
type Window struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

// MaxTimestamp returns the largest event time in w, which is also the event
// time of its results. w is complete when the watermark reaches it.
func (w Window) MaxTimestamp() int64 { return subSat(w.End, 1) }

// CleanupTime returns the watermark at which w is forgotten: its MaxTimestamp
// plus the allowed lateness, or math.MaxInt64 where the sum does not fit.
// Without that care a global window would be cleaned up at once.
func (w Window) CleanupTime(allowedLateness time.Duration) int64 {
	return addSat(w.MaxTimestamp(), allowedLateness.Milliseconds())
}

// Late reports whether w is past its cleanup at this watermark, so that a
// record for it must be refused. It is the window that is late and not the
// record: an older record may still have a window that is alive. For a session
// ask about the merged window, see [Sessions.Plan].
func (w Window) Late(watermark int64, allowedLateness time.Duration) bool {
	return w.CleanupTime(allowedLateness) <= watermark
}

// Contains reports whether the event time ts is in w.
func (w Window) Contains(ts int64) bool { return w.Start <= ts && ts < w.End }

// Intersects reports whether w and o share at least one event time. Windows
// that merely touch, as [0,5) and [5,9) do, share none.
func (w Window) Intersects(o Window) bool { return w.Start < o.End && o.Start < w.End }

// Cover returns the smallest window that contains both w and o.
func (w Window) Cover(o Window) Window {
	return Window{Start: min(w.Start, o.Start), End: max(w.End, o.End)}
}

// String returns the bounds in milliseconds, as in "[0,60000)".
func (w Window) String() string { return fmt.Sprintf("[%d,%d)", w.Start, w.End) }

// maxTime is the largest event time a half-open window can contain.
const maxTime = math.MaxInt64 - 1

// addSat returns a+b, clamped to the range of int64.
func addSat(a, b int64) int64 {
	switch {
	case b > 0 && a > math.MaxInt64-b:
		return math.MaxInt64
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	}
	return a + b
}

// subSat returns a-b for b >= 0, clamped to the range of int64.
func subSat(a, b int64) int64 {
	if a < math.MinInt64+b {
		return math.MinInt64
	}
	return a - b
}

// floorDiv returns a/b rounded towards minus infinity, for b > 0. Go rounds
// towards zero, which would put the hours on both sides of 1970 in one window.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// grid cuts event time into cells of one size, one of which starts at offset.
// 0 <= offset < size.
type grid struct {
	size, offset int64
}

// newGrid reduces any offset, negative too, to the equal one within a cell.
// A size that is not positive is left for Validate to name.
func newGrid(size, offset int64) grid {
	if size <= 0 {
		return grid{}
	}
	return grid{size: size, offset: offset - floorDiv(offset, size)*size}
}

// phase returns how far ts is into its cell: 0 <= phase < size. The offset is
// taken off the remainder and not off ts, which could overflow.
func (g grid) phase(ts int64) int64 {
	p := ts%g.size - g.offset
	if p < 0 {
		p += g.size
	}
	if p < 0 {
		p += g.size
	}
	return p
}

// cell returns the cell of ts. Both bounds are reckoned from ts, so that
// clamping one of them leaves the other right.
func (g grid) cell(ts int64) Window {
	ts = min(ts, maxTime)
	p := g.phase(ts)
	return Window{Start: subSat(ts, p), End: addSat(ts, g.size-p)}
}
