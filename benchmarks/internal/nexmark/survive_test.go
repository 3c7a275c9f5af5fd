package nexmark

import (
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sources/generator"
)

// Queries with operators of their own give every result once, however often the job is
// killed. The events are one split, so that they come in the same order every time, and
// with them the results that replace each other.
func TestQueriesSurvive(t *testing.T) {
	t.Run("q8", func(t *testing.T) { survive(t, Q8) })
	t.Run("q18", func(t *testing.T) { survive(t, Q18) })
	t.Run("q19", func(t *testing.T) { survive(t, Q19) })
}

func survive[T any](t *testing.T, q func(pipeline.Stream[Event]) pipeline.Stream[T]) {
	g := newGenerator(t, Config{Spacing: 20 * time.Millisecond})
	pipelinetest.Survive(t, pipelinetest.Ordeal{Kills: 4}, func(w *pipelinetest.World, opts ...pipeline.Option) *pipeline.Pipeline {
		p := pipeline.New(append(opts, pipeline.DefaultParallelism(2))...)
		source := pipelinetest.Watched(w, g.Source(1500, generator.Splits(1)))
		results := q(pipeline.From(p, "events", source, Watermarks()))
		pipeline.To(results, "out", pipelinetest.NewLedger[T](w, "out"))
		return p
	})
}
