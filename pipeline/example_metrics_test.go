package pipeline_test

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/memory"
)

// asking is an operator that looks at the job's metrics at its first record, as a
// server does every few seconds.
type asking struct{ registry prometheus.Gatherer }

func (a *asking) Process(c *pipeline.Context[pipeline.NoKey, int], n int) error {
	if n > 1 {
		return nil
	}
	families, err := a.registry.Gather()
	for _, f := range families {
		if f.GetName() == "millrace_queries_total" {
			fmt.Println(f.GetName(), f.Metric[0].Label[0].GetValue(), f.Metric[0].GetCounter().GetValue())
		}
	}
	return err
}

func (a *asking) Open(c *pipeline.Context[pipeline.NoKey, int]) error {
	c.Metrics().Counter("queries").Add(3)
	return nil
}

// A program serves the registry with promhttp.HandlerFor, or gives the job
// prometheus.DefaultRegisterer and serves promhttp.Handler.
func ExampleRegisterer() {
	registry := prometheus.NewRegistry()
	p := pipeline.New(pipeline.Name("numbers"), pipeline.Registerer(registry), pipeline.DefaultParallelism(1))
	in := pipeline.From(p, "in", memory.From([]int{1, 2, 3}))
	collect(pipeline.Process(in, "asking", func() *asking { return &asking{registry} }), "out")
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: millrace_queries_total numbers 3
}
