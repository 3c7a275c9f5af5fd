package operators_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

type options = []pipeline.OperatorOption

// A result carries end-1, so it falls into the window around it, and is there
// before the watermark that closes both.
func TestRule04_WindowsChain(t *testing.T) {
	for _, s := range shapes {
		j := newJob(s, at(1, 12, 15), keyAt("other", 3, 13), mark(19), at(22, 38), mark(39))
		small := operators.Aggregate(j.keyed(), "small", window.Tumbling(10*milli), ids())
		count := operators.Aggregation[idResult, int, int]{
			Add:    func(acc *int, _ idResult) { *acc++ },
			Result: func(acc *int) int { return *acc },
		}
		large := operators.Aggregate(pipeline.KeyBy(small, func(r idResult) string { return r.Key }),
			"large", window.Tumbling(20*milli), count)
		out := gather(large, "out")
		j.run(t)
		got := out.lines()
		slices.Sort(got)
		expect(t, got, "k [0,20) 2 (on time #0 final)", "k [20,40) 2 (on time #0 final)",
			"other [0,20) 2 (on time #0 final)")
	}
}

func TestRule04_LateResultsKeepTheTimeOfTheirWindow(t *testing.T) {
	got := story(t, window.Tumbling(10*milli), options{operators.AllowedLateness(20 * milli)},
		at(5), mark(12), at(6))
	expect(t, got, "k [0,10) 5 (on time #0)", "k [0,10) 5 6 (late #1)") // a line names any other time
}

// The window is judged, and not the record: 3 is as old as 2, but one counts.
func TestRule05_CleanupAtMaxTimestampPlusLateness(t *testing.T) {
	got := story(t, window.Tumbling(10*milli), options{operators.AllowedLateness(5 * milli)},
		at(1), mark(13), at(2), mark(14), at(3), at(13), at(14), mark(15))
	expect(t, got,
		"k [0,10) 1 (on time #0)", "k [0,10) 1 2 (late #1)",
		"k [10,20) 13 14 (on time #0)", "late k@3")
}

func TestRule05_CleanupDoesNotOverflow(t *testing.T) {
	const forever = time.Duration(1<<63-1) / milli * milli
	for _, by := range []window.Assigner{window.Tumbling(10 * milli), window.Sliding(10*milli, 5*milli), window.Session(9 * milli), window.Global()} {
		got := story(t, by, options{operators.AllowedLateness(forever)}, at(5), mark(1<<40), at(6))
		if n := len(got); n == 0 || strings.Contains(strings.Join(got, "\n"), "late k@") {
			t.Errorf("%v: %s", by, strings.Join(got, "\n"))
		}
	}
	got := story(t, window.Tumbling(10*milli), options{operators.AllowedLateness(forever)}, at(end-3), mark(1<<40))
	if len(got) != 1 || !strings.Contains(got[0], "on time #0)") {
		t.Errorf("at the end of time: %q", got)
	}
}

// 12 is late for one of its windows and counts in the other; 3 is late for both.
func TestRule06_LateOnlyWhenEveryWindowRefused(t *testing.T) {
	for _, by := range []window.Assigner{window.Sliding(20*milli, 10*milli), plain{window.Sliding(20*milli, 10*milli)}} {
		got := story(t, by, nil, at(15), mark(20), at(12), at(3))
		expect(t, got, "k [0,20) 15 (on time #0 final)", "k [10,30) 12 15 (on time #0 final)", "late k@3")
	}
}

// gaps is an assigner with holes: a record there has no window, but is only
// late if it is behind the watermark.
type gaps struct{}

func (gaps) Assign(ts int64, dst []window.Window) []window.Window {
	if ts%20 < 10 {
		dst = append(dst, window.Window{Start: ts - ts%20, End: ts - ts%20 + 10})
	}
	return dst
}

