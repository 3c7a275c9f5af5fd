package operators_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
)

const ms = time.Millisecond

// dedupeRun is what became of a script.
type dedupeRun struct {
	passed, dropped []string // "key@time", sorted
	counters        map[string]int64
	gauges          map[string]int64
}

func runDedupe(t testing.TB, s shape, horizon time.Duration, opts []pipeline.OperatorOption, events ...[]event) dedupeRun {
	t.Helper()
	j := newJob(s, events...)
	dups := pipeline.NewTag[rec]("duplicates")
	out := operators.Dedupe(j.in, "dedupe", rec.key, horizon, append(opts, operators.DuplicatesTo(dups))...)
	passed, dropped := gather(out, "passed"), gather(pipeline.SideOutput(out, dups), "dropped")
	j.run(t)
	r := dedupeRun{recLines(t, passed), recLines(t, dropped), map[string]int64{}, map[string]int64{}}
	for _, st := range j.Stats() {
		if st.Operator == "dedupe" {
			for name, n := range st.Counters {
				r.counters[name] += n
			}
			for name, n := range st.Gauges {
				r.gauges[name] += n
			}
		}
	}
	if got := r.counters["duplicates"]; got != int64(len(dropped.got)) {
		t.Errorf("%+v: metric duplicates is %d, want %d", s, got, len(dropped.got))
	}
	if r.gauges["ids"] != 0 || r.gauges["bloom_bytes"] != 0 {
		t.Errorf("%+v: left at the end: %v", s, r.gauges)
	}
	return r
}

func recLines(t testing.TB, s *collect[rec]) []string {
	t.Helper()
	lines := []string{}
	for _, g := range s.got {
		if g.Time != g.Value.Time {
			t.Errorf("%v has event time %d", g.Value, g.Time)
		}
		lines = append(lines, fmt.Sprintf("%s@%d#%d", g.Value.Key, g.Time, g.Value.ID))
	}
	slices.Sort(lines)
	return lines
}

func TestDedupe(t *testing.T) {
	lateness := operators.AllowedLateness(20 * ms)
	const low, high = math.MinInt64, math.MaxInt64
	for _, c := range []struct {
		name    string
		horizon time.Duration
		opts    []pipeline.OperatorOption
		events  []event
		dropped []int64
		late    int64
	}{
		{name: "exactly the horizon is within it", horizon: 10 * ms, events: at(0, 10, 21), dropped: []int64{10}},
		{name: "before as well as after", horizon: 10 * ms, events: at(100, 90, 89, 110, 111), dropped: []int64{90, 110}},
		{name: "a duplicate prolongs nothing", horizon: 10 * ms, events: at(0, 8, 16, 24, 32), dropped: []int64{8, 24}},
		{name: "several times of one id", horizon: 10 * ms, events: at(100, 50, 0, 75, 60, 10, 95, 85),
			dropped: []int64{10, 60, 85, 95}},
		{name: "horizon 0", horizon: 0, events: at(5, 6, 5, 6, 7), dropped: []int64{5, 6}},
		{name: "an early watermark forgets nothing needed", horizon: 10 * ms,
			events: slices.Concat(at(100), mark(109), at(110)), dropped: []int64{110}},
		{name: "forgotten ids come anew", horizon: 10 * ms,
			events: slices.Concat(at(100), mark(500), at(600, 605), mark(700), at(701)), dropped: []int64{605}},
		{name: "a late repetition of what is forgotten passes", horizon: 10 * ms,
			events: slices.Concat(at(100), mark(110), at(100)), late: 1},
		{name: "a late repetition of what is remembered does not", horizon: 10 * ms,
			events: slices.Concat(at(100), mark(109), at(100, 98)), dropped: []int64{98, 100}},
		{name: "a late record that is new", horizon: 10 * ms,
			events: slices.Concat(mark(105), at(100, 99, 80, 80)), dropped: []int64{99}, late: 3},
		{name: "allowed lateness", horizon: 10 * ms, opts: []pipeline.OperatorOption{lateness},
			events: slices.Concat(at(100), mark(129), at(100), mark(130), at(100)), dropped: []int64{100}, late: 1},
		{name: "the ends of time", horizon: 10 * ms,
			events: at(low, low+10, low+11, high-1, high-11, high-12, 0), dropped: []int64{low + 10, high - 11}, late: 1},
		{name: "a horizon without end", horizon: math.MaxInt64 / ms * ms,
			events: slices.Concat(at(0), mark(1<<40), at(1<<41, 1<<50)), dropped: []int64{1 << 41}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, s := range shapes {
				got := runDedupe(t, s, c.horizon, c.opts, c.events)
				var dropped []string
				for _, ts := range c.dropped {
					dropped = append(dropped, fmt.Sprintf("k@%d#%d", ts, ts))
				}
				slices.Sort(dropped)
				if !slices.Equal(got.dropped, dropped) {
					t.Errorf("%+v: dropped %v, want %v", s, got.dropped, dropped)
				}
				if got.counters["late"] != c.late {
					t.Errorf("%+v: metric late is %d, want %d", s, got.counters["late"], c.late)
				}
			}
		})
	}
}

