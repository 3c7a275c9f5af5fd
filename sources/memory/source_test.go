package memory_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	sink "github.com/millrace/millrace/sinks/memory"
	"github.com/millrace/millrace/sources/memory"
)

func numbers(n int) []int {
	var all []int
	for i := range n {
		all = append(all, i)
	}
	return all
}

func TestSource(t *testing.T) {
	all := numbers(100)
	for name, src := range map[string]memory.Source[int]{
		"one split":    memory.From(all),
		"three splits": memory.From(all[:10], all[10:11], all[11:]),
		"divided":      memory.From(all[:3], all[3:]).Divide(7),
		"empty splits": memory.From(nil, all, nil),
		"with times":   memory.From(all).Times(func(i int) int64 { return int64(i) }).Divide(2),
	} {
		t.Run(name, func(t *testing.T) {
			pipelinetest.TestSource(t, pipelinetest.SourceCase[int]{
				New: func(testing.TB) pipeline.Source[int] { return src }, Want: all,
			})
		})
	}
}

func TestNothing(t *testing.T) {
	pipelinetest.TestSource(t, pipelinetest.SourceCase[int]{
		New: func(testing.TB) pipeline.Source[int] { return memory.From[int]() },
	})
}

func TestBadPosition(t *testing.T) {
	for _, position := range []string{"", "x", "-1", "4"} {
		_, err := memory.From(numbers(3)).Open(t.Context(), &pipeline.SourceEnv{
			Parallelism: 1, BatchSize: 1, Positions: map[string][]byte{"0": []byte(position)},
		})
		if err == nil {
			t.Errorf("position %q was accepted", position)
		}
	}
}

// TestDrift lets one split run into the drift bound, so that it is paused.
func TestDrift(t *testing.T) {
	hours := func(from int) []int {
		var all []int
		for i := range 1000 {
			all = append(all, from+i*1000)
		}
		return all
	}
	p := pipeline.New(pipeline.DefaultParallelism(2), pipeline.BatchSize(10))
	src := pipeline.From(p, "numbers", memory.From(hours(0), hours(100_000), hours(1)),
		pipeline.BoundedDisorder(func(i int) int64 { return int64(i) }, 0).MaxDrift(5*time.Second))
	out := sink.Collect(src, "out")
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := out.Len(); got != 3000 {
		t.Errorf("got %d records, want 3000", got)
	}
}

func ExampleFrom() {
	type hit struct {
		page string
		time int64
	}
	p := pipeline.New(pipeline.DefaultParallelism(1))
	hits := pipeline.From(p, "hits", memory.From([]hit{{"/", 1000}, {"/about", 2000}}),
		pipeline.BoundedDisorder(func(h hit) int64 { return h.time }, time.Second))
	out := sink.Collect(hits, "out")
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	for _, r := range out.Records() {
		fmt.Println(r.Value.page, "at", r.Time)
	}
	// Output:
	// / at 1000
	// /about at 2000
}

func ExampleSource_Divide() {
	p := pipeline.New()
	out := sink.Collect(pipeline.From(p, "words", memory.From([]string{"a", "b", "c", "d"}).Divide(2)), "out")
	if err := p.Run(context.Background()); err != nil {
		panic(err)
	}
	words := out.Values()
	slices.Sort(words) // of two splits, either may come first
	fmt.Println(words)
	// Output: [a b c d]
}
