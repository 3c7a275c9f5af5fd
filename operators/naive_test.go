package operators_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

const milli = time.Millisecond

// naive does what the window operators do the obvious way: every window of
// every key has a list of its records, and a watermark looks at all of them.
type naive struct {
	by       window.Assigner
	trigger  window.Trigger
	lateness time.Duration

	watermark int64
	windows   map[string]map[window.Window]*naiveWindow
	sessions  map[string]*window.Sessions
	results   map[string][]string // by key and window
	late      []int
}

type naiveWindow struct {
	panes window.PaneState
	ids   []int
}

func newNaive(by window.Assigner, t window.Trigger, lateness time.Duration) *naive {
	return &naive{
		by: by, trigger: t, lateness: lateness, watermark: pipeline.MinWatermark,
		windows:  map[string]map[window.Window]*naiveWindow{},
		sessions: map[string]*window.Sessions{},
		results:  map[string][]string{},
	}
}

func (n *naive) run(events []event) {
	for _, e := range events {
		if e.isMark {
			n.advance(e.watermark)
		} else {
			n.record(e.rec)
		}
	}
	n.advance(end)
}

func (n *naive) record(r rec) {
	all := n.windows[r.Key]
	if all == nil {
		all = map[window.Window]*naiveWindow{}
		n.windows[r.Key] = all
	}
	taken := false
	for _, w := range n.by.Assign(r.Time, nil) {
		if window.Merging(n.by) {
			w = n.merge(r.Key, w)
		}
		if w.Late(n.watermark, n.lateness) {
			continue
		}
		taken = true
		nw := all[w]
		if nw == nil {
			nw = &naiveWindow{}
			all[w] = nw
		}
		nw.ids = append(nw.ids, r.ID)
		p, ok := nw.panes.Add(n.trigger, 1, w.MaxTimestamp() <= n.watermark)
		n.give(r.Key, w, nw, p, ok)
	}
	if !taken && r.Time <= n.watermark {
		n.late = append(n.late, r.ID)
	}
}

// merge makes one session of those that w joins, unless it would be late.
func (n *naive) merge(key string, w window.Window) window.Window {
	s := n.sessions[key]
	if s == nil {
		s = &window.Sessions{}
		n.sessions[key] = s
	}
	m := s.Plan(w)
	if m.Window.Late(n.watermark, n.lateness) {
		return m.Window
	}
	for old, p := range m.Tombstones(n.trigger) {
		n.results[fmt.Sprint(key, " ", old)] = append(n.results[fmt.Sprint(key, " ", old)], fmt.Sprintf(" (%v)", p))
	}
	all := n.windows[key]
	merged := &naiveWindow{}
	for gone := range m.Gone() {
		merged.ids = append(merged.ids, all[gone.Window].ids...)
		merged.panes.Fresh += all[gone.Window].panes.Fresh
		delete(all, gone.Window)
	}
	if all[m.Window] == nil {
		all[m.Window] = merged
	}
	s.Apply(m).Panes = window.PaneState{}
	return m.Window
}

// moments are the event times up to the watermark at which something is due.
func (n *naive) moments(watermark int64) []int64 {
	due := map[int64]bool{}
	step := n.trigger.EarlyEventInterval.Milliseconds()
	for _, all := range n.windows {
		for w := range all {
			due[w.MaxTimestamp()], due[w.CleanupTime(n.lateness)] = true, true
		}
	}
	// Records, and so windows with something new, lie within these times.
	if step > 0 {
		for at := int64(-500) * step; at <= min(watermark, 5_000); at += step {
			due[at] = true
		}
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(due)), func(at int64) bool { return at <= n.watermark || at > watermark })
}

func (n *naive) advance(watermark int64) {
	for _, at := range n.moments(watermark) {
		for key, all := range n.windows {
			for w, nw := range all {
				n.look(key, w, nw, at)
			}
		}
	}
	n.watermark = watermark
}

