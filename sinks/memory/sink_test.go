package memory_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sinks/memory"
	source "github.com/millrace/millrace/sources/memory"
)

func TestSink(t *testing.T) {
	pipelinetest.TestSink(t, pipelinetest.SinkCase[string]{
		New: func(testing.TB) (pipeline.Sink[string], func() []string) {
			s := memory.NewSink[string]()
			return s, s.Values
		},
		Value: func(i int) string { return fmt.Sprint("record ", i) },
	})
}

func TestWaitAndReset(t *testing.T) {
	s := memory.NewSink[int]()
	w, err := s.Open(t.Context(), &pipeline.SinkEnv{Parallelism: 1})
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() { waited <- s.Wait(t.Context(), 3) }()
	for i := range 3 {
		if err := w.Write(t.Context(), &pipeline.Records[int]{Values: []int{i}, Times: []int64{int64(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Records()); got != "[{0 0} {1 1} {2 2}]" {
		t.Errorf("got records %s", got)
	}
	s.Reset()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.Wait(ctx, 1); err == nil || s.Len() != 0 {
		t.Errorf("after Reset: %d records, error %v, want none and a time-out", s.Len(), err)
	}
}

func ExampleCollect() {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	words := pipeline.From(p, "words", source.From([]string{"to", "be", "or", "not"}))
	out := memory.Collect(words, "out")
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(out.Values())
	// Output: [to be or not]
}
