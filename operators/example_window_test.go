package operators_test

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// view is a page view.
type view struct {
	Page string
	Took int64 // milliseconds
	At   int64
}

func (v view) page() string { return v.Page }
func (v view) time() int64  { return v.At }
func slower(acc, v view) view {
	if v.Took > acc.Took {
		return v
	}
	return acc
}
func second(n float64) int64  { return int64(n * 1000) }
func minute(m, s int64) int64 { return (m*60 + s) * 1000 }
func countOf[T any]() (c operators.Aggregation[T, int, int]) {
	c.Add = func(acc *int, _ T) { *acc++ }
	c.Merge = func(acc, other *int) { *acc += *other }
	c.Result = func(acc *int) int { return *acc }
	return c
}

// views is a source of a few records.
type views []view

func (s views) Open(context.Context, *pipeline.SourceEnv) (pipeline.Reader[view], error) {
	return &viewReader{s}, nil
}

type viewReader struct{ left []view }

func (r *viewReader) Read(_ context.Context, b *pipeline.SourceBatch[view]) error {
	b.Split, b.Values, r.left = "views", append(b.Values, r.left...), nil
	return pipeline.ErrEndOfInput
}

// printed is a sink that prints.
type printed[T any] struct{}

func (printed[T]) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[T], error) {
	return printed[T]{}, nil
}

func (printed[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	for _, v := range b.Values {
		fmt.Println(v)
	}
	return nil
}

func ExampleAggregate() {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	hits := pipeline.From(p, "views", views{
		{Page: "/", At: second(1)}, {Page: "/cart", At: second(3)}, {Page: "/", At: second(59)},
		{Page: "/", At: second(61)}, {Page: "/", At: second(58)}, // out of order, by less than 5 s
	}, pipeline.BoundedDisorder(view.time, 5*time.Second))
	byPage := pipeline.KeyBy(hits, view.page)
	counts := operators.Aggregate(byPage, "counts", window.Tumbling(time.Minute), countOf[view]())
	pipeline.To(counts, "out", printed[operators.Result[string, int]]{})

	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// / [0,60000) 3 (on time #0 final)
	// /cart [0,60000) 1 (on time #0 final)
	// / [60000,120000) 1 (on time #0 final)
}

func ExampleReduce() {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	hits := pipeline.From(p, "views", views{
		{Page: "/", Took: 20, At: second(1)}, {Page: "/", Took: 90, At: second(2)}, {Page: "/", Took: 30, At: second(70)},
	}, pipeline.BoundedDisorder(view.time, 5*time.Second))
	slowest := operators.Reduce(pipeline.KeyBy(hits, view.page), "slowest", window.Tumbling(time.Minute), slower)
	pipeline.To(slowest, "out", printed[operators.Result[string, view]]{})

	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// / [0,60000) {Page:/ Took:90 At:2000} (on time #0 final)
	// / [60000,120000) {Page:/ Took:30 At:70000} (on time #0 final)
}

func ExampleRollup() {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	hits := pipeline.From(p, "views", views{
		{Page: "/", At: minute(0, 10)}, {Page: "/", At: minute(0, 50)}, {Page: "/", At: minute(4, 30)}, {Page: "/", At: minute(5, 0)},
	}, pipeline.BoundedDisorder(view.time, 5*time.Second))
	sizes := []time.Duration{time.Minute, 5 * time.Minute}
	counts := operators.Rollup(pipeline.KeyBy(hits, view.page), "counts", sizes, countOf[view]())
	pipeline.To(counts, "out", printed[operators.Result[string, int]]{})

	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// / [0,60000) 2 (on time #0 final)
	// / [240000,300000) 1 (on time #0 final)
	// / [0,300000) 3 (on time #0 final)
	// / [300000,360000) 1 (on time #0 final)
	// / [300000,600000) 1 (on time #0 final)
}

func ExampleLateTo() {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	hits := pipeline.From(p, "views", views{
		{Page: "/", At: second(1)}, {Page: "/", At: second(70)}, {Page: "/", At: second(59)}, {Page: "/", At: second(200)}, {Page: "/", At: second(58)},
	}, pipeline.BoundedDisorder(view.time, 5*time.Second))
	late := pipeline.NewTag[view]("late")
	counts := operators.Aggregate(pipeline.KeyBy(hits, view.page), "counts", window.Tumbling(time.Minute), countOf[view](),
		operators.AllowedLateness(time.Minute), operators.LateTo(late))
	pipeline.To(counts, "out", printed[operators.Result[string, int]]{})
	pipeline.To(pipeline.SideOutput(counts, late), "too late", printed[view]{})

	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// / [0,60000) 1 (on time #0)
	// / [0,60000) 2 (late #1)
	// / [60000,120000) 1 (on time #0)
	// {/ 0 58000}
	// / [180000,240000) 1 (on time #0)
}