// naiveDedupe is Dedupe without forgetting anything in fact.
func naiveDedupe(events []event, horizon, keep int64) (passed, dropped []string) {
	through := map[string][]int64{}
	watermark := int64(math.MinInt64)
	for _, e := range events {
		if e.isMark {
			watermark = e.watermark
			continue
		}
		r := e.rec
		line := fmt.Sprintf("%s@%d#%d", r.Key, r.Time, r.ID)
		if slices.ContainsFunc(through[r.Key], func(s int64) bool {
			return max(s-r.Time, r.Time-s) <= horizon && s+keep > watermark
		}) {
			dropped = append(dropped, line)
			continue
		}
		through[r.Key] = append(through[r.Key], r.Time)
		passed = append(passed, line)
	}
	slices.Sort(passed)
	slices.Sort(dropped)
	return passed, dropped
}

// randomDedupe makes a stream out of order, with some late records. Ids come
// in clusters, at distances around the horizon.
func randomDedupe(r *rand.Rand, n int, horizon int64) []event {
	var events []event
	var now int64
	watermark := int64(math.MinInt64)
	keys := 1 + r.IntN(200)
	for i := range n {
		now += r.Int64N(3)
		ts := now - r.Int64N(2*horizon+2)
		if r.IntN(20) == 0 {
			ts -= r.Int64N(4 * (horizon + 1))
		}
		events = append(events, event{rec: rec{Key: fmt.Sprint("id", r.IntN(keys)), Time: ts, ID: i}})
		if r.IntN(10) == 0 {
			if next := now - r.Int64N(horizon+2); next > watermark {
				watermark = next
				events = append(events, mark(watermark)...)
			}
		}
	}
	return events
}

func TestDedupeAgainstNaive(t *testing.T) {
	seeds := uint64(30)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 7))
		horizon := []int64{0, 1, 7, 100, 1000}[seed%5]
		lateness := []int64{0, 0, 50, 500}[seed%4]
		events := randomDedupe(r, 1500, horizon)
		passed, dropped := naiveDedupe(events, horizon, horizon+lateness)
		for _, s := range shapes {
			opts := []pipeline.OperatorOption{operators.AllowedLateness(time.Duration(lateness) * ms)}
			if seed%3 == 0 {
				opts = append(opts, operators.TinyFilters())
			}
			got := runDedupe(t, s, time.Duration(horizon)*ms, opts, events)
			if !slices.Equal(got.passed, passed) || !slices.Equal(got.dropped, dropped) {
				t.Fatalf("seed %d %+v: %d passed, %d dropped; want %d and %d\nfirst difference: %s", seed, s,
					len(got.passed), len(got.dropped), len(passed), len(dropped), firstDifference(got.passed, passed))
			}
		}
	}
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("got %s, want %s", got[i], want[i])
		}
	}
	return "one is longer"
}

