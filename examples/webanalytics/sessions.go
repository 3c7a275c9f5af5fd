package main

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/operators"
)

// Session is a line of sessions.jsonl: what one visitor did without a pause
// longer than the session gap.
type Session struct {
	TrackingID string   `json:"tracking_id"`
	UserID     string   `json:"user_id"`
	Start      int64    `json:"start"`
	End        int64    `json:"end"` // its last event
	Events     int64    `json:"events"`
	PageViews  int64    `json:"page_views"`
	EntryPage  string   `json:"entry_page"`
	ExitPage   string   `json:"exit_page"`
	Bounce     bool     `json:"bounce"`
	Path       []string `json:"path"`
	// PathCut is how many pages of the path were left out at its end, because
	// it was longer than -max-path.
	PathCut int64 `json:"path_cut,omitempty"`
}

func (s Session) trackingID() string { return s.TrackingID }

// visit is the accumulator of a session. Hits reach it in any order, since
// those of one visitor have come here by way of several subtasks, and the
// session must be the same however they did.
type visit struct {
	Start, End int64
	Events     int64
	PageViews  int64
	Entry      step // the first page view; zero without any
	Exit       step // the last one
	Path       firsts[step]
}

// step is a page view on a path.
type step struct {
	moment
	Page string
}

// moment is where in the order of a visitor's events one stands. Logs of whole
// seconds have many of the same time, which the id then tells apart: an order
// without meaning, but always the same.
type moment struct {
	Time int64
	ID   string
}

// When returns the moment that something of a moment has embedded.
func (m moment) When() moment { return m }

func (m moment) compare(o moment) int {
	return cmp.Or(cmp.Compare(m.Time, o.Time), cmp.Compare(m.ID, o.ID))
}

func (v *visit) add(h Hit, maxPath int) {
	s := step{moment{h.Time, h.EventID}, h.Page}
	one := visit{Start: h.Time, End: h.Time, Events: 1}
	if h.isPageView() {
		one.PageViews, one.Entry, one.Exit = 1, s, s
		v.Path.add(maxPath, s)
	}
	v.cover(&one)
}

func (v *visit) merge(o *visit, maxPath int) {
	v.cover(o)
	v.Path.add(maxPath, o.Path...)
}

// cover takes in all of another visit but its path.
func (v *visit) cover(o *visit) {
	if o.Events == 0 {
		return
	}
	if v.Events == 0 {
		v.Start, v.End = o.Start, o.End
	}
	v.Start, v.End = min(v.Start, o.Start), max(v.End, o.End)
	if o.PageViews > 0 {
		if v.PageViews == 0 || o.Entry.compare(v.Entry.moment) < 0 {
			v.Entry = o.Entry
		}
		if v.PageViews == 0 || o.Exit.compare(v.Exit.moment) > 0 {
			v.Exit = o.Exit
		}
	}
	v.Events += o.Events
	v.PageViews += o.PageViews
}

// session makes the result, without the visitor.
func (v *visit) session(maxPath int) Session {
	s := Session{
		Start: v.Start, End: v.End, Events: v.Events, PageViews: v.PageViews,
		EntryPage: v.Entry.Page, ExitPage: v.Exit.Page, Bounce: v.PageViews == 1, Path: []string{},
	}
	for _, step := range v.Path.sorted(maxPath) {
		s.Path = append(s.Path, step.Page)
	}
	s.PathCut = v.PageViews - int64(len(s.Path))
	return s
}

// visits is the aggregation of hits to sessions.
func visits(maxPath int) operators.Aggregation[Hit, visit, Session] {
	return operators.Aggregation[Hit, visit, Session]{
		Add:    func(acc *visit, h Hit) { acc.add(h, maxPath) },
		Merge:  func(acc, other *visit) { acc.merge(other, maxPath) },
		Result: func(acc *visit) Session { return acc.session(maxPath) },
	}
}

// sessionOf completes a session by whose it is.
func sessionOf(r operators.Result[Visitor, Session]) Session {
	r.Value.TrackingID, r.Value.UserID = r.Key.TrackingID, r.Key.UserID
	return r.Value
}

// firsts holds the first n of any number of values, in order of their moments,
// whatever the order they are added in. It holds up to twice as many, so that sorting is rare.
type firsts[T interface{ When() moment }] []T

func (f *firsts[T]) add(n int, values ...T) {
	*f = append(*f, values...)
	if len(*f) >= 2*n {
		*f = firsts[T](f.sorted(n))
	}
}

// sorted returns the first n values, in order, as a copy.
func (f firsts[T]) sorted(n int) []T {
	all := slices.Clone(f)
	slices.SortFunc(all, func(a, b T) int { return a.When().compare(b.When()) })
	return slices.Clip(all[:min(n, len(all))])
}

// SessionCounts are the sessions that closed in a window. They are whole
// numbers, so that the averages made of them do not depend on the order they
// were added up in.
type SessionCounts struct {
	Sessions, Bounces, DurationMillis, PathCuts int64
}

func (c SessionCounts) bounceRate() float64 { return float64(c.Bounces) / float64(c.Sessions) }

func (c SessionCounts) avgDurationSeconds() float64 {
	return float64(c.DurationMillis) / float64(c.Sessions) / 1000
}

// countSessions is the aggregation of sessions to their metrics.
func countSessions() operators.Aggregation[Session, SessionCounts, SessionCounts] {
	return operators.Aggregation[Session, SessionCounts, SessionCounts]{
		Add: func(acc *SessionCounts, s Session) {
			acc.Sessions++
			acc.DurationMillis += s.End - s.Start
			acc.PathCuts += s.PathCut
			if s.Bounce {
				acc.Bounces++
			}
		},
		Merge: func(acc, other *SessionCounts) {
			acc.Sessions += other.Sessions
			acc.Bounces += other.Bounces
			acc.DurationMillis += other.DurationMillis
			acc.PathCuts += other.PathCuts
		},
		Result: func(acc *SessionCounts) SessionCounts { return *acc },
	}
}

// sessionMetricsOf makes the lines of a window of a site's sessions.
func sessionMetricsOf(r operators.Result[string, SessionCounts], emit func(Metric)) {
	m := Metric{
		TrackingID: r.Key, Granularity: granularityName(r.Window.End - r.Window.Start),
		WindowStart: r.Window.Start, Dimensions: map[string]string{}, Revision: r.Pane.Index,
	}
	m.Name, m.Value = "sessions", float64(r.Value.Sessions)
	emit(m)
	m.Name, m.Value = "bounce_rate", r.Value.bounceRate()
	emit(m)
	m.Name, m.Value = "avg_duration_seconds", r.Value.avgDurationSeconds()
	emit(m)
}