func TestRule06_NotLateWithoutBeingLate(t *testing.T) {
	j := newJob(shapes[0], at(5), at(15), mark(30), at(16))
	late := pipeline.NewTag[rec]("late")
	out := operators.Aggregate(j.keyed(), "agg", gaps{}, ids(), operators.LateTo(late))
	results, refused := gather(out, "out"), gather(pipeline.SideOutput(out, late), "refused")
	j.run(t)
	expect(t, results.lines(), "k [0,10) 5 (on time #0 final)")
	if len(refused.got) != 1 || refused.got[0].Time != 16 {
		t.Errorf("late output: %v", refused.got)
	}
	if l, u := j.counter("agg", "late"), j.counter("agg", "unassigned"); l != 1 || u != 1 {
		t.Errorf("late %d, unassigned %d, want 1 and 1", l, u)
	}
}

func TestRule07_LateRecordJoinsLiveSession(t *testing.T) {
	// 8 would be a session [8,14), long over at 16; but it joins [12,18).
	got := story(t, window.Session(5*milli), nil, at(12), mark(16), at(8), at(1))
	expect(t, got, "k [8,18) 8 12 (on time #0 final)", "late k@1")
	// Nothing lives any more: refused.
	got = story(t, window.Session(5*milli), nil, at(12), mark(17), at(8))
	expect(t, got, "k [12,18) 12 (on time #0 final)", "late k@8")
}

func TestRule08_OneRecordBridgesSessions(t *testing.T) {
	got := story(t, window.Session(5*milli), nil,
		at(20, 0, 10), mark(3), at(5), at(15), keyAt("other", 11), mark(40), at(50))
	slices.Sort(got)
	expect(t, got,
		"k [0,26) 0 5 10 15 20 (on time #0 final)", "k [50,56) 50 (on time #0 final)",
		"other [11,17) 11 (on time #0 final)")
}

func TestRule09_ExactlyOneGapApart(t *testing.T) {
	got := story(t, window.Session(5*milli), nil, at(0, 5, 11))
	expect(t, got, "k [0,11) 0 5 (on time #0 final)", "k [11,17) 11 (on time #0 final)")
	// Whatever the watermarks are, and at the last moment.
	got = story(t, window.Session(5*milli), nil, at(0), mark(4), at(5), mark(9), at(10), mark(15), at(16))
	expect(t, got, "k [0,16) 0 5 10 (on time #0 final)", "k [16,22) 16 (on time #0 final)")
}

func TestRule09_SplitByDay(t *testing.T) {
	day := (24 * time.Hour).Milliseconds()
	got := story(t, window.Session(time.Hour).SplitByDay(time.UTC), nil, at(day-1000, day+1000))
	expect(t, got,
		fmt.Sprintf("k [%d,%d) %d (on time #0 final)", day-1000, day, day-1000),
		fmt.Sprintf("k [%d,%d) %d (on time #0 final)", day+1000, day+1000+3600_001, day+1000))
}

func TestRule10_SupersededSessionsAreTakenBack(t *testing.T) {
	got := story(t, window.Session(5*milli), options{operators.AllowedLateness(50 * milli)},
		at(0, 10), mark(20), at(5), mark(100))
	expect(t, got,
		"k [0,6) 0 (on time #0)", "k [10,16) 10 (on time #0)",
		"k [0,6)  (late #1 final tombstone)", "k [10,16)  (late #1 final tombstone)",
		"k [0,16) 0 5 10 (late #0)")
	// A session that grew, and is open again.
	got = story(t, window.Session(5*milli), options{operators.AllowedLateness(50 * milli)},
		at(0), mark(5), at(4), mark(9), mark(100))
	expect(t, got, "k [0,6) 0 (on time #0)", "k [0,6)  (late #1 final tombstone)", "k [0,10) 0 4 (on time #0)")
	// Early results as well; discarding ones stand.
	early := window.OnTime().EarlyCount(1)
	got = story(t, window.Session(5*milli), options{operators.Trigger(early)}, at(0, 3))
	expect(t, got, "k [0,6) 0 (early #0)", "k [0,6)  (early #1 final tombstone)",
		"k [0,9) 0 3 (early #0)", "k [0,9) 0 3 (on time #1 final)")
	got = story(t, window.Session(5*milli), options{operators.Trigger(early.Discarding())}, at(0, 3))
	expect(t, got, "k [0,6) 0 (early #0)", "k [0,9) 3 (early #0)")
}