func (n *naive) look(key string, w window.Window, nw *naiveWindow, at int64) {
	step := n.trigger.EarlyEventInterval.Milliseconds()
	if step > 0 && at%step == 0 && w.Start < at && at < w.MaxTimestamp() {
		p, ok := nw.panes.Early()
		n.give(key, w, nw, p, ok)
	}
	if w.MaxTimestamp() <= at {
		p, ok := nw.panes.End(n.trigger, n.lateness)
		n.give(key, w, nw, p, ok)
	}
	if w.Late(at, n.lateness) {
		p, ok := nw.panes.Cleanup()
		n.give(key, w, nw, p, ok)
		n.forget(key, w)
	}
}

func (n *naive) forget(key string, w window.Window) {
	delete(n.windows[key], w)
	if s := n.sessions[key]; s != nil {
		s.Live = slices.DeleteFunc(s.Live, func(l window.LiveSession) bool { return l.Window == w })
	}
}

func (n *naive) give(key string, w window.Window, nw *naiveWindow, p window.Pane, ok bool) {
	if s := n.sessions[key]; s != nil { // tombstones ask the set
		for i := range s.Live {
			if s.Live[i].Window == w {
				s.Live[i].Panes = nw.panes
			}
		}
	}
	if !ok {
		return
	}
	k := fmt.Sprint(key, " ", w)
	n.results[k] = append(n.results[k], fmt.Sprintf("%s (%v)", show(nw.ids), p))
	if n.trigger.Accumulation == window.Discarding {
		nw.ids = nil
	}
}

// disorder is a random script: times that wander, watermarks that follow, and
// now and then a leap or a record that is far behind.
func disorder(r *rand.Rand, n int) []event {
	var evs []event
	now, watermark := r.Int64N(200)-100, int64(pipeline.MinWatermark)
	for i := range n {
		now += r.Int64N(8)
		ts := now - r.Int64N(12)
		if r.IntN(8) == 0 {
			ts = now - r.Int64N(150)
		}
		evs = append(evs, event{rec: rec{Key: fmt.Sprint("k", r.IntN(4)), Time: ts, ID: i}})
		if r.IntN(50) == 0 {
			now += r.Int64N(150)
		}
		if next := now - 12; r.IntN(3) == 0 && next > watermark {
			watermark = next
			evs = append(evs, event{isMark: true, watermark: watermark})
		}
	}
	return evs
}

// plain hides all abilities of an assigner but the one it must have.
type plain struct{ window.Assigner }

var assigners = []window.Assigner{
	window.Tumbling(10 * milli),
	window.Tumbling(20 * milli).Offset(-3 * milli),
	window.Sliding(20*milli, 5*milli),
	window.Sliding(17*milli, 5*milli),
	window.Cumulative(40*milli, 10*milli),
	window.Global(),
	window.Session(5 * milli),
	window.Session(15 * milli),
	plain{window.Sliding(20*milli, 5*milli)},
}

func triggers() []window.Trigger {
	return []window.Trigger{
		window.OnTime(),
		window.OnTime().EarlyCount(2),
		window.OnTime().EarlyEveryEventTime(4 * milli),
		window.OnTime().EarlyEveryEventTime(6 * milli).EarlyCount(3).LateCount(2),
		window.OnTime().LateCount(3),
		window.OnTime().LateAtCleanup(),
		window.OnTime().EarlyEvery(time.Hour), // never comes
	}
}

func TestWindowsLikeTheSlowWay(t *testing.T) {
	seed := uint64(0)
	for _, by := range assigners {
		for _, lateness := range []time.Duration{0, 7 * milli, 60 * milli, 1 << 62 / milli * milli} {
			for _, trigger := range triggers() {
				for _, trigger := range []window.Trigger{trigger, trigger.Discarding()} {
					seed++
					name := fmt.Sprintf("%v/%v/%+v", by, lateness, trigger)
					events := disorder(rand.New(rand.NewPCG(seed, 11)), 120)
					compareNaive(t, name, by, lateness, trigger, events, shapes[seed%uint64(len(shapes))])
				}
			}
		}
	}
}

