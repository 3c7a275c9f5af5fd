package pipeline_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/pipeline"
)

// lateAfter is a source with one split: a record, and behind it one that is late
// by the first. The second is there only for a start that goes on from the first.
type lateAfter struct{}

func (lateAfter) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[event], error) {
	return &lateReader{mine: env.Mine(0), goesOn: env.Positions["split"] != nil}, nil
}

type lateReader struct {
	mine, goesOn bool
	calls        int
}

func (r *lateReader) Read(ctx context.Context, b *pipeline.SourceBatch[event]) error {
	r.calls++
	switch {
	case !r.mine && r.calls == 1:
		return nil
	case r.calls == 1:
		b.AddSplit("split")
		b.Split = "split"
		b.Values, b.Position = []event{{Time: 10_000}}, []byte("1")
		if r.goesOn {
			b.Values = []event{{Time: 5_000}}
		}
		return nil
	case r.goesOn:
		return pipeline.ErrEndOfInput
	}
	<-ctx.Done()
	return ctx.Err()
}

type watermarkSeen struct {
	first chan struct{} // has an element once the first record came by

	mu   sync.Mutex
	late []int64 // guarded by mu
}

type watermarkSpy struct{ to *watermarkSeen }

func (s watermarkSpy) Process(c *pipeline.Context[pipeline.NoKey, event], e event) error {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if e.Time == 5_000 {
		s.to.late = append(s.to.late, c.Watermark())
	} else {
		s.to.first <- struct{}{}
	}
	return nil
}

// TestRule15_FirstRecordAfterRescale: the very first record after a restart at
// another parallelism is late if it was late before. Its subtask starts with the
// lowest watermark of all subtasks, one of which had none.
func TestRule15_FirstRecordAfterRescale(t *testing.T) {
	fs, seen := vfs.NewMem(), &watermarkSeen{first: make(chan struct{}, 1)}
	job := func(parallelism int) *pipeline.Pipeline {
		p := pipeline.New(pipeline.DefaultParallelism(parallelism),
			pipeline.Checkpoints("/job", pipeline.CheckpointFiles(fs), pipeline.CheckpointInterval(0)))
		in := pipeline.From(p, "source", lateAfter{}, pipeline.BoundedDisorder(eventTime, 0))
		pipeline.To(pipeline.Process(in, "spy", func() watermarkSpy { return watermarkSpy{seen} }), "out", ledgerSink[event]{newLedger()})
		return p
	}
	first, over := job(2), make(chan error, 1)
	go func() { over <- first.Run(t.Context()) }()
	<-seen.first
	if err := first.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.Kill()
	if err := <-over; !errors.Is(err, pipeline.ErrKilled) {
		t.Fatal(err)
	}
	if err := job(1).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []int64{9_999}; !slices.Equal(seen.late, want) {
		t.Errorf("the late record met the watermark %v, want %v", seen.late, want)
	}
}
