package pipeline_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
)

// steady is a source of the same prepared batch, n times over.
type steady struct {
	batch   []event
	batches int
}

func (s steady) Open(context.Context, *pipeline.SourceEnv) (pipeline.Reader[event], error) {
	return &s, nil
}

func (s *steady) Read(_ context.Context, b *pipeline.SourceBatch[event]) error {
	if s.batches == 0 {
		return pipeline.ErrEndOfInput
	}
	s.batches--
	b.Split = "steady"
	b.Values = append(b.Values, s.batch...)
	return nil
}

// adding counts by key in state and passes the record on.
type adding struct{ n *state.Value[string, int] }

func (o *adding) Open(c *pipeline.Context[string, event]) error {
	o.n = state.NewValue[int](c.State(), "n")
	return nil
}

func (o *adding) Process(c *pipeline.Context[string, event], e event) error {
	*o.n.Upsert()++
	c.Emit(e)
	return nil
}

// swallow is a sink that allocates nothing.
type swallow struct{}

func (swallow) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[event], error) {
	return swallow{}, nil
}
func (swallow) Write(context.Context, *pipeline.Records[event]) error { return nil }

// TestRecordPathDoesNotAllocate runs a job of source, chain, exchanges, state
// and sink with few and with many records: the difference is what records
// cost, and it must be nothing.
func TestRecordPathDoesNotAllocate(t *testing.T) {
	for _, par := range []int{1, 3} {
		job := func(batches int) float64 {
			p := pipeline.New(pipeline.DefaultParallelism(par))
			src := pipeline.From(p, "steady", steady{events(256, 50), batches}, pipeline.BoundedDisorder(eventTime, 0), pipeline.Parallelism(1))
			passed := each(pipeline.Rebalance(src), "pass", pass)
			added := pipeline.Process(pipeline.KeyBy(passed, eventKey), "add", func() *adding { return &adding{} })
			pipeline.To(added, "swallow", swallow{})
			pipeline.To(pipeline.Broadcast(added), "swallow all", swallow{})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			run(t, p)
			runtime.ReadMemStats(&after)
			return float64(after.Mallocs - before.Mallocs)
		}
		job(10)
		few, many := job(100), job(10_100)
		perRecord := (many - few) / (10_000 * 256)
		t.Logf("parallelism %d: %.5f allocations a record", par, perRecord)
		// Not quite 0: the runtime allocates now and then for a goroutine that
		// waits for several channels.
		if perRecord > 0.001 {
			t.Errorf("parallelism %d: %.5f allocations a record, want none", par, perRecord)
		}
	}
}