func TestRule11_AccumulatingAndDiscarding(t *testing.T) {
	trigger := window.OnTime().EarlyCount(2)
	script := [][]event{at(0, 1, 2), mark(9), at(3, 4), mark(19), mark(40)}
	late := operators.AllowedLateness(10 * milli)
	expect(t, story(t, window.Tumbling(10*milli), options{operators.Trigger(trigger), late}, script...),
		"k [0,10) 0 1 (early #0)", "k [0,10) 0 1 2 (on time #1)",
		"k [0,10) 0 1 2 3 (late #2)", "k [0,10) 0 1 2 3 4 (late #3)")
	expect(t, story(t, window.Tumbling(10*milli), options{operators.Trigger(trigger.Discarding()), late}, script...),
		"k [0,10) 0 1 (early #0)", "k [0,10) 2 (on time #1)", "k [0,10) 3 (late #2)", "k [0,10) 4 (late #3)")
	expect(t, story(t, window.Tumbling(10*milli), options{operators.Trigger(window.OnTime().LateAtCleanup()), late}, script...),
		"k [0,10) 0 1 2 (on time #0)", "k [0,10) 0 1 2 3 4 (late #1 final)")
}

func TestRule11_NoEmptyPanes(t *testing.T) {
	for _, by := range assigners {
		if got := story(t, by, options{operators.AllowedLateness(50 * milli)}, mark(100), mark(200)); len(got) > 0 {
			t.Errorf("%v: results of no record: %q", by, got)
		}
	}
	// The window between two that have records gives none.
	expect(t, story(t, window.Sliding(20*milli, 10*milli), nil, at(5, 55)),
		"k [-10,10) 5 (on time #0 final)", "k [0,20) 5 (on time #0 final)",
		"k [40,60) 55 (on time #0 final)", "k [50,70) 55 (on time #0 final)")
}

func TestRule11_EarlyByEventTime(t *testing.T) {
	trigger := window.OnTime().EarlyEveryEventTime(10 * milli)
	expect(t, story(t, window.Tumbling(100*milli), options{operators.Trigger(trigger)},
		at(1), mark(10), mark(30), at(35), mark(39), mark(95), at(98)),
		"k [0,100) 1 (early #0)", "k [0,100) 1 35 (early #1)", "k [0,100) 1 35 98 (on time #2 final)")
}

// Purging at each pane leaves the window and its count of panes alone; the end
// of one window falls on the cleanup of another.
func TestRule12_PurgingIsNotCleanup(t *testing.T) {
	trigger := window.OnTime().EarlyCount(1).LateAtCleanup().Discarding()
	got := story(t, window.Tumbling(10*milli), options{operators.Trigger(trigger), operators.AllowedLateness(10 * milli)},
		at(1, 2), mark(9), at(3), at(11), mark(19), mark(29))
	expect(t, got,
		"k [0,10) 1 (early #0)", "k [0,10) 2 (early #1)", "k [10,20) 11 (early #0)", "k [0,10) 3 (late #2 final)")
}

func TestRule12_TimersOfSessionsMoveWithThem(t *testing.T) {
	// Were 5 or 10 to leave a timer behind, there would be a pane at its time.
	got := story(t, window.Session(5*milli), options{operators.AllowedLateness(3 * milli)},
		at(10), mark(1), at(5), mark(2), at(13), mark(15), mark(16), mark(18), mark(21), mark(30))
	expect(t, got, "k [5,19) 5 10 13 (on time #0)")
}

