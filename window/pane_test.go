package window_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/millrace/millrace/window"
)

func TestRule11_Panes(t *testing.T) {
	datadriven.Walk(t, "testdata/panes", func(t *testing.T, path string) {
		var (
			trigger  window.Trigger
			lateness time.Duration
			p        window.PaneState
		)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var (
				pane window.Pane
				ok   bool
			)
			switch d.Cmd {
			case "window":
				trigger, lateness, p = parseTrigger(t, d), 0, window.PaneState{}
				if d.HasArg("lateness") {
					lateness = time.Hour
				}
			case "add":
				n := int64(1)
				d.MaybeScanArgs(t, "n", &n)
				pane, ok = p.Add(trigger, n, d.HasArg("past"))
			case "early":
				pane, ok = p.Early()
			case "end":
				pane, ok = p.End(trigger, lateness)
			case "cleanup":
				pane, ok = p.Cleanup()
			case "tombstone":
				pane, ok = p.Tombstone(trigger)
			default:
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			state := fmt.Sprintf("%v, %d fresh\n", p.Phase, p.Fresh)
			if ok {
				return fmt.Sprintf("%v; %s", pane, state)
			}
			return state
		})
	})
}

// A window sees any events in any order; its panes keep the rules.
func TestRule11_PanesWhateverHappens(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 1))
	for range 20_000 {
		trigger := window.OnTime().EarlyCount(r.Int64N(4)).LateCount(r.Int64N(4))
		if r.IntN(2) == 0 {
			trigger = trigger.Discarding()
		}
		lateness := time.Duration(r.IntN(2)) * time.Hour
		var (
			p              window.PaneState
			records, given int64
			panes          []window.Pane
			past, closed   bool
			onTime         int
		)
		for range 12 {
			var (
				pane window.Pane
				ok   bool
			)
			before := p.Fresh
			switch r.IntN(6) {
			case 0:
				pane, ok = p.End(trigger, lateness)
				past, closed = true, closed || lateness == 0
			case 1:
				pane, ok = p.Early()
			case 2:
				if past {
					pane, ok = p.Cleanup()
					closed = true
				}
			default:
				if !closed {
					records++
					before++
				}
				pane, ok = p.Add(trigger, 1, past)
			}
			if !ok {
				continue
			}
			given += before
			if pane.Timing == window.OnTimePane {
				onTime++
			}
			if before == 0 && (pane.Timing != window.OnTimePane || trigger.Accumulation == window.Discarding) {
				t.Fatalf("%+v: empty pane %v after %v", trigger, pane, panes)
			}
			if pane.Index != len(panes) || p.Fresh != 0 {
				t.Fatalf("%+v: pane %v after %v, state %+v", trigger, pane, panes, p)
			}
			if n := len(panes); n > 0 && (panes[n-1].Final || panes[n-1].Timing > pane.Timing) {
				t.Fatalf("%+v: pane %v after %v", trigger, pane, panes)
			}
			panes = append(panes, pane)
		}
		if onTime > 1 || given+p.Fresh != records {
			t.Fatalf("%+v: %v hold %d of %d records, %d fresh", trigger, panes, given, records, p.Fresh)
		}
		if closed && p.Fresh != 0 {
			t.Fatalf("%+v: closed with %d fresh", trigger, p.Fresh)
		}
	}
}

func TestTriggerValidate(t *testing.T) {
	for _, c := range []struct {
		trigger window.Trigger
		want    string
	}{
		{window.OnTime().EarlyEvery(-1 * ms), "invalid trigger: early interval is negative"},
		{window.OnTime().EarlyEvery(1), "invalid trigger: early interval is not a whole number of milliseconds"},
		{window.OnTime().EarlyEveryEventTime(-1 * ms), "invalid trigger: early event interval is negative"},
		{window.OnTime().EarlyCount(-1), "invalid trigger: early count is negative"},
		{window.OnTime().LateCount(-1), "invalid trigger: late count is negative"},
		{window.Trigger{Accumulation: 2}, "invalid trigger: unknown accumulation"},
	} {
		err := c.trigger.Validate()
		if err == nil || err.Error() != c.want || !errors.Is(err, window.ErrInvalidTrigger) {
			t.Errorf("%+v: got %v, want %v", c.trigger, err, c.want)
		}
	}
	ok := window.OnTime().EarlyEvery(time.Second).EarlyEveryEventTime(time.Minute).EarlyCount(5).LateAtCleanup()
	if err := ok.Validate(); err != nil {
		t.Errorf("%+v: %v", ok, err)
	}
	if (window.Trigger{}) != window.OnTime() || ok.Discarding().Accumulating() != ok {
		t.Error("the zero value is not on time and accumulating")
	}
}

func TestEarlyEventAt(t *testing.T) {
	trigger := window.OnTime().EarlyEveryEventTime(10 * ms)
	for _, c := range []struct {
		w         window.Window
		watermark int64
		want      int64
		ok        bool
	}{
		{win(0, 100), math.MinInt64, 10, true},
		{win(5, 100), math.MinInt64, 10, true},
		{win(-5, 100), math.MinInt64, 0, true},
		{win(0, 100), 10, 20, true},
		{win(0, 100), 47, 50, true},
		{win(0, 100), 90, 0, false},
		{win(0, 91), 80, 0, false}, // would coincide with the end
		{win(0, 92), 80, 90, true},
		{win(0, 100), math.MaxInt64, 0, false},
		{window.Global().Window(0), 3, 10, true},
	} {
		got, ok := trigger.EarlyEventAt(c.w, c.watermark)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%v at watermark %d: got %d, %v, want %d, %v", c.w, c.watermark, got, ok, c.want, c.ok)
		}
	}
	if _, ok := window.OnTime().EarlyEventAt(win(0, 100), 0); ok {
		t.Error("got an early firing, want none")
	}
}

func TestEarlyAt(t *testing.T) {
	if at, ok := window.OnTime().EarlyEvery(time.Second).EarlyAt(42); at != 1042 || !ok {
		t.Errorf("got %d, %v, want 1042", at, ok)
	}
	if _, ok := window.OnTime().EarlyAt(42); ok {
		t.Error("got an early firing, want none")
	}
}
