package window_test

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/window"
)

func clock(w window.Window) string {
	f := func(ts int64) string { return time.UnixMilli(ts).UTC().Format("15:04:05") }
	return f(w.Start) + " to " + f(w.End)
}

func at(s string) int64 {
	t, err := time.Parse("15:04:05", s)
	if err != nil {
		panic(err)
	}
	return t.AddDate(2024, 0, 0).UnixMilli()
}

func ExampleTumbling() {
	quarters := window.Tumbling(15 * time.Minute)
	fmt.Println(clock(quarters.Window(at("12:34:56"))))
	fmt.Println(clock(quarters.Offset(5 * time.Minute).Window(at("12:34:56"))))
	// Output:
	// 12:30:00 to 12:45:00
	// 12:20:00 to 12:35:00
}

func ExampleSliding() {
	for _, w := range window.Sliding(time.Hour, 20*time.Minute).Assign(at("12:34:56"), nil) {
		fmt.Println(clock(w))
	}
	// Output:
	// 11:40:00 to 12:40:00
	// 12:00:00 to 13:00:00
	// 12:20:00 to 13:20:00
}

func ExampleSlicer() {
	var a window.Slicer = window.Sliding(time.Hour, 20*time.Minute)
	w := a.Assign(at("12:34:56"), nil)[0]
	fmt.Println("window", clock(w))
	for _, s := range a.SlicesOf(w, nil) {
		fmt.Println("slice ", clock(s))
	}
	// Output:
	// window 11:40:00 to 12:40:00
	// slice  11:40:00 to 12:00:00
	// slice  12:00:00 to 12:20:00
	// slice  12:20:00 to 12:40:00
}

func ExampleCumulative() {
	for _, w := range window.Cumulative(time.Hour, 15*time.Minute).Assign(at("12:34:56"), nil) {
		fmt.Println(clock(w))
	}
	// Output:
	// 12:00:00 to 12:45:00
	// 12:00:00 to 13:00:00
}

func ExampleDays() {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		fmt.Println(err)
		return
	}
	noon := time.Date(2024, 3, 31, 12, 0, 0, 0, berlin)
	w := window.Days(berlin).Window(noon.UnixMilli())
	fmt.Println(time.UnixMilli(w.End).Sub(time.UnixMilli(w.Start)))
	// Output: 23h0m0s
}

func ExampleSessions() {
	visits := window.Session(10 * time.Millisecond)
	var live window.Sessions
	for _, ts := range []int64{0, 20, 10} {
		m := live.Add(visits.Assign(ts, nil)[0])
		fmt.Printf("record at %d: session %d is %v, absorbs %d\n", ts, m.ID, m.Window, len(m.Absorbed))
	}
	// Output:
	// record at 0: session 0 is [0,11), absorbs 0
	// record at 20: session 1 is [20,31), absorbs 0
	// record at 10: session 0 is [0,31), absorbs 1
}

func ExamplePaneState() {
	trigger := window.OnTime().EarlyCount(2)
	var panes window.PaneState
	emit := func(p window.Pane, ok bool) {
		if ok {
			fmt.Println(p)
		}
	}
	emit(panes.Add(trigger, 1, false))
	emit(panes.Add(trigger, 1, false))
	emit(panes.Add(trigger, 1, false))
	emit(panes.End(trigger, time.Minute))
	emit(panes.Add(trigger, 1, true))
	emit(panes.Cleanup())
	// Output:
	// early #0
	// on time #1
	// late #2
}