func TestRule13_OneWindowFiresOnce(t *testing.T) {
	for _, by := range []window.Assigner{window.Tumbling(10 * milli), window.Cumulative(10*milli, 10*milli), plain{window.Tumbling(10 * milli)}, window.Sliding(10*milli, 10*milli)} {
		got := story(t, by, options{operators.AllowedLateness(10 * milli)}, at(1, 2, 3), mark(9), mark(10), at(12, 13), mark(19), mark(29))
		expect(t, got, "k [0,10) 1 2 3 (on time #0)", "k [10,20) 12 13 (on time #0)")
	}
}

func TestRule28_NegativeTimes(t *testing.T) {
	expect(t, story(t, window.Tumbling(10*milli), nil, at(-1, -10, -11, 0)),
		"k [-20,-10) -11 (on time #0 final)", "k [-10,0) -10 -1 (on time #0 final)", "k [0,10) 0 (on time #0 final)")
	expect(t, story(t, window.Tumbling(10*milli).Offset(3*milli), nil, at(2, -7, -8)),
		"k [-17,-7) -8 (on time #0 final)", "k [-7,3) -7 2 (on time #0 final)")
	expect(t, story(t, window.Session(2*milli), nil, at(-1, 1, -4)),
		"k [-4,-1) -4 (on time #0 final)", "k [-1,4) -1 1 (on time #0 final)")
	// An end at -1 or 0 is a time like any other.
	expect(t, story(t, window.Sliding(1*milli, 1*milli), nil, at(0, -1), mark(0)),
		"k [-1,0) -1 (on time #0 final)", "k [0,1) 0 (on time #0 final)")
}

func TestRule30_NothingIsLeftWhenTheWatermarkHasPassed(t *testing.T) {
	for _, by := range assigners {
		if by == window.Assigner(window.Global()) {
			continue
		}
		for _, lateness := range []time.Duration{0, 30 * milli} {
			var evs [][]event
			for i := range int64(200) {
				evs = append(evs, keyAt(fmt.Sprint(i), i*100), mark(i*100))
			}
			var most int64
			j := newJob(shape{1, 256}, evs...)
			out := operators.Aggregate(j.keyed(), "agg", by, ids(), operators.AllowedLateness(lateness))
			watched := pipeline.Process(out, "watch", pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, int], _ idResult) error {
				for _, s := range j.Stats() {
					most = max(most, s.Gauges["windows"])
				}
				c.Emit(0)
				return nil
			}))
			gather(watched, "out")
			j.run(t)
			if most > 20 {
				t.Errorf("%v, lateness %v: up to %d windows in memory, want a few", by, lateness, most)
			}
		}
	}
}

func TestEarlyByProcessingTime(t *testing.T) {
	for _, by := range []window.Assigner{window.Global(), window.Session(time.Hour), window.Tumbling(time.Hour)} {
		p := pipeline.New(pipeline.DefaultParallelism(1))
		gate := make(chan struct{})
		src := pipeline.From(p, "held", held{fed{at(1, 2)}, gate}, pipeline.SourceWatermarks(rec.time))
		out := operators.Aggregate(pipeline.KeyBy(src, rec.key), "agg", by, ids(),
			operators.Trigger(window.OnTime().EarlyEvery(milli)))
		s := &collect[idResult]{}
		pipeline.To(pipeline.Process(out, "open", pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, idResult], r idResult) error {
			if r.Pane.Timing == window.EarlyPane {
				close(gate) // a second early pane would panic
			}
			c.Emit(r)
			return nil
		})), "out", s)
		if err := p.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		if len(s.got) != 2 || s.got[0].Value.Value != "1 2" || s.got[0].Value.Pane.Timing != window.EarlyPane || s.got[1].Value.Pane.String() != "on time #1 final" {
			t.Errorf("%v: %v", by, s.lines())
		}
	}
}

