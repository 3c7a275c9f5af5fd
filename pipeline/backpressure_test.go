package pipeline_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
)

// firehose is an endless source of large records, as fast as it is let.
type firehose struct{ made *atomic.Int64 }

type parcel struct {
	Key     string
	Payload []byte
}

func (s firehose) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[parcel], error) {
	return &firehoseReader{s.made, env}, nil
}

type firehoseReader struct {
	made *atomic.Int64
	env  *pipeline.SourceEnv
}

func (r *firehoseReader) Read(ctx context.Context, b *pipeline.SourceBatch[parcel]) error {
	b.Split = fmt.Sprint(r.env.Subtask)
	for range r.env.BatchSize {
		n := r.made.Add(1)
		b.Values = append(b.Values, parcel{fmt.Sprint(n % 1000), make([]byte, 1024)})
	}
	return ctx.Err()
}

// trickle is a sink that takes so many records a second.
type trickle struct {
	perSecond int
	taken     *atomic.Int64
}

func (s trickle) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[parcel], error) {
	return s, nil
}

func (s trickle) Write(ctx context.Context, b *pipeline.Records[parcel]) error {
	select {
	case <-time.After(time.Duration(len(b.Values)) * time.Second / time.Duration(s.perSecond)):
	case <-ctx.Done():
	}
	s.taken.Add(int64(len(b.Values)))
	return nil
}

func TestSlowSinkBoundsMemory(t *testing.T) { slowSinkBoundsMemory(t, 3*time.Second) }

// slowSinkBoundsMemory runs a source that could make a hundred times what its sink
// takes. All that may pile up is what the channels hold.
func slowSinkBoundsMemory(t *testing.T, duration time.Duration) {
	t.Helper()
	const perSecond = 2000 // the source makes far more than 200,000 a second
	var made, taken atomic.Int64
	p := pipeline.New(pipeline.DefaultParallelism(2), pipeline.BatchSize(64), pipeline.StopTimeout(10*time.Second))
	src := pipeline.From(p, "firehose", firehose{&made})
	kept := pipeline.Process(pipeline.KeyBy(src, func(v parcel) string { return v.Key }), "pass",
		pipeline.Func(func(c *pipeline.Context[string, parcel], v parcel) error { c.Emit(v); return nil }))
	pipeline.To(kept, "trickle", trickle{perSecond, &taken}, pipeline.Parallelism(1))

	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	early := heapAfter(ctx, duration/5)
	late := heapAfter(ctx, duration/5*3)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d records made, %d taken in %v; heap %d KiB early, %d KiB late",
		made.Load(), taken.Load(), duration, early>>10, late>>10)
	if late > early+4<<20 {
		t.Errorf("the heap grew from %d to %d KiB", early>>10, late>>10)
	}
	if ahead := made.Load() - taken.Load(); ahead > 5000 {
		t.Errorf("the source is %d records ahead of the sink", ahead)
	}
	if taken.Load() < 100 {
		t.Errorf("only %d records arrived", taken.Load())
	}
}

// heapAfter waits and returns the size of the live heap.
func heapAfter(ctx context.Context, d time.Duration) uint64 {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