// TestRule27_AFalsePositiveDropsNothing has filters that take every other new
// id for a known one.
func TestRule27_AFalsePositiveDropsNothing(t *testing.T) {
	var events []event
	for i := range 20_000 {
		events = append(events, keyAt(fmt.Sprint("id", i), int64(i))...)
		if i%500 == 499 {
			events = append(events, mark(int64(i-1))...)
		}
	}
	for _, s := range []shape{{1, 256}, {3, 7}} {
		got := runDedupe(t, s, 5*time.Second, []pipeline.OperatorOption{operators.TinyFilters()}, events)
		if len(got.passed) != 20_000 || len(got.dropped) != 0 {
			t.Errorf("%+v: %d passed and %d were dropped, want all 20000 and none", s, len(got.passed), len(got.dropped))
		}
		if n := got.counters["false_positives"]; n < 4000 {
			t.Errorf("%+v: the filters were wrong %d times only, the test shows nothing", s, n)
		}
		if got.counters["bloom_hits"] != got.counters["false_positives"] {
			t.Errorf("%+v: %v", s, got.counters)
		}
	}
}

// TestRule27_BloomGenerationsExpireInEventTime sends the same ids again and
// again, each time a little more than the horizon later: a filter that kept
// them would claim to know them.
func TestRule27_BloomGenerationsExpireInEventTime(t *testing.T) {
	var events []event
	const ids, rounds = 1000, 20
	for round := range rounds {
		for i := range ids {
			events = append(events, keyAt(fmt.Sprint("id", i), int64(round*100_000+i))...)
		}
		events = append(events, mark(int64(round*100_000+50_000))...)
	}
	exact := runDedupe(t, shape{1, 256}, 10*time.Second, nil, events)
	if len(exact.dropped) != 0 || exact.counters["bloom_hits"] > ids*rounds*2/100 {
		t.Errorf("exact: %d dropped, %v", len(exact.dropped), exact.counters)
	}
	approximate := runDedupe(t, shape{1, 256}, 10*time.Second, []pipeline.OperatorOption{operators.Approximate(0.001)}, events)
	if len(approximate.dropped) > ids*rounds*2/1000 {
		t.Errorf("approximate: %d dropped", len(approximate.dropped))
	}
}

func TestDedupeApproximate(t *testing.T) {
	tooLargeForRace(t)
	r := rand.New(rand.NewPCG(3, 3))
	n, rate := 300_000, 0.01
	if testing.Short() {
		n = 60_000
	}
	perMilli := n / 2000 // two horizons long
	var events []event
	for i := range n {
		ts := int64(i / perMilli)
		events = append(events, event{rec: rec{Key: fmt.Sprint("id", i), Time: ts, ID: i}})
		if i > 0 && i%5 == 0 {
			old := i - 1 - r.IntN(min(i, n/2))
			events = append(events, event{rec: rec{Key: fmt.Sprint("id", old), Time: ts, ID: n}})
		}
		if i%1000 == 0 {
			events = append(events, mark(ts-50)...)
		}
	}
	for _, s := range []shape{{1, 256}, {3, 7}} {
		for _, opts := range [][]pipeline.OperatorOption{
			{operators.Approximate(rate)},
			{operators.Approximate(rate), operators.ExpectedRate(1000 * float64(perMilli))},
		} {
			got := runDedupe(t, s, time.Second, opts, events)
			wrong := 0
			for _, line := range got.dropped {
				if !strings.HasSuffix(line, fmt.Sprint("#", n)) {
					wrong++
				}
			}
			// Once, and not necessarily the first time: what repeats an id that was
			// dropped by mistake is no duplicate.
			times := map[string]int{}
			for _, line := range got.passed {
				id, _, _ := strings.Cut(line, "@")
				if times[id]++; times[id] > 1 {
					t.Fatalf("%+v: %s passed twice", s, id)
				}
			}
			observed := float64(wrong) / float64(n)
			if observed > rate {
				t.Errorf("%+v: a rate of %v new ids was dropped, at most %v is allowed", s, observed, rate)
			}
			estimate := float64(got.gauges["false_positives_per_billion"]) / 1e9 / float64(s.parallelism)
			if observed > 3*estimate+1e-3 || estimate > rate {
				t.Errorf("%+v: a rate of %v new ids was dropped, the metric says %v", s, observed, estimate)
			}
			t.Logf("%+v: dropped %.5f of the new, estimated %.5f", s, observed, estimate)
		}
	}
}

