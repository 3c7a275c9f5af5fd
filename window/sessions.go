package window

import (
	"iter"
	"slices"
	"sort"
)

// Sessions is the set of live sessions of one key. Its fields are plain and
// exported so that it can be a keyed state value; the zero value is an empty
// set. It is not safe for concurrent use.
//
// The set is written for session windows and works for any whose windows merge
// when they intersect.
type Sessions struct {
	// Live holds the sessions sorted by start. No two of them intersect.
	Live []LiveSession

	// NextID is the identity the next new session will get. It may start over
	// only when no state of an earlier session is left, which is so when Live
	// is empty: then the whole value may be deleted.
	NextID uint64
}

// LiveSession is one session of a key.
type LiveSession struct {
	// ID names the session's state. A session keeps it while its window grows
	// and, of the sessions that merge, the one created first hands it on. A
	// window would not do as a name, since a merge changes it and all the
	// state would have to move.
	ID uint64

	// Window is what the session covers.
	Window Window

	// Last is the event time of its last record.
	Last int64

	// Panes is the state of its results.
	Panes PaneState
}

// Merge is what adding a window to a set of sessions means, see
// [Sessions.Plan].
type Merge struct {
	// ID is the identity of the state that holds the session from now on.
	ID uint64

	// Window is the session with the added window in it.
	Window Window

	// New says that no live session took part: the state ID is to be created,
	// and Survivor is not set.
	New bool

	// Survivor is the session that keeps its identity, as it was before.
	Survivor LiveSession

	// Absorbed are the other sessions that took part, as they were before, by
	// start. Their state is to be merged into that of ID and then deleted.
	Absorbed []LiveSession

	last  int64
	at, n int // the sessions that take part are Live[at:at+n]
}

// Plan says what adding w would do, and changes nothing. Whether a record is
// late is decided between Plan and Apply, by the merged window: a record that
// is itself too old still counts if it joins a session that is alive.
//
//	m := live.Plan(w)
//	if m.Window.Late(watermark, allowedLateness) {
//		// refuse the record
//	}
//	session := live.Apply(m)
func (s *Sessions) Plan(w Window) Merge {
	at := s.search(w)
	m := Merge{ID: s.NextID, Window: w, New: true, last: w.Start, at: at}
	// Sessions are sorted and apart, so those that intersect w are neighbours,
	// and none of the others intersects what they cover together.
	for _, o := range s.Live[at:] {
		if !o.Window.Intersects(w) {
			break
		}
		m.n++
		m.join(o)
	}
	return m
}

// search returns the index of the first session that ends after w begins.
func (s *Sessions) search(w Window) int {
	n := len(s.Live)
	// Nearly always the record belongs to the last session or a newer one.
	switch {
	case n == 0 || s.Live[n-1].Window.End <= w.Start:
		return n
	case s.Live[n-1].Window.Start <= w.Start:
		return n - 1
	}
	return sort.Search(n, func(i int) bool { return s.Live[i].Window.End > w.Start })
}

// join lets o take part in m.
func (m *Merge) join(o LiveSession) {
	m.Window = m.Window.Cover(o.Window)
	m.last = max(m.last, o.Last)
	switch {
	case m.New:
		m.New, m.ID, m.Survivor = false, o.ID, o
	case o.ID < m.ID: // IDs count up, so the smallest was created first.
		m.Absorbed = append(m.Absorbed, m.Survivor)
		m.ID, m.Survivor = o.ID, o
	default:
		m.Absorbed = append(m.Absorbed, o)
	}
}

// Apply carries out a plan made of s as it is now, and returns the session.
// The pointer is good until the set changes again; its Panes are to be told of
// the record next, with [PaneState.Add].
//
// Bounds that have changed are the bounds of another result: its panes count
// from zero, and its end may be ahead of the watermark again. What its parts
// had not yet given out is still to be given out.
func (s *Sessions) Apply(m Merge) *LiveSession {
	next := LiveSession{ID: m.ID, Window: m.Window, Last: m.last}
	if m.New {
		s.NextID++
	}
	for _, o := range s.Live[m.at : m.at+m.n] {
		next.Panes.Fresh += o.Panes.Fresh
	}
	if !m.New && m.Window == m.Survivor.Window {
		next.Panes = m.Survivor.Panes
	}
	if m.n == 1 {
		s.Live[m.at] = next
	} else {
		s.Live = slices.Replace(s.Live, m.at, m.at+m.n, next)
	}
	return &s.Live[m.at]
}

// Add plans and applies in one step, for when nothing can be late.
func (s *Sessions) Add(w Window) Merge {
	m := s.Plan(w)
	s.Apply(m)
	return m
}

// Get returns the session with this identity, or nil. The pointer is good
// until the set changes.
func (s *Sessions) Get(id uint64) *LiveSession {
	for i := range s.Live {
		if s.Live[i].ID == id {
			return &s.Live[i]
		}
	}
	return nil
}

// Remove takes out the session with this identity, at its cleanup, and reports
// whether it was there. The session's state and timers are the caller's to
// delete.
func (s *Sessions) Remove(id uint64) bool {
	n := len(s.Live)
	s.Live = slices.DeleteFunc(s.Live, func(o LiveSession) bool { return o.ID == id })
	return len(s.Live) < n
}

// Gone returns the sessions, as they were before, whose bounds no longer
// exist: the absorbed ones, and the survivor if it has grown. The timers at
// the end and the cleanup of those bounds are to be deleted.
func (m Merge) Gone() iter.Seq[LiveSession] {
	return func(yield func(LiveSession) bool) {
		if !m.New && m.Survivor.Window != m.Window && !yield(m.Survivor) {
			return
		}
		for _, o := range m.Absorbed {
			if !yield(o) {
				return
			}
		}
	}
}

// Tombstones returns, for each result given under bounds that no longer exist,
// those bounds and the pane that takes the result back. Emit them before any
// result of the merged session. See [PaneState.Tombstone].
func (m Merge) Tombstones(t Trigger) iter.Seq2[Window, Pane] {
	return func(yield func(Window, Pane) bool) {
		for o := range m.Gone() {
			if p, ok := o.Panes.Tombstone(t); ok && !yield(o.Window, p) {
				return
			}
		}
	}
}
