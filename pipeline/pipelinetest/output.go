package pipelinetest

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/pipeline"
)

// Event is what reached an output: a record, or a watermark.
type Event[T any] struct {
	Record[T]
	// Watermark says that Time is a watermark and there is no value.
	Watermark bool
	// Subtask is the subtask of the output.
	Subtask int
}

// String returns value@time, or "watermark time".
func (e Event[T]) String() string {
	if e.Watermark {
		return "watermark " + timeText(e.Time)
	}
	return e.Record.String()
}

// Tap records what reaches an output. It is made by [Output].
type Tap[T any] struct {
	k    *Kit
	name string

	mu        sync.Mutex
	events    []Event[T]    // all there were
	taken     int           // how many of them Take has returned
	told      int           // how many of them Events has returned
	watermark []int64       // by subtask
	gate      chan struct{} // closed by Release; nil when not held
}

// Output ends a stream in a tap. It has one subtask, so that records and
// watermarks come in one order; with [pipeline.Parallelism] among the options
// it has several, and sees the watermark of each.
func Output[T any](k *Kit, s pipeline.Stream[T], opts ...pipeline.OperatorOption) *Tap[T] {
	t := &Tap[T]{k: k, name: fmt.Sprintf("output %d", len(k.taps)+1)}
	opts = append([]pipeline.OperatorOption{pipeline.Parallelism(1)}, opts...)
	end := pipeline.Process(s, t.name, func() *tapOperator[T] { return &tapOperator[T]{tap: t} }, opts...)
	pipeline.To(end, t.name+" end", nowhere{}, opts...)
	k.taps = append(k.taps, t)
	return t
}

// Take settles and returns the records that came since the last call, in
// order.
func (t *Tap[T]) Take() []Record[T] {
	t.k.t.Helper()
	t.k.Settle()
	t.mu.Lock()
	defer t.mu.Unlock()
	var records []Record[T]
	for _, e := range t.events[t.taken:] {
		if !e.Watermark {
			records = append(records, e.Record)
		}
	}
	t.taken = len(t.events)
	return records
}

// Values is [Tap.Take] without the event times.
func (t *Tap[T]) Values() []T {
	t.k.t.Helper()
	var values []T
	for _, r := range t.Take() {
		values = append(values, r.Value)
	}
	return values
}

// Events settles and returns the records and watermarks that came since the
// last call of Events or Transcript, in order. Take and Events count for
// themselves: neither takes records away from the other.
func (t *Tap[T]) Events() []Event[T] {
	t.k.t.Helper()
	t.k.Settle()
	t.mu.Lock()
	defer t.mu.Unlock()
	events := slices.Clone(t.events[t.told:])
	t.told = len(t.events)
	return events
}

// Transcript is [Tap.Events] as text: "a@5, b@6, watermark 4".
func (t *Tap[T]) Transcript() string {
	t.k.t.Helper()
	var lines []string
	for _, e := range t.Events() {
		lines = append(lines, e.String())
	}
	return strings.Join(lines, ", ")
}

// Watermark settles and returns the output's watermark, the lowest of its
// subtasks.
func (t *Tap[T]) Watermark() int64 {
	t.k.t.Helper()
	t.k.Settle()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.watermark) == 0 {
		return pipeline.MinWatermark
	}
	lowest := t.watermark[0]
	for _, wm := range t.watermark {
		lowest = min(lowest, wm)
	}
	return lowest
}

// WantWatermark checks the output's watermark.
func (t *Tap[T]) WantWatermark(want int64) {
	t.k.t.Helper()
	if got := t.Watermark(); got != want {
		t.k.t.Errorf("%s: watermark is %s, want %s\n%s", t.name, timeText(got), timeText(want), t.k.stats())
	}
}

// Want checks that the records since the last Take (or Want) are these, in
// this order. Without arguments it checks that there are none.
func (t *Tap[T]) Want(want ...Record[T]) {
	t.k.t.Helper()
	got := t.Take()
	if len(got) == 0 && len(want) == 0 || reflect.DeepEqual(got, want) {
		return
	}
	t.k.t.Errorf("%s\n%s", t.diff(got, want), t.k.stats())
}

