package main

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
)

//go:noinline
func addOne(n int64) int64 { return n + 1 }

// chain measures what a record costs by the number of operators it passes on one
// goroutine.
func chain(c config) (*figure, error) {
	records := int64(c.of(2_000_000, 4_000_000))
	sizes := []int{0, 1, 2, 4, 8, 16, 32}
	job := func(ops int) (float64, error) { return chained(ops, records) }
	costs, err := inTurns(2*c.rounds+1, sizes, job)
	if err != nil {
		return nil, err
	}
	f := &figure{
		Title: "Cost of a record by the number of chained operators (map of an int64, parallelism 1)",
		X:     "operators", Y: "processor time, ns", Sizes: sizes,
	}
	f.add("a record", "ns", costs)
	f.linear("an operator", costs, 4, 32)
	return f, c.profiled("operators", func() error {
		_, err := job(slices.Max(sizes))
		return err
	})
}

func chained(ops int, records int64) (float64, error) {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	s := pipeline.From(p, "numbers", numbers{records, 1})
	for i := range ops {
		s = operators.Map(s, fmt.Sprint("add ", i), addOne)
	}
	sum := new(atomic.Int64)
	pipeline.To(s, "sum", adding{sum})
	ns, err := cost(p, records)
	if want := records*(records-1)/2 + records*int64(ops); err == nil && sum.Load() != want {
		err = fmt.Errorf("%d operators: the sum is %d, want %d", ops, sum.Load(), want)
	}
	return ns, err
}

// exchanges measures what a record costs by the number of hash exchanges it passes,
// between two subtasks each.
func exchanges(c config) (*figure, error) {
	records := int64(c.of(1_000_000, 2_000_000))
	sizes := []int{0, 1, 2, 4, 8}
	costs, err := inTurns(2*c.rounds+1, sizes, func(n int) (float64, error) { return exchanged(n, records) })
	if err != nil {
		return nil, err
	}
	f := &figure{
		Title: "Cost of a record by the number of hash exchanges (key int64, parallelism 2)",
		X:     "exchanges", Y: "processor time, ns", Sizes: sizes,
	}
	f.add("a record", "ns", costs)
	f.linear("an exchange", costs, 2, 8)
	return f, nil
}

func exchanged(n int, records int64) (float64, error) {
	p := pipeline.New(pipeline.DefaultParallelism(2))
	s := pipeline.From(p, "numbers", numbers{records, 2})
	for i := range n {
		byNumber := pipeline.KeyBy(s, func(n int64) int64 { return n })
		s = pipeline.Process(byNumber, fmt.Sprint("receive ", i), func() passOn { return passOn{} })
	}
	sum := new(atomic.Int64)
	pipeline.To(s, "sum", adding{sum})
	ns, err := cost(p, records)
	if want := records * (records - 1) / 2; err == nil && sum.Load() != want {
		err = fmt.Errorf("%d exchanges: the sum is %d, want %d", n, sum.Load(), want)
	}
	return ns, err
}

// passOn is an operator that does nothing, at no cost for each record.
type passOn struct{}

// Process implements [pipeline.Processor].
func (passOn) Process(c *pipeline.Context[int64, int64], n int64) error {
	c.Emit(n)
	return nil
}

// ProcessBatch implements [pipeline.BatchProcessor].
func (passOn) ProcessBatch(c *pipeline.Context[int64, int64], b *pipeline.Batch[int64, int64]) error {
	c.EmitBatch(b.Values, b.Times)
	return nil
}

// linear adds what each unit costs, beyond a job without any, and judges that by the
// cost of one among few and one among many.
func (f *figure) linear(unit string, costs [][]float64, few, many int) {
	each := make([][]float64, len(costs))
	for i, n := range f.Sizes {
		if n > 0 {
			each[i] = perUnit(costs[i], costs[0], n)
		}
	}
	f.add(unit, "ns", each).Aside = true
	f.Goals = append(f.Goals, judge(
		fmt.Sprintf("cost of %s, %d of them by %d of them", unit, many, few),
		fmt.Sprintf("(cost at %d − cost at 0) / %d by (cost at %d − cost at 0) / %d", many, many, few, few), flat, false,
		ratios(each[slices.Index(f.Sizes, many)], each[slices.Index(f.Sizes, few)]),
	))
}