// Longer scripts for the default trigger, in every shape.
func TestDefaultTriggerLikeTheSlowWay(t *testing.T) {
	for i, by := range assigners {
		for _, s := range shapes {
			for _, lateness := range []time.Duration{0, 25 * milli} {
				events := disorder(rand.New(rand.NewPCG(uint64(i), 12)), 600)
				compareNaive(t, fmt.Sprintf("%v/%v/%+v", by, lateness, s), by, lateness, window.OnTime(), events, s)
			}
		}
	}
}

func compareNaive(t *testing.T, name string, by window.Assigner, lateness time.Duration, trigger window.Trigger, events []event, s shape) {
	t.Helper()
	want := newNaive(by, trigger, lateness)
	want.run(events)
	j := newJob(s, events)
	late := pipeline.NewTag[rec]("late")
	out := operators.Aggregate(j.keyed(), "agg", by, ids(),
		operators.AllowedLateness(lateness), operators.Trigger(trigger), operators.LateTo(late))
	results, refused := gather(out, "results"), gather(pipeline.SideOutput(out, late), "refused")
	j.run(t)
	compareResults(t, name, perWindow(t, results), want.results)
	var lateIDs []int
	for _, g := range refused.got {
		lateIDs = append(lateIDs, g.Value.ID)
	}
	if show(lateIDs) != show(want.late) {
		t.Errorf("%s: late records: got %s, want %s", name, show(lateIDs), show(want.late))
	}
}

func compareResults(t *testing.T, name string, got, want map[string][]string) {
	t.Helper()
	if maps.EqualFunc(got, want, slices.Equal) {
		return
	}
	var diff strings.Builder
	for k := range want {
		if !slices.Equal(got[k], want[k]) {
			fmt.Fprintf(&diff, "\n  %s: got %q, want %q", k, got[k], want[k])
		}
	}
	for k := range got {
		if want[k] == nil {
			fmt.Fprintf(&diff, "\n  %s: got %q, want none", k, got[k])
		}
	}
	t.Errorf("%s:%s", name, diff.String())
}

// rollupSlowly adds each record to the windows of every size by itself.
func rollupSlowly(sizes []time.Duration, lateness time.Duration, events []event) (map[string][]string, []int) {
	results := map[string][]string{}
	late := map[int]int{}
	for _, size := range sizes {
		n := newNaive(window.Tumbling(size), window.OnTime(), lateness)
		n.run(events)
		maps.Copy(results, n.results)
		for _, id := range n.late {
			late[id]++
		}
	}
	var all []int
	for id, n := range late {
		if n == len(sizes) {
			all = append(all, id)
		}
	}
	return results, all
}

func TestRollupLikeTheSlowWay(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 13))
		events := disorder(r, 300)
		lateness := []time.Duration{0, 3 * milli, 30 * milli, 200 * milli}[r.IntN(4)]
		sizes := [][]time.Duration{{10 * milli}, {5 * milli, 10 * milli}, {5 * milli, 20 * milli, 60 * milli}, {1 * milli, 7 * milli, 70 * milli, 140 * milli}}[r.IntN(4)]
		s := shapes[r.IntN(len(shapes))]
		name := fmt.Sprintf("seed %d: %v lateness %v %+v", seed, sizes, lateness, s)

		j := newJob(s, events)
		tag := pipeline.NewTag[rec]("late")
		out := operators.Rollup(j.keyed(), "rollup", sizes, ids(), operators.AllowedLateness(lateness), operators.LateTo(tag))
		results, refused := gather(out, "results"), gather(pipeline.SideOutput(out, tag), "refused")
		j.run(t)

		want, wantLate := rollupSlowly(sizes, lateness, events)
		compareResults(t, name, perWindow(t, results), want)
		var gotLate []int
		for _, g := range refused.got {
			gotLate = append(gotLate, g.Value.ID)
		}
		if show(gotLate) != show(wantLate) {
			t.Errorf("%s: late records: got %s, want %s", name, show(gotLate), show(wantLate))
		}
	}
}
