package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/discard"
	"github.com/millrace/millrace/state"
)

// visitor is what the operator of makeJob keeps, and how.
type visitor struct {
	Name  string
	Pages []string
	Score float64
}

type page struct {
	Site string
	No   int32
}

// memories keeps state of all kinds.
type memories[K comparable] struct {
	visits  *state.Value[K, int64]
	visitor *state.Value[K, visitor]
	tags    *state.Map[K, string, time.Duration]
	short   *state.Value[K, string]
	all     *state.Group[K, int64]
	alarm   *pipeline.Timers[K]
	done    *pipeline.Timers[K]
}

func (m *memories[K]) Open(c *pipeline.Context[K, int]) error {
	m.visits = state.NewValue[int64](c.State(), "visits", state.Version(2))
	m.visitor = state.NewValue[visitor](c.State(), "visitor")
	m.tags = state.NewMap[string, time.Duration](c.State(), "tags")
	m.short = state.NewValue[string](c.State(), "short", state.TTL(time.Hour, state.EventTime))
	m.all = state.NewGroup[int64](c.State(), "all")
	m.alarm, m.done = c.Timers("alarm"), c.Timers("done")
	return nil
}

func (m *memories[K]) Process(c *pipeline.Context[K, int], n int) error {
	*m.visits.Upsert() += int64(n)
	m.visitor.Set(visitor{fmt.Sprint("visitor ", c.Key()), []string{"/a", "/b"}, 0.5})
	m.tags.Put("slow", time.Second)
	m.short.Set("soon over")
	*m.all.Upsert()++
	m.alarm.Set(c.Time() + time.Hour.Milliseconds())
	m.done.SetProcessing(time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	return nil
}

func (m *memories[K]) OnTimer(*pipeline.Context[K, int], pipeline.Timer) error { return nil }

// thirty is a source of the numbers from 0 to 29, after which it has nothing to
// say until it is stopped.
type thirty struct{ said chan struct{} }

func (s *thirty) Open(context.Context, *pipeline.SourceEnv) (pipeline.Reader[int], error) {
	return &thirtyReader{s, false}, nil
}

type thirtyReader struct {
	*thirty
	over bool
}

func (r *thirtyReader) Read(ctx context.Context, b *pipeline.SourceBatch[int]) error {
	if r.over {
		close(r.said)
		<-ctx.Done()
		return ctx.Err()
	}
	r.over = true
	b.Split = "all"
	b.AddSplit(b.Split)
	for i := range 30 {
		b.Values = append(b.Values, i)
	}
	b.Position = []byte("30")
	return nil
}

// makeJob runs a job and stops it, so that its state is in its last checkpoint.
func makeJob(t *testing.T, dir string, opts ...pipeline.Option) {
	start := time.Date(2024, 5, 17, 12, 0, 0, 0, time.UTC).UnixMilli()
	p := pipeline.New(append([]pipeline.Option{
		pipeline.Name("visits"), pipeline.DefaultParallelism(2), pipeline.Logger(slog.New(slog.NewTextHandler(io.Discard, nil))),
		pipeline.Checkpoints(dir, pipeline.CheckpointInterval(0)),
	}, opts...)...)
	src := &thirty{make(chan struct{})}
	n := pipeline.From(p, "numbers", src, pipeline.Parallelism(1), pipeline.BoundedDisorder(func(n int) int64 { return start + int64(n) }, 0))
	users := pipeline.KeyBy(n, func(n int) string { return fmt.Sprint("user", n%3) })
	pages := pipeline.KeyBy(n, func(n int) page { return page{"a.org", int32(n % 2)} })
	pipeline.To(pipeline.Process(users, "by-user", func() *memories[string] { return &memories[string]{} }), "out", discard.Sink[int]())
	pipeline.To(pipeline.Process(pages, "by-page", func() *memories[page] { return &memories[page]{} }), "out2", discard.Sink[int]())
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		<-src.said
		stop()
	}()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestDump shows the same of a job's state however it is kept.
func TestDump(t *testing.T) {
	for name, opts := range map[string][]pipeline.Option{"pebble": nil, "table": {pipeline.StateInMemory()}} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			makeJob(t, filepath.Join(root, "store"), opts...)
			datadriven.RunTest(t, "testdata/job/dump", func(t *testing.T, d *datadriven.TestData) string {
				return transcript(t.Context(), root, d.Input)
			})
		})
	}
}