// ascending counts up to n: each record is a new id, a thousand to a second.
type ascending struct {
	n     int
	look  func(at int)
	every int
}

func (e ascending) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[int64], error) {
	r := &ascendingReader{ascending: e, size: env.BatchSize}
	if !env.Mine(0) {
		r.next = e.n
	}
	return r, nil
}

type ascendingReader struct {
	ascending
	size, next int
}

func (r *ascendingReader) Read(_ context.Context, b *pipeline.SourceBatch[int64]) error {
	if r.next == r.n {
		return pipeline.ErrEndOfInput
	}
	b.Split = "0"
	for range min(r.size, r.n-r.next) {
		b.Values = append(b.Values, int64(r.next))
		r.next++
		if r.next%r.every == 0 {
			r.look(r.next)
		}
	}
	return nil
}

// TestRule30_DedupeStateIsFlat runs millions of ids through a horizon of ten
// seconds, and looks at what is remembered on the way.
func TestRule30_DedupeStateIsFlat(t *testing.T) {
	tooLargeForRace(t)
	n := 4_000_000
	if testing.Short() {
		n = 400_000
	}
	const horizon = 10_000
	for _, c := range []struct {
		name string
		opts []pipeline.OperatorOption
		ids  int64 // at most
	}{
		{"exact", nil, horizon * 12 / 10},
		{"approximate", []pipeline.OperatorOption{operators.Approximate(1e-4)}, horizon * 16 / 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pipeline.New(pipeline.DefaultParallelism(2), pipeline.WatermarkInterval(0))
			var ids, bytes []int64
			look := func(at int) {
				var i, b int64
				for _, s := range p.Stats() {
					if s.Operator == "dedupe" {
						i += s.Gauges["ids"]
						b += s.Gauges["bloom_bytes"]
					}
				}
				if at > 5*horizon {
					ids, bytes = append(ids, i), append(bytes, b)
				}
			}
			src := pipeline.From(p, "ids", ascending{n, look, n / 40}, pipeline.BoundedDisorder(func(i int64) int64 { return i }, 100*ms))
			out := operators.Dedupe(src, "dedupe", func(i int64) int64 { return i }, horizon*ms, c.opts...)
			count := &counting{}
			pipeline.To(out, "out", count, pipeline.Parallelism(1))
			if err := p.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			if c.name == "exact" && count.n != n {
				t.Errorf("%d passed, want %d", count.n, n)
			}
			slack := int64(8 * 256 * 4) // what is in flight between source and operator
			if most := slices.Max(ids); most > c.ids+slack {
				t.Errorf("%d ids remembered at most, want no more than %d", most, c.ids)
			}
			half := len(bytes) / 2
			if first, second := slices.Max(bytes[:half]), slices.Max(bytes[half:]); second > first*5/4 {
				t.Errorf("filters grow: %d bytes in the first half, %d in the second", first, second)
			}
			t.Logf("ids at most %d, filters %d bytes", slices.Max(ids), slices.Max(bytes))
		})
	}
}

// counting is a sink that counts.
type counting struct{ n int }

func (c *counting) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[int64], error) {
	return c, nil
}

func (c *counting) Write(_ context.Context, b *pipeline.Records[int64]) error {
	c.n += b.Len()
	return nil
}

