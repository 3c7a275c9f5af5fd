package pipeline_test

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
)

// background is a sink whose records are safe with Sync, not with Flush.
type background struct {
	written, flushed, synced int
	syncs                    []int // how many records were safe after each
}

func (s *background) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[int], error) {
	return s, nil
}

func (s *background) Write(_ context.Context, b *pipeline.Records[int]) error {
	s.written += len(b.Values)
	return nil
}

func (s *background) Flush(context.Context) error {
	s.flushed++
	return nil
}

func (s *background) Sync(context.Context) error {
	s.synced = s.written
	s.syncs = append(s.syncs, s.written)
	return nil
}

// TestSyncBeforeCheckpoints has all records safe before a checkpoint that holds their
// positions is complete, and before the job ends; in between it is enough to flush.
func TestSyncBeforeCheckpoints(t *testing.T) {
	sink := &background{}
	g := newGate(300)
	p := pipeline.New(pipeline.Name("synced"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet),
		pipeline.Checkpoints("cp", pipeline.CheckpointInterval(time.Hour), pipeline.CheckpointFiles(vfs.NewMem())))
	src := pipeline.From(p, "numbers", gatedSource{numbersSource{1, 600, 0}, g})
	pipeline.To(operators.Filter(src, "taken", func(int) bool {
		g.take()
		return true
	}), "out", sink)
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	<-g.reached()
	if err := p.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(sink.syncs) < 2 || sink.syncs[0] != 300 || sink.synced != 600 {
		t.Errorf("synced at %v records, %d in the end; want 300 at the checkpoint, 600 in the end", sink.syncs, sink.synced)
	}
	if sink.flushed == 0 || len(sink.syncs) > 3 {
		t.Errorf("flushed %d times and synced at %v, want to sync for the checkpoints and the end only", sink.flushed, sink.syncs)
	}
}
