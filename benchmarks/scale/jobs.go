package main

import (
	"context"
	"runtime"
	"strconv"
	"sync/atomic"

	"github.com/millrace/millrace/benchmarks/internal/results"
	"github.com/millrace/millrace/pipeline"
)

// numbers is a source of the numbers from 0 to n, dealt in turn to its splits. Making
// one costs next to nothing, and takes no memory that could fall out of the cache.
type numbers struct{ n, splits int64 }

// Open implements [pipeline.Source].
func (s numbers) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[int64], error) {
	r := &numbersReader{numbers: s, batch: env.BatchSize}
	for i := range s.splits {
		if env.Mine(int(i)) {
			r.open = append(r.open, numbersSplit{strconv.FormatInt(i, 10), i})
		}
	}
	return r, nil
}

type numbersSplit struct {
	name string
	next int64
}

type numbersReader struct {
	numbers
	batch     int
	open      []numbersSplit
	turn      int
	announced bool
}

// Read implements [pipeline.Reader].
func (r *numbersReader) Read(_ context.Context, b *pipeline.SourceBatch[int64]) error {
	if !r.announced {
		r.announced = true
		for _, s := range r.open {
			b.AddSplit(s.name)
		}
		return nil
	}
	if len(r.open) == 0 {
		return pipeline.ErrEndOfInput
	}
	r.turn %= len(r.open)
	s := &r.open[r.turn]
	b.Split = s.name
	for ; s.next < r.n && len(b.Values) < r.batch; s.next += r.splits {
		b.Values = append(b.Values, s.next)
	}
	if s.next < r.n {
		r.turn++
		return nil
	}
	b.FinishSplit(s.name)
	r.open = append(r.open[:r.turn], r.open[r.turn+1:]...)
	return nil
}

// adding is a sink that adds up the numbers it is given.
type adding struct{ sum *atomic.Int64 }

// Open implements [pipeline.Sink].
func (s adding) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[int64], error) {
	return s, nil
}

// Write implements [pipeline.Writer].
func (s adding) Write(_ context.Context, b *pipeline.Records[int64]) error {
	sum := int64(0)
	for _, n := range b.Values {
		sum += n
	}
	s.sum.Add(sum)
	return nil
}

// cost runs a job of n records and returns the processor time of each, in ns.
func cost(p *pipeline.Pipeline, n int64) (float64, error) {
	runtime.GC()
	before := results.CPU()
	if err := p.Run(context.Background()); err != nil {
		return 0, err
	}
	return float64(results.CPU()-before) / float64(n), nil
}

// inTurns measures every size once a round. The first round warms up and is not kept.
func inTurns(rounds int, sizes []int, measure func(size int) (float64, error)) ([][]float64, error) {
	measured := make([][]float64, len(sizes))
	for round := range rounds + 1 {
		for i, n := range sizes {
			v, err := measure(n)
			if err != nil {
				return nil, err
			}
			if round > 0 {
				measured[i] = append(measured[i], v)
			}
		}
	}
	return measured, nil
}
