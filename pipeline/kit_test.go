package pipeline_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/state"
)

// event is the record of these tests.
type event struct {
	Key  string
	Time int64
	N    int
}

func eventTime(e event) int64 { return e.Time }
func eventKey(e event) string { return e.Key }

// events returns n events over the given number of keys, one a millisecond.
func events(n, keys int) []event {
	all := make([]event, n)
	for i := range all {
		all[i] = event{Key: fmt.Sprintf("k%d", i%keys), Time: int64(i), N: i}
	}
	return all
}

func from(p *pipeline.Pipeline, evs ...[]event) pipeline.Stream[event] {
	return pipeline.From(p, "events", memory.From(evs...), pipeline.Monotonic(eventTime))
}

// collector is a sink that keeps what it gets.
type collector[T any] struct {
	mu     sync.Mutex
	values []T // guarded by mu
	times  []int64
}

func (c *collector[T]) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return c, nil
}

func (c *collector[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values = append(c.values, b.Values...)
	c.times = append(c.times, b.Times...)
	return nil
}

func collect[T any](in pipeline.Stream[T], name string) *collector[T] {
	c := &collector[T]{}
	pipeline.To(in, name, c)
	return c
}

// each adds an operator of one function.
func each[T, U any](in pipeline.Stream[T], name string, f func(T) (U, error), opts ...pipeline.OperatorOption) pipeline.Stream[U] {
	return pipeline.Process(in, name, pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, U], v T) error {
		u, err := f(v)
		if err == nil {
			c.Emit(u)
		}
		return err
	}), opts...)
}

func pass(e event) (event, error) { return e, nil }

// counting counts the records of each key and emits the count at the end of
// input.
type counting struct {
	n      *state.Value[string, int]
	timers *pipeline.Timers[string]
}

func (o *counting) Open(c *pipeline.Context[string, string]) error {
	o.n = state.NewValue[int](c.State(), "n")
	o.timers = c.Timers("end")
	return nil
}

func (o *counting) Process(_ *pipeline.Context[string, string], _ event) error {
	*o.n.Upsert()++
	o.timers.Set(pipeline.MaxWatermark)
	return nil
}

func (o *counting) OnTimer(c *pipeline.Context[string, string], _ pipeline.Timer) error {
	n, _ := o.n.Get()
	c.Emit(fmt.Sprintf("%s=%d", c.Key(), n))
	o.n.Clear()
	return nil
}

func count(in pipeline.Stream[event]) pipeline.Stream[string] {
	return pipeline.Process(pipeline.KeyBy(in, eventKey), "count", func() *counting { return &counting{} })
}

func run(t *testing.T, p *pipeline.Pipeline) {
	t.Helper()
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, mention ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that mentions %q", mention)
	}
	for _, m := range mention {
		if !strings.Contains(err.Error(), m) {
			t.Errorf("error is %q, want it to mention %q", err, m)
		}
	}
}

func sorted(values []string) []string {
	slices.Sort(values)
	return values
}
