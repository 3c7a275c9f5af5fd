package window_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/millrace/millrace/window"
)

// sessionKey does for one key what a session operator does, with the records
// themselves as its accumulator.
type sessionKey struct {
	assigner  window.SessionAssigner
	trigger   window.Trigger
	lateness  time.Duration
	watermark int64

	live  window.Sessions
	state map[uint64][]int64 // event times by session ID

	log     strings.Builder
	results map[window.Window][]int64 // what stands: tombstones remove
}

func newSessionKey(a window.SessionAssigner, t window.Trigger, lateness time.Duration) *sessionKey {
	return &sessionKey{
		assigner: a, trigger: t, lateness: lateness, watermark: math.MinInt64,
		state: map[uint64][]int64{}, results: map[window.Window][]int64{},
	}
}

func (k *sessionKey) record(ts int64) {
	m := k.live.Plan(k.assigner.Assign(ts, nil)[0])
	if m.Window.Late(k.watermark, k.lateness) {
		fmt.Fprintf(&k.log, "%d: late, %v refused\n", ts, m.Window)
		return
	}
	k.describe(ts, m)
	for w, p := range m.Tombstones(k.trigger) {
		fmt.Fprintf(&k.log, "  emit %v %v\n", w, p)
		delete(k.results, w)
	}
	s := k.live.Apply(m)
	for _, o := range m.Absorbed {
		k.state[m.ID] = append(k.state[m.ID], k.state[o.ID]...)
		delete(k.state, o.ID)
	}
	k.state[m.ID] = append(k.state[m.ID], ts)
	p, ok := s.Panes.Add(k.trigger, 1, s.Window.MaxTimestamp() <= k.watermark)
	k.emit(*s, p, ok)
}

func (k *sessionKey) describe(ts int64, m window.Merge) {
	switch {
	case m.New:
		fmt.Fprintf(&k.log, "%d: new #%d %v\n", ts, m.ID, m.Window)
	case m.Survivor.Window == m.Window:
		fmt.Fprintf(&k.log, "%d: in #%d %v\n", ts, m.ID, m.Window)
	default:
		fmt.Fprintf(&k.log, "%d: #%d %v becomes %v\n", ts, m.ID, m.Survivor.Window, m.Window)
	}
	for _, o := range m.Absorbed {
		fmt.Fprintf(&k.log, "  absorbs #%d %v\n", o.ID, o.Window)
	}
	for o := range m.Gone() {
		fmt.Fprintf(&k.log, "  delete timers %d, %d\n", o.Window.MaxTimestamp(), o.Window.CleanupTime(k.lateness))
	}
}

func (k *sessionKey) emit(s window.LiveSession, p window.Pane, ok bool) {
	if !ok {
		return
	}
	content := slices.Sorted(slices.Values(k.state[s.ID]))
	fmt.Fprintf(&k.log, "  emit %v %v: %v\n", s.Window, p, content)
	if k.trigger.Accumulation == window.Discarding {
		k.results[s.Window] = append(k.results[s.Window], content...)
		k.state[s.ID] = nil
		return
	}
	k.results[s.Window] = content
}

func (k *sessionKey) advance(watermark int64) {
	k.watermark = watermark
	for _, s := range slices.Clone(k.live.Live) {
		panes := &k.live.Get(s.ID).Panes
		if s.Window.MaxTimestamp() <= watermark {
			p, ok := panes.End(k.trigger, k.lateness)
			k.emit(s, p, ok)
		}
		if s.Window.Late(watermark, k.lateness) {
			p, ok := panes.Cleanup()
			k.emit(s, p, ok)
			k.live.Remove(s.ID)
			delete(k.state, s.ID)
			fmt.Fprintf(&k.log, "  cleanup #%d %v\n", s.ID, s.Window)
		}
	}
}

// restore replaces the set by what encoding and decoding makes of it.
func (k *sessionKey) restore(t *testing.T) {
	t.Helper()
	b, err := json.Marshal(k.live)
	if err != nil {
		t.Fatal(err)
	}
	var got window.Sessions
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Live)+len(k.live.Live) > 0 && !reflect.DeepEqual(got, k.live) {
		t.Fatalf("restored %+v, want %+v", got, k.live)
	}
	k.live = got
}

