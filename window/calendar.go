package window

import (
	"fmt"
	"math"
	"time"
)

// CalendarAssigner assigns calendar days or months of a time zone. Make one
// with [Days] or [Months].
type CalendarAssigner struct {
	loc   *time.Location
	unit  calendarUnit
	first time.Weekday // of a week
}

type calendarUnit uint8

const (
	calendarDay calendarUnit = iota
	calendarWeek
	calendarMonth
)

var (
	_ Disjoint  = CalendarAssigner{}
	_ Validator = CalendarAssigner{}
	_ Disjoint  = WeekAssigner{}
	_ Validator = WeekAssigner{}
)

// Days returns an assigner of calendar days in loc, which must not be nil.
//
// A day begins at the first moment the local clock shows its midnight or
// later. So where the clock skips midnight the day begins when the skip ends,
// where midnight comes twice it begins at the first, and a day with a change
// of clocks is 23 or 25 hours long (or has whatever length the zone gives it).
// Days never overlap: when a clock set back over midnight shows the end of the
// previous day once more, that time counts to the day that has begun.
func Days(loc *time.Location) CalendarAssigner {
	return CalendarAssigner{loc: loc, unit: calendarDay}
}

// Months returns an assigner of calendar months in loc, which must not be nil.
// A month begins with its first day, see [Days].
func Months(loc *time.Location) CalendarAssigner {
	return CalendarAssigner{loc: loc, unit: calendarMonth}
}

// WeekAssigner assigns calendar weeks of a time zone. Make one with [Weeks].
type WeekAssigner struct {
	CalendarAssigner
}

// Weeks returns an assigner of calendar weeks in loc, which must not be nil.
// A week begins with its first day, see [Days], which is Monday unless
// StartingOn says otherwise.
func Weeks(loc *time.Location) WeekAssigner {
	return WeekAssigner{CalendarAssigner{loc: loc, unit: calendarWeek, first: time.Monday}}
}

// StartingOn sets the first day of the week. Default Monday.
func (a WeekAssigner) StartingOn(day time.Weekday) WeekAssigner {
	a.first = day
	return a
}

// Window returns the day, week or month of ts. It looks into the zone's
// transitions, so use it through a [Cursor] where many records are expected.
func (a CalendarAssigner) Window(ts int64) Window {
	ts = min(ts, maxTime)
	sec := floorDiv(ts, 1000)
	from, to := a.days(floorDiv(sec+zoneOffset(sec, a.loc), secondsPerDay))
	start, end := startOfDay(from, a.loc), startOfDay(to, a.loc)
	// The local clock may show a time before end although end has passed,
	// when it was set back across it.
	for sec >= end {
		_, to = a.days(to)
		start, end = end, startOfDay(to, a.loc)
	}
	return Window{Start: milliSat(start), End: milliSat(end)}
}

// Assign appends the day, week or month of ts.
func (a CalendarAssigner) Assign(ts int64, dst []Window) []Window { return append(dst, a.Window(ts)) }

// Validate implements [Validator].
func (a CalendarAssigner) Validate() error {
	if a.loc == nil {
		return fmt.Errorf("%w: location is nil", ErrInvalid)
	}
	if a.first < time.Sunday || a.first > time.Saturday {
		return fmt.Errorf("%w: first day %d is not a weekday", ErrInvalid, int(a.first))
	}
	return nil
}

// String returns the assigner as it would be made.
func (a CalendarAssigner) String() string {
	switch a.unit {
	case calendarWeek:
		s := fmt.Sprintf("Weeks(%v)", a.loc)
		if a.first != time.Monday {
			s += fmt.Sprintf(".StartingOn(%v)", a.first)
		}
		return s
	case calendarMonth:
		return fmt.Sprintf("Months(%v)", a.loc)
	}
	return fmt.Sprintf("Days(%v)", a.loc)
}

const secondsPerDay = 24 * 60 * 60

// days returns the first day of the unit that day is in, and the first day of
// the next. Days are numbered from 1970-01-01 by what the calendar on the wall
// says, without regard to zones.
func (a CalendarAssigner) days(day int64) (from, to int64) {
	switch a.unit {
	case calendarWeek:
		// Day 0 was a Thursday.
		sinceFirst := newGrid(7, int64(a.first-time.Thursday)).phase(day)
		return day - sinceFirst, day - sinceFirst + 7
	case calendarMonth:
		y, m, _ := time.Unix(day*secondsPerDay, 0).UTC().Date()
		return dayNumber(y, m), dayNumber(y, m+1)
	}
	return day, day + 1
}

func dayNumber(y int, m time.Month) int64 {
	return floorDiv(time.Date(y, m, 1, 0, 0, 0, 0, time.UTC).Unix(), secondsPerDay)
}

// startOfDay returns the first second at which the local clock in loc shows
// the midnight that begins day, or later.
//
// time.Date does not do: for a midnight that is skipped or comes twice it does
// not promise which of the two possible instants it returns, and one of them
// is an hour into the neighbouring day.
func startOfDay(day int64, loc *time.Location) int64 {
	midnight := day * secondsPerDay // as if the zone were UTC
	// Begin surely before it: no clock was ever changed by more than a day.
	sec := midnight - zoneOffset(midnight, loc) - 26*60*60
	for {
		t := time.Unix(sec, 0).In(loc)
		_, offset := t.Zone()
		sec = max(sec, midnight-int64(offset))
		_, until := t.ZoneBounds()
		if until.IsZero() || sec < until.Unix() {
			return sec
		}
		sec = until.Unix()
	}
}

// zoneOffset returns how many seconds the local clock is ahead of UTC.
func zoneOffset(sec int64, loc *time.Location) int64 {
	_, offset := time.Unix(sec, 0).In(loc).Zone()
	return int64(offset)
}

// milliSat returns sec in milliseconds, clamped to the range of int64.
func milliSat(sec int64) int64 {
	switch {
	case sec > math.MaxInt64/1000:
		return math.MaxInt64
	case sec < math.MinInt64/1000:
		return math.MinInt64
	}
	return sec * 1000
}