// held is a source that ends only when its gate opens.
type held struct {
	fed
	gate chan struct{}
}

func (h held) Open(ctx context.Context, env *pipeline.SourceEnv) (pipeline.Reader[rec], error) {
	r, err := h.fed.Open(ctx, env)
	return heldReader{r, h.gate}, err
}

type heldReader struct {
	pipeline.Reader[rec]
	gate chan struct{}
}

func (r heldReader) Read(ctx context.Context, b *pipeline.SourceBatch[rec]) error {
	err := r.Reader.Read(ctx, b)
	if errors.Is(err, pipeline.ErrEndOfInput) {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func TestGlobalByCountNeedsNoWatermarks(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	src := pipeline.From(p, "fed", fed{at(1, 2, 3, 4, 5)})
	out := gather(operators.Aggregate(pipeline.KeyBy(src, rec.key), "agg", window.Global(), ids(),
		operators.Trigger(window.OnTime().EarlyCount(2).Discarding())), "out")
	if err := p.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range out.got {
		got = append(got, g.Value.Value+" "+g.Value.Pane.String())
	}
	expect(t, got, "1 2 early #0", "3 4 early #1", "5 on time #2 final")
}

// Mistakes are those of the graph, at the user's line.
func TestMistakes(t *testing.T) {
	wrong := operators.Aggregation[rec, int, int]{}
	noMerge := ids()
	noMerge.Merge = nil
	tests := map[string]struct {
		add  func(in pipeline.KeyedStream[string, rec]) any
		want string
	}{
		"assigner is nil": {func(in pipeline.KeyedStream[string, rec]) any { return operators.Aggregate(in, "x", nil, ids()) }, "assigner is nil"},
		"assigner": {func(in pipeline.KeyedStream[string, rec]) any {
			return operators.Aggregate(in, "x", window.Tumbling(0), ids())
		}, "size is not positive"},
		"aggregation": {func(in pipeline.KeyedStream[string, rec]) any {
			return operators.Aggregate(in, "x", window.Global(), wrong)
		}, "the aggregation has no Add"},
		"merge": {func(in pipeline.KeyedStream[string, rec]) any {
			return operators.Aggregate(in, "x", window.Session(milli), noMerge)
		}, "the aggregation has no Merge"},
		"negative lateness": {func(in pipeline.KeyedStream[string, rec]) any {
			return operators.Aggregate(in, "x", window.Global(), ids(), operators.AllowedLateness(-milli))
		}, "AllowedLateness: -1ms is negative"},
		"fractional lateness": {func(in pipeline.KeyedStream[string, rec]) any {
			return operators.Aggregate(in, "x", window.Global(), ids(), operators.AllowedLateness(1))
		}, "AllowedLateness: 1ns is not a whole number of milliseconds"},
		"trigger": {func(in pipeline.KeyedStream[string, rec]) any {
			return operators.Aggregate(in, "x", window.Global(), ids(), operators.Trigger(window.OnTime().EarlyCount(-1)))
		}, "Trigger: invalid trigger: early count is negative"},
		"tag of another type": {func(in pipeline.KeyedStream[string, rec]) any {
			return operators.Aggregate(in, "x", window.Global(), ids(), operators.LateTo(pipeline.NewTag[string]("l")))
		}, `LateTo: the tag "l" carries string, the records are operators_test.rec`},
		"reduce nil": {func(in pipeline.KeyedStream[string, rec]) any { return operators.Reduce(in, "x", window.Global(), nil) }, "the reducing function is nil"},
		"rollup trigger": {func(in pipeline.KeyedStream[string, rec]) any {
			return operators.Rollup(in, "x", []time.Duration{milli}, ids(), operators.Trigger(window.OnTime()))
		}, "Trigger is not an option of this operator"},
		"rollup without sizes": {func(in pipeline.KeyedStream[string, rec]) any { return operators.Rollup(in, "x", nil, ids()) }, "there is no window size"},
		"rollup sizes": {func(in pipeline.KeyedStream[string, rec]) any {
			return operators.Rollup(in, "x", []time.Duration{2 * milli, 5 * milli}, ids())
		}, "the size 5ms is not a multiple of the finer size 2ms"},
		"rollup equal sizes": {func(in pipeline.KeyedStream[string, rec]) any {
			return operators.Rollup(in, "x", []time.Duration{2 * milli, 2 * milli}, ids())
		}, "the size 2ms is not a multiple"},
		"setting of another": {func(in pipeline.KeyedStream[string, rec]) any {
			return pipeline.Process(in, "x", pipeline.Func(func(*pipeline.Context[string, int], rec) error { return nil }), operators.AllowedLateness(milli))
		}, "AllowedLateness is not an option of this operator"},
	}
	for name, test := range tests {
		j := newJob(shapes[0])
		test.add(j.keyed())
		err := j.Validate()
		if !errors.Is(err, pipeline.ErrInvalidGraph) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "rules_test.go:") {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	p := pipeline.New()
	src := pipeline.From(p, "fed", fed{})
	gather(operators.Aggregate(pipeline.KeyBy(src, rec.key), "x", window.Tumbling(milli), ids()), "out")
	if err := p.Validate(); err == nil || !strings.Contains(err.Error(), "has no watermark strategy") {
		t.Errorf("without watermarks: got %v", err)
	}
}

// A record or window whose user code panics goes to the dead letters, and takes
// nothing else with it.
func TestPanicsAreRejected(t *testing.T) {
	agg := ids()
	agg.Add = func(acc *[]int, r rec) {
		if r.ID == 3 {
			panic("three")
		}
		*acc = append(*acc, r.ID)
	}
	agg.Merge = func(acc, other *[]int) {
		if slices.Contains(*other, 24) {
			panic("twenty-four")
		}
		*acc = append(*acc, *other...)
	}
	agg.Result = func(acc *[]int) string {
		if slices.Contains(*acc, 12) {
			panic("twelve")
		}
		return show(*acc)
	}
	for _, lateness := range []time.Duration{0, 40 * milli} {
		for _, add := range []func(in pipeline.KeyedStream[string, rec]) pipeline.Stream[idResult]{
			func(in pipeline.KeyedStream[string, rec]) pipeline.Stream[idResult] {
				return operators.Aggregate(in, "x", window.Tumbling(10*milli), agg, operators.AllowedLateness(lateness))
			},
			func(in pipeline.KeyedStream[string, rec]) pipeline.Stream[idResult] {
				return operators.Aggregate(in, "x", window.Sliding(20*milli, 5*milli), agg, operators.AllowedLateness(lateness))
			},
			func(in pipeline.KeyedStream[string, rec]) pipeline.Stream[idResult] {
				return operators.Aggregate(in, "x", window.Session(2*milli), agg, operators.AllowedLateness(lateness))
			},
			func(in pipeline.KeyedStream[string, rec]) pipeline.Stream[idResult] {
				return operators.Rollup(in, "x", []time.Duration{5 * milli, 10 * milli, 40 * milli}, agg, operators.AllowedLateness(lateness))
			},
		} {
			j := newJob(shape{1, 7}, keyAt("a", 3), at(3, 5), mark(9), keyAt("b", 12), at(12, 15, 24, 29), mark(29), at(5, 24, 33, 35), mark(60), keyAt("c", 61))
			out, dead := gather(add(j.keyed()), "out"), gather(pipeline.DeadLetters(j.Pipeline), "dead")
			j.run(t) // and nothing is left
			if !strings.Contains(strings.Join(out.lines(), "\n"), "c ") || len(dead.got) < 2 {
				t.Errorf("got %q, dead letters %v", out.lines(), dead.got)
			}
		}
	}
}