func runSessions(t *testing.T, path string) {
	var k *sessionKey
	datadriven.RunTest(t, "testdata/sessions/"+path, func(t *testing.T, d *datadriven.TestData) string {
		if k != nil {
			k.log.Reset()
		}
		switch d.Cmd {
		case "sessions":
			k = newSessionKey(parseSessions(t, d))
		case "record":
			for _, a := range d.CmdArgs {
				k.record(parseTime(t, a.Key))
			}
		case "watermark":
			k.advance(parseTime(t, d.CmdArgs[0].Key))
		case "restore":
			k.restore(t)
		case "show":
			for _, s := range k.live.Live {
				fmt.Fprintf(&k.log, "#%d %v last=%d %v next=%d fresh=%d\n",
					s.ID, s.Window, s.Last, s.Panes.Phase, s.Panes.Index, s.Panes.Fresh)
			}
		default:
			d.Fatalf(t, "unknown command %q", d.Cmd)
		}
		if k.log.Len() == 0 {
			return "ok"
		}
		return k.log.String()
	})
}

func parseTime(t *testing.T, s string) int64 {
	if strings.Contains(s, "T") {
		return rfc(t, s)
	}
	var ts int64
	if _, err := fmt.Sscan(s, &ts); err != nil {
		t.Fatal(err)
	}
	return ts
}

func parseSessions(t *testing.T, d *datadriven.TestData) (window.SessionAssigner, window.Trigger, time.Duration) {
	a, lateness := window.Session(10*ms), time.Duration(0)
	for _, arg := range d.CmdArgs {
		var err error
		switch arg.Key {
		case "gap":
			var gap time.Duration
			gap, err = time.ParseDuration(arg.Vals[0])
			a = window.Session(gap)
		case "lateness":
			lateness, err = time.ParseDuration(arg.Vals[0])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if d.HasArg("zone") {
		var zone string
		d.ScanArgs(t, "zone", &zone)
		a = a.SplitByDay(location(t, zone))
	}
	return a, parseTrigger(t, d), lateness
}

func parseTrigger(t *testing.T, d *datadriven.TestData) window.Trigger {
	trigger := window.OnTime()
	var n int64
	if d.MaybeScanArgs(t, "early-count", &n) {
		trigger = trigger.EarlyCount(n)
	}
	if d.MaybeScanArgs(t, "late-count", &n) {
		trigger = trigger.LateCount(n)
	}
	if d.HasArg("late-at-cleanup") {
		trigger = trigger.LateAtCleanup()
	}
	if d.HasArg("discarding") {
		trigger = trigger.Discarding()
	}
	return trigger
}

func TestRule07_SessionLatenessAfterMerging(t *testing.T) { runSessions(t, "rule07_lateness") }
func TestRule08_SessionsMerge(t *testing.T)               { runSessions(t, "rule08_merge") }
func TestRule09_SessionGap(t *testing.T)                  { runSessions(t, "rule09_gap") }
func TestRule09_SessionSplitByDay(t *testing.T)           { runSessions(t, "rule09_split_by_day") }
func TestRule10_SessionTombstones(t *testing.T)           { runSessions(t, "rule10_tombstones") }

// cut returns the sessions of some event times the obvious way.
func cut(a window.SessionAssigner, times []int64) map[window.Window][]int64 {
	out := map[window.Window][]int64{}
	times = slices.Sorted(slices.Values(times))
	for len(times) > 0 {
		n := 1
		for n < len(times) && times[n]-times[n-1] <= a.Gap().Milliseconds() {
			n++
		}
		out[win(times[0], times[n-1]+a.Gap().Milliseconds()+1)] = times[:n]
		times = times[n:]
	}
	return out
}

func TestRule08_SessionsLikeTheSlowWay(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 1))
	for range 500 {
		k := newSessionKey(window.Session(time.Duration(1+r.IntN(20))*ms), window.OnTime(), 0)
		var times []int64
		for range 1 + r.IntN(40) {
			ts := r.Int64N(400) - 200
			times = append(times, ts)
			k.record(ts)
			if r.IntN(8) == 0 {
				k.restore(t)
			}
			checkLive(t, k, cut(k.assigner, times))
		}
	}
}

