package operators_test

import (
	"context"
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/window"

	sink "github.com/millrace/millrace/sinks/memory"
)

// Hit is the record of the examples.
type Hit struct {
	At      int64 // milliseconds
	Page    string
	Visitor string
	Took    float64 // seconds
	ID      uint64
}

func (h Hit) Time() int64        { return h.At }
func (h Hit) GetPage() string    { return h.Page }
func (h Hit) GetVisitor() string { return h.Visitor }
func (h Hit) Seconds() float64   { return h.Took }
func (h Hit) EventID() uint64    { return h.ID }

// hits are two minutes of traffic.
var hits = []Hit{
	{1_000, "/", "ann", 0.2, 1},
	{5_000, "/shop", "ann", 0.9, 2},
	{5_000, "/shop", "ann", 0.9, 2}, // sent twice
	{9_000, "/", "bob", 0.1, 3},
	{30_000, "/shop", "cleo", 1.4, 4},
	{61_000, "/", "ann", 0.3, 5},
	{70_000, "/shop", "bob", 0.7, 6},
	{75_000, "/", "ann", 0.4, 7},
}

// from starts a pipeline of one source.
func from[T any](values []T, timestamp func(T) int64) (*pipeline.Pipeline, pipeline.Stream[T]) {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	return p, pipeline.From(p, "in", memory.From(values), pipeline.BoundedDisorder(timestamp, 10*time.Second))
}

// print runs a pipeline and prints what comes out of a stream.
func print[T any](p *pipeline.Pipeline, out pipeline.Stream[T]) {
	results := sink.Collect(out, "out")
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	for _, v := range results.Values() {
		fmt.Println(v)
	}
}

// perMinute prints an aggregation of the hits of each page and minute, by page
// and minute.
func perMinute[A, R any](agg operators.Aggregation[Hit, A, R]) {
	p, in := from(hits, Hit.Time)
	byPage := pipeline.KeyBy(in, Hit.GetPage)
	results := sink.Collect(operators.Aggregate(byPage, "aggregate", window.Tumbling(time.Minute), agg), "out")
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	var lines []string
	for _, r := range results.Values() {
		lines = append(lines, fmt.Sprintf("%-5s minute %d: %v", r.Key, r.Window.Start/60_000, r.Value))
	}
	slices.Sort(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
}
