package pipeline_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
)

type ev struct {
	Key string
	TS  int64
}

type sliceSource struct{ evs []ev }

func (s sliceSource) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[ev], error) {
	r := &sliceReader{env: env}
	if env.Mine(0) {
		r.evs = s.evs
	}
	return r, nil
}

type sliceReader struct {
	env *pipeline.SourceEnv
	evs []ev
}

func (r *sliceReader) Read(_ context.Context, b *pipeline.SourceBatch[ev]) error {
	if len(r.evs) == 0 {
		return pipeline.ErrEndOfInput
	}
	n := min(len(r.evs), r.env.BatchSize)
	b.Split = "s"
	b.Values = append(b.Values, r.evs[:n]...)
	r.evs = r.evs[n:]
	return nil
}

type counter struct {
	n *state.Value[string, int64]
	t *pipeline.Timers[string]
}

func (c *counter) Open(ctx *pipeline.Context[string, string]) error {
	c.n = state.NewValue[int64](ctx.State(), "n")
	c.t = ctx.Timers("end")
	return nil
}

func (c *counter) Process(ctx *pipeline.Context[string, string], e ev) error {
	*c.n.Upsert()++
	c.t.Set(1 << 40)
	return nil
}

func (c *counter) OnTimer(ctx *pipeline.Context[string, string], t pipeline.Timer) error {
	n, _ := c.n.Get()
	ctx.Emit(fmt.Sprintf("%s=%d", ctx.Key(), n))
	return nil
}

type memSink[T any] struct {
	mu   sync.Mutex
	vals []T
}

func (m *memSink[T]) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[T], error) { return m, nil }
func (m *memSink[T]) Write(_ context.Context, b *pipeline.Records[T]) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.vals = append(m.vals, b.Values...)
	return nil
}

func TestSmoke(t *testing.T) {
	for _, par := range []int{1, 2, 8} {
		var evs []ev
		for i := range 100_000 {
			evs = append(evs, ev{fmt.Sprint("k", i%1000), int64(i)})
		}
		p := pipeline.New(pipeline.DefaultParallelism(par))
		src := pipeline.From(p, "src", sliceSource{evs}, pipeline.BoundedDisorder(func(e ev) int64 { return e.TS }, time.Second))
		out := pipeline.Process(pipeline.KeyBy(src, func(e ev) string { return e.Key }), "count", func() *counter { return &counter{} })
		sink := &memSink[string]{}
		pipeline.To(out, "out", sink)
		t.Log("\n" + p.Graph().String())
		start := time.Now()
		if err := p.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		t.Log(par, time.Since(start), len(sink.vals), sink.vals[0])
		if len(sink.vals) != 1000 {
			t.Fatal(len(sink.vals))
		}
		for _, s := range p.Stats() {
			_ = s
		}
	}
}
