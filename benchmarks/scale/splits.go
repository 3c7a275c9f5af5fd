package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/pipeline"
)

// splits measures what a record costs by the number of splits of its source, each of
// which has a watermark of its own.
func splits(c config) (*figure, error) {
	records := int64(c.of(4_000_000, 8_000_000))
	sizes := []int{1, 2, 4, 8, 16, 32, 64}
	costs, err := inTurns(2*c.rounds+1, sizes, func(n int) (float64, error) { return split(n, records) })
	if err != nil {
		return nil, err
	}
	f := &figure{
		Title: "Cost of a record by the number of splits of its source (watermarks by split, parallelism 1)",
		X:     "splits", Y: "processor time, ns", Sizes: sizes, Doubling: true,
	}
	f.add("a record", "ns", costs)
	f.Goals = append(f.Goals, judge("cost with 64 splits by cost with one", "processor time of a record", flat, false, ratios(costs[len(costs)-1], costs[0])))
	return f, nil
}

func split(n int, records int64) (float64, error) {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	strategy := pipeline.BoundedDisorder(func(n int64) int64 { return n }, time.Second)
	sum := new(atomic.Int64)
	pipeline.To(pipeline.From(p, "numbers", numbers{records, int64(n)}, strategy), "sum", adding{sum})
	ns, err := cost(p, records)
	if want := records * (records - 1) / 2; err == nil && sum.Load() != want {
		err = fmt.Errorf("%d splits: the sum is %d, want %d", n, sum.Load(), want)
	}
	return ns, err
}
