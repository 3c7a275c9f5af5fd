package call_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/call"
	"github.com/millrace/millrace/sinks/memory"
	source "github.com/millrace/millrace/sources/memory"
)

// taken gathers what a function is called with.
type taken struct {
	mu     sync.Mutex
	values []int
}

func (t *taken) one(_ context.Context, v int) error {
	switch v {
	case -1:
		panic("no")
	case -2:
		return errors.New("no")
	case -3:
		return pipeline.Fatal(errors.New("never again"))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.values = append(t.values, v)
	return nil
}

func (t *taken) batch(_ context.Context, b *pipeline.Records[int]) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.values = append(t.values, b.Values...)
	return nil
}

func (t *taken) all() []int { return slices.Clone(t.values) }

func TestEach(t *testing.T) {
	for _, bad := range []int{-1, -2} {
		pipelinetest.TestSink(t, pipelinetest.SinkCase[int]{
			New: func(testing.TB) (pipeline.Sink[int], func() []int) {
				var to taken
				return call.Each(to.one), to.all
			},
			Value: func(i int) int { return i },
			Bad:   func() int { return bad },
		})
	}
}

func TestBatch(t *testing.T) {
	pipelinetest.TestSink(t, pipelinetest.SinkCase[int]{
		New: func(testing.TB) (pipeline.Sink[int], func() []int) {
			var to taken
			return call.Batch(to.batch), to.all
		},
		Value: func(i int) int { return i },
	})
}

func TestFatalStopsTheJob(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	var to taken
	pipeline.To(pipeline.From(p, "in", source.From([]int{1, -2, -3, 4})), "out", call.Each(to.one))
	dead := memory.Collect(pipeline.DeadLetters(p), "dead")
	if err := p.Run(t.Context()); err == nil || !pipeline.IsFatal(err) {
		t.Fatalf("got error %v, want the fatal one", err)
	}
	if got := to.all(); !slices.Equal(got, []int{1}) {
		t.Errorf("called with %v, want [1]", got)
	}
	_ = dead
}

func ExampleEach() {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	alerts := pipeline.From(p, "alerts", source.From([]string{"disk full", "fan stopped"}))
	pipeline.To(alerts, "pager", call.Each(func(_ context.Context, alert string) error {
		fmt.Println("paging:", alert)
		return nil
	}))
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	// Output:
	// paging: disk full
	// paging: fan stopped
}