func checkLive(t *testing.T, k *sessionKey, want map[window.Window][]int64) {
	t.Helper()
	got := map[window.Window][]int64{}
	for i, s := range k.live.Live {
		if i > 0 && k.live.Live[i-1].Window.End > s.Window.Start {
			t.Fatalf("out of order:\n%v", k.live.Live)
		}
		got[s.Window] = slices.Sorted(slices.Values(k.state[s.ID]))
		last := got[s.Window][len(got[s.Window])-1]
		if at, ok := k.assigner.LastRecord(s.Window); !ok || at != last || s.Last != last {
			t.Fatalf("last of %v: got %d and %d, want %d", s.Window, at, s.Last, last)
		}
	}
	if !maps.EqualFunc(got, want, slices.Equal) || len(k.state) != len(want) {
		t.Fatalf("got %v, want %v, log:\n%s", got, want, k.log.String())
	}
}

// The result must not depend on when watermarks are sent, as long as no record
// is late: neither the windows nor what is in them.
func TestRule09_SessionsWhateverTheWatermarks(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	for range 300 {
		const delay = 15
		a := window.Session(time.Duration(1+r.IntN(12)) * ms)
		var times []int64
		for now := int64(0); len(times) < 40; now += r.Int64N(12) {
			times = append(times, now-r.Int64N(delay+1))
		}
		want := cut(a, times)
		for _, every := range []int{1, 2, 7, len(times)} {
			for _, trigger := range []window.Trigger{window.OnTime(), window.OnTime().EarlyCount(2)} {
				k := newSessionKey(a, trigger, 0)
				largest := int64(math.MinInt64)
				for i, ts := range times {
					k.record(ts)
					if largest = max(largest, ts); i%every == 0 {
						k.advance(max(k.watermark, largest-delay-1))
					}
				}
				k.advance(math.MaxInt64)
				if !maps.EqualFunc(k.results, want, slices.Equal) {
					t.Fatalf("watermark every %d records, times %v:\n got %v\nwant %v\n%s",
						every, times, k.results, want, k.log.String())
				}
				if len(k.live.Live)+len(k.state) > 0 {
					t.Fatalf("left over: %v %v", k.live.Live, k.state)
				}
			}
		}
	}
}

// Whatever comes late, accumulating results with their tombstones tell at the
// end the same as all records that were not refused.
func TestRule10_ResultsThatStand(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 1))
	for range 300 {
		a := window.Session(time.Duration(1+r.IntN(12)) * ms)
		trigger := []window.Trigger{
			window.OnTime(), window.OnTime().EarlyCount(1 + r.Int64N(3)),
			window.OnTime().LateCount(2), window.OnTime().EarlyCount(2).LateAtCleanup(),
		}[r.IntN(4)]
		k := newSessionKey(a, trigger, 200*ms)
		var times []int64
		for range 40 {
			ts := r.Int64N(200)
			times = append(times, ts)
			k.record(ts)
			k.advance(max(k.watermark, r.Int64N(200)))
		}
		k.advance(math.MaxInt64)
		if want := cut(a, times); !maps.EqualFunc(k.results, want, slices.Equal) {
			t.Fatalf("%+v, times %v:\n got %v\nwant %v\n%s", trigger, times, k.results, want, k.log.String())
		}
	}
}

// Discarding results take nothing back, and each record is in exactly one.
func TestRule11_DiscardingSessionsAddUp(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 2))
	for range 500 {
		trigger := window.OnTime().EarlyCount(r.Int64N(4)).LateCount(r.Int64N(4)).Discarding()
		k := newSessionKey(window.Session(10*ms), trigger, 200*ms)
		var times, got []int64
		for range 40 {
			ts := r.Int64N(200)
			times = append(times, ts)
			k.record(ts)
			k.advance(max(k.watermark, r.Int64N(200)))
		}
		k.advance(math.MaxInt64)
		for _, content := range k.results {
			got = append(got, content...)
		}
		slices.Sort(got)
		slices.Sort(times)
		if !slices.Equal(got, times) {
			t.Fatalf("%+v:\n got %v\nwant %v\n%s", trigger, got, times, k.log.String())
		}
	}
}

func TestSessionsDoNotAllocate(t *testing.T) {
	var live window.Sessions
	for ts := range int64(4) {
		live.Add(win(ts*1000, ts*1000+11))
	}
	ts := int64(3000)
	if n := testing.AllocsPerRun(100, func() {
		ts++
		m := live.Plan(win(ts, ts+11))
		for range m.Gone() {
			continue
		}
		live.Apply(m).Panes.Add(window.OnTime(), 1, false)
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}
