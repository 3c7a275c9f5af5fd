package operators_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// rec is the record of the tests here.
type rec struct {
	Key  string
	Time int64
	ID   int
	skip bool // carries a watermark, and is dropped behind the source
}

func (r rec) time() int64 { return r.Time }
func (r rec) key() string { return r.Key }

// event is what a script feeds: a record, or the watermark between two.
type event struct {
	rec       rec
	watermark int64
	isMark    bool
}

// at is a record of key "k" with its time as its ID.
func at(times ...int64) []event {
	return keyAt("k", times...)
}

func keyAt(key string, times ...int64) []event {
	var evs []event
	for _, ts := range times {
		evs = append(evs, event{rec: rec{Key: key, Time: ts, ID: int(ts)}})
	}
	return evs
}

// mark is a watermark.
func mark(watermark int64) []event {
	return []event{{watermark: watermark, isMark: true}}
}

// fed is a source of one split that gives exactly these records and
// watermarks.
type fed struct{ events []event }

func (f fed) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[rec], error) {
	r := &fedReader{size: env.BatchSize}
	if env.Mine(0) {
		r.events = f.events
	}
	return r, nil
}

type fedReader struct {
	events []event
	size   int
}

func (r *fedReader) Read(_ context.Context, b *pipeline.SourceBatch[rec]) error {
	if len(r.events) == 0 {
		return pipeline.ErrEndOfInput
	}
	b.Split = "fed"
	for len(r.events) > 0 {
		e := r.events[0]
		if e.isMark {
			b.Watermark = e.watermark
			b.Values = append(b.Values, rec{skip: true})
			r.events = r.events[1:]
			return nil
		}
		if len(b.Values) == r.size {
			return nil
		}
		b.Values = append(b.Values, e.rec)
		r.events = r.events[1:]
	}
	return nil
}

// shape is how a job is run; results must not depend on it.
type shape struct{ parallelism, batch int }

var shapes = []shape{{1, 1}, {1, 7}, {1, 256}, {3, 1}, {3, 7}, {3, 256}}

// job is a pipeline that a script feeds.
type job struct {
	*pipeline.Pipeline
	in pipeline.Stream[rec]
}

// newJob makes a job whose source has one subtask, since others, as long as they
// have yet to say that they have no split, would hold back the first watermarks.
func newJob(s shape, events ...[]event) job {
	p := pipeline.New(pipeline.DefaultParallelism(s.parallelism), pipeline.BatchSize(s.batch), pipeline.WatermarkInterval(0))
	src := pipeline.From(p, "fed", fed{slices.Concat(events...)}, pipeline.SourceWatermarks(rec.time), pipeline.Parallelism(1))
	in := pipeline.Process(src, "unmark", pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, rec], r rec) error {
		if !r.skip {
			c.Emit(r)
		}
		return nil
	}), pipeline.Parallelism(1))
	return job{p, in}
}

func (j job) keyed() pipeline.KeyedStream[string, rec] { return pipeline.KeyBy(j.in, rec.key) }

// run runs the job, and checks that no window is left in memory if it ran to
// the end.
func (j job) run(t testing.TB) {
	t.Helper()
	if err := j.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, s := range j.Stats() {
		if n := s.Gauges["windows"]; n != 0 {
			t.Errorf("operator %q: %d windows left", s.Operator, n)
		}
	}
}

// counter returns a metric of an operator over all subtasks.
func (j job) counter(operator, name string) int64 {
	var n int64
	for _, s := range j.Stats() {
		if s.Operator == operator {
			n += s.Counters[name]
		}
	}
	return n
}

// timed is a record with its event time.
type timed[T any] struct {
	Value T
	Time  int64
}

// collect is a sink that remembers.
type collect[T any] struct {
	mu  sync.Mutex
	got []timed[T]
}

func (s *collect[T]) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return s, nil
}

func (s *collect[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, v := range b.Values {
		s.got = append(s.got, timed[T]{v, b.Times[i]})
	}
	return nil
}

// gather collects a stream.
func gather[T any](in pipeline.Stream[T], name string) *collect[T] {
	s := &collect[T]{}
	pipeline.To(in, name, s)
	return s
}

// ids is the aggregation that shows everything: the IDs of the records. Its
// accumulators are slices, so one that is shared by mistake shows too.
func ids() operators.Aggregation[rec, []int, string] {
	return operators.Aggregation[rec, []int, string]{
		New:    func() []int { return make([]int, 0, 2) },
		Add:    func(acc *[]int, r rec) { *acc = append(*acc, r.ID) },
		Merge:  func(acc, other *[]int) { *acc = append(*acc, *other...) },
		Result: func(acc *[]int) string { return show(*acc) },
	}
}

func show(ids []int) string {
	return strings.Trim(fmt.Sprint(slices.Sorted(slices.Values(ids))), "[]")
}

type idResult = operators.Result[string, string]

// lines renders results in the order they were given. The event time is part
// of a line only where it is not that of rule 4.
func (s *collect[T]) lines() []string {
	var out []string
	for _, g := range s.got {
		line := fmt.Sprint(g.Value)
		if r, ok := any(g.Value).(idResult); ok && g.Time != r.Window.MaxTimestamp() {
			line += fmt.Sprintf(" at %d", g.Time)
		}
		out = append(out, line)
	}
	return out
}

// perWindow groups results by key and window, in order.
func perWindow(t testing.TB, s *collect[idResult]) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, g := range s.got {
		r := g.Value
		if g.Time != r.Window.MaxTimestamp() {
			t.Errorf("%v has event time %d", r, g.Time)
		}
		k := fmt.Sprint(r.Key, " ", r.Window)
		out[k] = append(out[k], fmt.Sprintf("%s (%v)", r.Value, r.Pane))
	}
	return out
}

// story runs a script through one Aggregate and returns its results and late
// records, a line each.
func story(t *testing.T, by window.Assigner, opts []pipeline.OperatorOption, events ...[]event) []string {
	t.Helper()
	var first []string
	for _, s := range shapes {
		j := newJob(s, events...)
		late := pipeline.NewTag[rec]("late")
		all := append([]pipeline.OperatorOption{operators.LateTo(late)}, opts...)
		out := operators.Aggregate(j.keyed(), "agg", by, ids(), all...)
		results, refused := gather(out, "results"), gather(pipeline.SideOutput(out, late), "refused")
		j.run(t)
		got := results.lines()
		for _, g := range refused.got {
			got = append(got, fmt.Sprintf("late %s@%d", g.Value.Key, g.Time))
		}
		if n := j.counter("agg", "late"); n != int64(len(refused.got)) {
			t.Errorf("%+v: metric late is %d, want %d", s, n, len(refused.got))
		}
		if s == shapes[0] {
			first = got
		} else if !slices.Equal(slices.Sorted(slices.Values(first)), slices.Sorted(slices.Values(got))) {
			t.Errorf("%+v: results differ:\n%s\nand with %+v:\n%s", s, strings.Join(got, "\n"), shapes[0], strings.Join(first, "\n"))
		}
	}
	return first
}

// expect compares lines.
func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

const end = math.MaxInt64