// WantAnyOrder is [Tap.Want] for outputs whose order is not fixed, because
// several subtasks write to them.
func (t *Tap[T]) WantAnyOrder(want ...Record[T]) {
	t.k.t.Helper()
	got := t.Take()
	if missing, extra := difference(got, want); len(missing)+len(extra) > 0 {
		t.k.t.Errorf("%s\n%s", t.diff(got, want), t.k.stats())
	}
}

// diff says what is missing and what is too much, and where neither is, that
// the order differs.
func (t *Tap[T]) diff(got, want []Record[T]) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: got %d records, want %d", t.name, len(got), len(want))
	missing, extra := difference(got, want)
	for _, r := range missing {
		fmt.Fprintf(&b, "\n  missing   %v", r)
	}
	for _, r := range extra {
		fmt.Fprintf(&b, "\n  unwanted  %v", r)
	}
	if len(missing)+len(extra) == 0 {
		fmt.Fprintf(&b, ", the same in another order:\n  got   %v\n  want  %v", got, want)
	}
	return b.String()
}

// difference compares as multisets. It is quadratic because values need not be
// comparable.
func difference[T any](got, want []Record[T]) (missing, extra []Record[T]) {
	extra = append(extra, got...)
	for _, w := range want {
		found := false
		for i, g := range extra {
			if found = reflect.DeepEqual(g, w); found {
				extra = append(extra[:i], extra[i+1:]...)
				break
			}
		}
		if !found {
			missing = append(missing, w)
		}
	}
	return missing, extra
}

// Hold makes the output take no further record, as a sink does that is slow:
// batches pile up before it, back to the source. It settles first. A job does
// not end while an output is held.
func (t *Tap[T]) Hold() {
	t.k.t.Helper()
	t.k.Settle()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gate == nil {
		t.gate = make(chan struct{})
	}
}

// Release ends Hold.
func (t *Tap[T]) Release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gate != nil {
		close(t.gate)
		t.gate = nil
	}
}

func (t *Tap[T]) record(e Event[T]) {
	t.mu.Lock()
	gate := t.gate
	t.mu.Unlock()
	if gate != nil && !e.Watermark {
		<-gate
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
	if e.Watermark {
		t.watermark[e.Subtask] = e.Time
	}
}

// opened makes the subtasks' watermarks, which are unknown at first.
func (t *Tap[T]) opened(parallelism int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watermark == nil {
		t.watermark = make([]int64, parallelism)
		for i := range t.watermark {
			t.watermark[i] = pipeline.MinWatermark
		}
	}
}

// tapOperator hands records and watermarks to the tap and emits nothing. It is
// an operator because sinks see no watermarks.
type tapOperator[T any] struct{ tap *Tap[T] }

func (o *tapOperator[T]) Open(c *pipeline.Context[pipeline.NoKey, pipeline.NoKey]) error {
	o.tap.opened(c.Parallelism())
	return nil
}

func (o *tapOperator[T]) Process(c *pipeline.Context[pipeline.NoKey, pipeline.NoKey], v T) error {
	o.tap.record(Event[T]{Record: At(c.Time(), v), Subtask: c.Subtask()})
	return nil
}

func (o *tapOperator[T]) OnWatermark(c *pipeline.Context[pipeline.NoKey, pipeline.NoKey], watermark int64) error {
	o.tap.record(Event[T]{Record: Record[T]{Time: watermark}, Watermark: true, Subtask: c.Subtask()})
	return nil
}

// nowhere is the sink behind a tap: every operator's output has to be used.
type nowhere struct{}

func (nowhere) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[pipeline.NoKey], error) {
	return nowhere{}, nil
}

func (nowhere) Write(context.Context, *pipeline.Records[pipeline.NoKey]) error { return nil }
