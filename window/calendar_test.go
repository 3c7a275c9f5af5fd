package window_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/millrace/millrace/window"
)

func location(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func rfc(t testing.TB, s string) int64 {
	t.Helper()
	x, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return x.UnixMilli()
}

func TestRule28_Calendar(t *testing.T) {
	days := func(l *time.Location) window.Disjoint { return window.Days(l) }
	weeks := func(l *time.Location) window.Disjoint { return window.Weeks(l) }
	sundays := func(l *time.Location) window.Disjoint { return window.Weeks(l).StartingOn(time.Sunday) }
	months := func(l *time.Location) window.Disjoint { return window.Months(l) }
	for _, c := range []struct {
		name           string
		zone           string
		make           func(*time.Location) window.Disjoint
		ts, start, end string
	}{
		{"day of 23 hours", "Europe/Berlin", days,
			"2024-03-31T12:00:00+02:00", "2024-03-31T00:00:00+01:00", "2024-04-01T00:00:00+02:00"},
		{"day of 25 hours", "Europe/Berlin", days,
			"2024-10-27T00:30:00+02:00", "2024-10-27T00:00:00+02:00", "2024-10-28T00:00:00+01:00"},
		{"last millisecond", "Europe/Berlin", days,
			"2024-10-27T23:59:59.999+01:00", "2024-10-27T00:00:00+02:00", "2024-10-28T00:00:00+01:00"},
		{"midnight is skipped", "America/Sao_Paulo", days,
			"2018-11-04T12:00:00-02:00", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"},
		{"next midnight is skipped", "America/Sao_Paulo", days,
			"2018-11-03T23:59:59.999-03:00", "2018-11-03T00:00:00-03:00", "2018-11-04T00:00:00-03:00"},
		{"clock goes back at midnight", "America/Sao_Paulo", days,
			"2018-02-17T23:30:00-03:00", "2018-02-17T00:00:00-02:00", "2018-02-18T00:00:00-03:00"},
		{"midnight comes twice", "America/Havana", days,
			"2023-11-05T00:30:00-05:00", "2023-11-05T00:00:00-04:00", "2023-11-06T00:00:00-05:00"},
		{"set back across midnight", "America/St_Johns", days,
			"2010-11-06T23:30:00-03:30", "2010-11-07T00:00:00-02:30", "2010-11-08T00:00:00-03:30"},
		{"before a day that never was", "Pacific/Apia", days,
			"2011-12-29T12:00:00-10:00", "2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"},
		{"after a day that never was", "Pacific/Apia", days,
			"2011-12-31T12:00:00+14:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"},
		{"before the epoch", "UTC", days,
			"1969-12-31T23:59:59.999Z", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z"},
		{"week with a change of clocks", "Europe/Berlin", weeks,
			"2024-03-31T12:00:00+02:00", "2024-03-25T00:00:00+01:00", "2024-04-01T00:00:00+02:00"},
		{"week from Sunday", "Europe/Berlin", sundays,
			"2024-03-31T12:00:00+02:00", "2024-03-31T00:00:00+01:00", "2024-04-07T00:00:00+02:00"},
		{"week around the epoch", "UTC", weeks,
			"1970-01-01T00:00:00Z", "1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z"},
		{"leap month", "Europe/Berlin", months,
			"2024-02-29T23:59:59+01:00", "2024-02-01T00:00:00+01:00", "2024-03-01T00:00:00+01:00"},
		{"month with a change of clocks", "Europe/Berlin", months,
			"2024-10-31T23:59:59+01:00", "2024-10-01T00:00:00+02:00", "2024-11-01T00:00:00+01:00"},
		{"last month of a year before the epoch", "Europe/Berlin", months,
			"1965-12-24T18:00:00+01:00", "1965-12-01T00:00:00+01:00", "1966-01-01T00:00:00+01:00"},
	} {
		a := c.make(location(t, c.zone))
		want := win(rfc(t, c.start), rfc(t, c.end))
		if got := a.Window(rfc(t, c.ts)); got != want {
			t.Errorf("%s: %v at %s: got %s, want %s", c.name, a, c.ts, show(got), show(want))
		}
		checkAssigner(t, a, rfc(t, c.ts))
	}
}

func show(w window.Window) string {
	f := func(ts int64) string { return time.UnixMilli(ts).UTC().Format(time.RFC3339Nano) }
	return fmt.Sprintf("[%s, %s)", f(w.Start), f(w.End))
}

var zones = []string{
	"UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "America/St_Johns", "Asia/Tehran",
	"Africa/Cairo", "Asia/Beirut", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu", "America/Asuncion",
}

// slowDay finds the day of ts by looking at the local clock every minute.
func slowDay(ts int64, loc *time.Location) window.Window {
	day := func(min int64) int64 {
		t := time.Unix(min*60, 0).In(loc)
		_, off := t.Zone()
		return floor(min*60+int64(off), 24*60*60)
	}
	at := floor(ts, 60_000)
	// The clock may show an earlier day again, but a day that has begun is
	// not taken back: so the day is the largest seen, from well before.
	var start, end int64
	largest := int64(math.MinInt64)
	for min := at - 5*24*60; ; min++ {
		if d := day(min); d > largest {
			if min > at {
				end = min
				break
			}
			largest, start = d, min
		}
	}
	return win(start*60_000, end*60_000)
}

func floor(a, b int64) int64 {
	if m := a % b; m < 0 {
		a -= b
	}
	return a / b
}

func TestRule28_DaysLikeTheSlowWay(t *testing.T) {
	r := rand.New(rand.NewPCG(28, 2))
	for _, zone := range zones {
		loc := location(t, zone)
		from, to := rfc(t, "1985-01-01T00:00:00Z"), rfc(t, "2035-01-01T00:00:00Z")
		for i := range 20 {
			ts := from + r.Int64N(to-from)
			if i%2 == 0 { // Near a change of clocks, where the zone has them.
				if _, next := time.UnixMilli(ts).In(loc).ZoneBounds(); !next.IsZero() {
					ts = next.UnixMilli() + r.Int64N(48*3600_000) - 24*3600_000
				}
			}
			if got, want := window.Days(loc).Window(ts), slowDay(ts, loc); got != want {
				t.Errorf("%s at %s: got %s, want %s", zone, time.UnixMilli(ts).In(loc), show(got), show(want))
			}
		}
	}
}

func FuzzCalendar(f *testing.F) {
	for i, ts := range extremes {
		f.Add(ts, uint8(i), uint8(i))
	}
	f.Fuzz(func(t *testing.T, ts int64, zone, first uint8) {
		loc := location(t, zones[int(zone)%len(zones)])
		checkAssigner(t, window.Days(loc), ts)
		checkAssigner(t, window.Weeks(loc).StartingOn(time.Weekday(first%7)), ts)
		checkAssigner(t, window.Months(loc), ts)
		checkAssigner(t, window.Session(time.Hour).SplitByDay(loc), ts)
	})
}
