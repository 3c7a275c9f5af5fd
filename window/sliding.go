package window

import (
	"errors"
	"fmt"
	"time"
)

// SlidingAssigner assigns windows of one size, of which a new one starts every
// slide. Make one with [Sliding].
type SlidingAssigner struct {
	size, slide, offset time.Duration
	sizeMs              int64
	grid                grid // of window starts
}

var (
	_ Slicer    = SlidingAssigner{}
	_ Validator = SlidingAssigner{}
)

// Sliding returns an assigner of windows of the given size, one starting every
// slide, aligned to the epoch. A record belongs to size/slide of them. Both
// must be positive whole numbers of milliseconds.
//
// A slide larger than the size is refused. It would leave holes between the
// windows, and records in them would vanish without being late; who wants to
// sample says so with a filter.
func Sliding(size, slide time.Duration) SlidingAssigner {
	return SlidingAssigner{size: size, slide: slide, sizeMs: size.Milliseconds()}.Offset(0)
}

// Offset moves the start of every window by o, which may be negative. Default
// 0.
func (a SlidingAssigner) Offset(o time.Duration) SlidingAssigner {
	a.offset = o
	a.grid = newGrid(a.slide.Milliseconds(), o.Milliseconds())
	return a
}

// Assign appends the windows of ts, earliest first.
func (a SlidingAssigner) Assign(ts int64, dst []Window) []Window {
	ts = min(ts, maxTime)
	p := a.grid.phase(ts)
	// back is how far before ts a window starts: the farthest that still
	// contains ts first, the latest start last.
	for back := p + (a.sizeMs-1-p)/a.grid.size*a.grid.size; back >= 0; back -= a.grid.size {
		dst = append(dst, Window{Start: subSat(ts, back), End: addSat(ts, a.sizeMs-back)})
	}
	return dst
}

// Slice returns the slice of ts.
//
// Slices are cut only where some window starts or ends, which makes one or two
// of them per slide. Cutting at the greatest common divisor of size and slide
// is the same where slide divides size, and else makes more slices than
// needed: 3600 for an hour that slides by 7 seconds, and here 1029.
func (a SlidingAssigner) Slice(ts int64) Window {
	ts = min(ts, maxTime)
	p := a.grid.phase(ts)
	from, to := int64(0), a.grid.size
	if ends := a.sizeMs % a.grid.size; p < ends {
		to = ends
	} else {
		from = ends
	}
	return Window{Start: subSat(ts, p-from), End: addSat(ts, to-p)}
}

// SlicesOf implements [Slicer].
func (a SlidingAssigner) SlicesOf(w Window, dst []Window) []Window {
	return appendSlices(a.Slice, w, dst)
}

// WindowsOf implements [Slicer].
func (a SlidingAssigner) WindowsOf(slice Window, dst []Window) []Window {
	return a.Assign(slice.Start, dst)
}

// Validate implements [Validator].
func (a SlidingAssigner) Validate() error {
	err := errors.Join(validSize("size", a.size), validSize("slide", a.slide), validWhole("offset", a.offset))
	if err == nil && a.slide > a.size {
		err = fmt.Errorf("%w: slide is larger than size", ErrInvalid)
	}
	return err
}

// String returns the assigner as it would be made.
func (a SlidingAssigner) String() string {
	return fmt.Sprintf("Sliding(%v, %v)%s", a.size, a.slide, offsetString(a.offset))
}

// appendSlices walks w slice by slice.
func appendSlices(slice func(ts int64) Window, w Window, dst []Window) []Window {
	for ts := w.Start; ts < w.End; {
		s := slice(ts)
		dst = append(dst, s)
		ts = s.End
	}
	return dst
}