func TestDedupeMistakes(t *testing.T) {
	tag := pipeline.NewTag[string]("dups")
	for want, opts := range map[string][]pipeline.OperatorOption{
		"Approximate: the false-positive rate is 1, must be between 0 and 1":                    {operators.Approximate(1)},
		"ExpectedRate: -1 ids a second, must be above 0":                                        {operators.ExpectedRate(-1)},
		`DuplicatesTo: the tag "dups" carries string, the records are operators_test.rec`:       {operators.DuplicatesTo(tag)},
		"DuplicatesTo: the tag has no name":                                                     {operators.DuplicatesTo(pipeline.Tag[rec]{})},
		`operator "dedupe" works in event time, but its source "fed" has no watermark strategy`: nil,
		`operator "map": Approximate is not an option of this operator`:                         nil,
		`the horizon is not a whole number of milliseconds: 1ns`:                                nil,
		"KeyBy: the key function is nil":                                                        nil,
	} {
		p := pipeline.New()
		src := pipeline.From(p, "fed", fed{})
		out := operators.Dedupe(src, "dedupe", rec.key, 1, opts...)
		out = operators.Dedupe(out, "dedupe without id", (func(rec) string)(nil), 0)
		gather(operators.Map(out, "map", func(r rec) rec { return r }, operators.Approximate(0.1)), "out")
		err := p.Validate()
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, pipeline.ErrInvalidGraph) {
			t.Errorf("got %v\nwant in it %q", err, want)
		}
	}
	p := pipeline.New()
	src := pipeline.From(p, "fed", fed{}, pipeline.SourceWatermarks(rec.time))
	gather(operators.Dedupe(src, "dedupe", rec.key, -time.Second), "out")
	if err := p.Validate(); err == nil || !strings.Contains(err.Error(), "the horizon is negative: -1s") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkDedupe compares the modes with the map one
// would write by hand, renewed every horizon. One record in ten is a duplicate. The horizon holds a hundred thousand ids,
// or a million.
func BenchmarkDedupe(b *testing.B) {
	id := func(i int64) int64 { return i - i%10/9 }
	for _, horizon := range []int64{100_000, 1_000_000} {
		run := func(name string, dedupe func(pipeline.Stream[int64]) pipeline.Stream[int64]) {
			b.Run(fmt.Sprintf("%s/ids=%d", name, horizon), func(b *testing.B) {
				b.ReportAllocs()
				p := pipeline.New(pipeline.DefaultParallelism(1))
				src := pipeline.From(p, "ids", ascending{b.N, func(int) {}, b.N},
					pipeline.BoundedDisorder(func(i int64) int64 { return i }, 100*ms))
				pipeline.To(dedupe(src), "out", &counting{})
				if err := p.Run(context.Background()); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
		mode := func(opts ...pipeline.OperatorOption) func(in pipeline.Stream[int64]) pipeline.Stream[int64] {
			return func(in pipeline.Stream[int64]) pipeline.Stream[int64] {
				return operators.Dedupe(in, "dedupe", id, time.Duration(horizon)*ms, opts...)
			}
		}
		run("exact", mode())
		run("exact-expected", mode(operators.ExpectedRate(1000)))
		run("approximate=1e-3", mode(operators.Approximate(1e-3), operators.ExpectedRate(1000)))
		run("approximate=1e-6", mode(operators.Approximate(1e-6), operators.ExpectedRate(1000)))
		run("map", func(in pipeline.Stream[int64]) pipeline.Stream[int64] {
			now, before := map[int64]int64{}, map[int64]int64{}
			return operators.Filter(in, "map", func(i int64) bool {
				if i%horizon == 0 { // what is older than two horizons is forgotten
					now, before = map[int64]int64{}, now
				}
				_, known := now[id(i)]
				if !known {
					_, known = before[id(i)]
					now[id(i)] = i
				}
				return !known
			})
		})
	}
}
