// Package window says which windows a record belongs to, when a window gives
// a result, and which sessions merge.
//
// Everything here is pure: values in, values out, no goroutine, no clock and
// no I/O. The window operators keep the state and the timers, and ask this
// package what to do with them. Event times are milliseconds since the epoch.
//
// # Assigners
//
// An [Assigner] maps an event time to windows. Functions make one, methods
// refine it:
//
//	window.Tumbling(time.Minute)                   // [12:00, 12:01), [12:01, 12:02), ...
//	window.Tumbling(time.Hour).Offset(15*time.Minute)
//	window.Sliding(time.Hour, 5*time.Minute)       // the last hour, every five minutes
//	window.Cumulative(24*time.Hour, time.Hour)     // since midnight UTC, every hour
//	window.Session(30*time.Minute)                 // activity with no pause above 30 minutes
//	window.Days(berlin)                            // 23, 24 or 25 hours, as the clocks say
//	window.Weeks(berlin).StartingOn(time.Sunday)
//	window.Months(berlin)
//	window.Global()                                // one window for everything
//
// Assign is the one method an assigner must have, so an application may bring
// its own. What more it can do it says by small optional interfaces: [Merger]
// (windows grow into each other, as sessions do), [Disjoint] (one window per
// record, so the last one can be remembered), [Slicer] (overlapping windows
// are made of shared slices) and [Validator].
//
// # A window's life
//
// A [Window] is half-open, [Start, End). It is complete when the watermark
// reaches its MaxTimestamp, End-1. With an allowed lateness it lives on, and
// takes late records, until the watermark reaches its CleanupTime; a record
// whose window is past that is refused.
//
// A [Trigger] says when results are given. The default, [OnTime], gives one
// when the window is complete and one more for each late record:
//
//	window.OnTime()
//	window.OnTime().EarlyEvery(10*time.Second)     // and a preview every ten seconds
//	window.OnTime().EarlyCount(1000).Discarding()  // and only what is new each time
//
// Each result is a [Pane], which says whether it is early, on time or late,
// its index, and whether it is the last one. [PaneState] decides the panes of
// one window.
//
// # Sessions
//
// A session has no bounds until its records are known: each record starts as a
// small window of its own, and windows that intersect are one session.
// [Sessions] is the set of live sessions of one key. Adding a record's window
// says which sessions it joined, whose state survives under which identity,
// and which results given earlier no longer stand:
//
//	var live window.Sessions
//	live.Add(window.Window{Start: 0, End: 11})
//	live.Add(window.Window{Start: 20, End: 31})
//	m := live.Add(window.Window{Start: 10, End: 21}) // joins both: m.Window is [0,31)
package window
