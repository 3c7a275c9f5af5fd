package pipeline_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
)

// background is a sink whose records are safe when somebody has waited for them.
type background struct {
	written, flushed int
	syncs            []int      // how many records were written at each
	waits            chan int   // gets what a wait is for
	safe             chan error // answers it
}

func newBackground() *background {
	return &background{waits: make(chan int), safe: make(chan error)}
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

func (s *background) Sync() func(context.Context) error {
	n := s.written
	s.syncs = append(s.syncs, n)
	return func(ctx context.Context) error {
		s.waits <- n
		return <-s.safe
	}
}

func syncedJob(sink *background, g *gate) *pipeline.Pipeline {
	p := pipeline.New(pipeline.Name("synced"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet),
		pipeline.Checkpoints("cp", pipeline.CheckpointInterval(time.Hour), pipeline.CheckpointFiles(vfs.NewMem())))
	src := pipeline.From(p, "numbers", gatedSource{numbersSource{1, 600, 0}, g})
	pipeline.To(operators.Filter(src, "taken", func(int) bool {
		g.take()
		return true
	}), "out", sink)
	return p
}

// TestSyncBeforeCheckpoints completes a checkpoint when all records before it are safe, and
// lets the job go on meanwhile; the job ends when all are.
func TestSyncBeforeCheckpoints(t *testing.T) {
	sink, g := newBackground(), newGate(300)
	p := syncedJob(sink, g)
	done, complete := make(chan error, 1), make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	<-g.reached()
	go func() { complete <- p.Checkpoint(t.Context()) }()
	if n := <-sink.waits; n != 300 {
		t.Errorf("the checkpoint waits for %d records, want 300", n)
	}
	g.to(500) // while it waits
	<-g.reached()
	select {
	case err := <-complete:
		t.Fatalf("the checkpoint is complete (%v) before its records are safe", err)
	default:
	}
	sink.safe <- nil
	if err := <-complete; err != nil {
		t.Fatal(err)
	}
	g.open()
	for ended := false; !ended; {
		select {
		case n := <-sink.waits:
			if n != 600 {
				t.Errorf("the end waits for %d records, want 600", n)
			}
			sink.safe <- nil
		case err := <-done:
			if ended = true; err != nil {
				t.Fatal(err)
			}
		}
	}
	if sink.flushed == 0 || sink.syncs[0] != 300 || sink.syncs[len(sink.syncs)-1] != 600 {
		t.Errorf("flushed %d times and synced at %v records, want 300 and 600", sink.flushed, sink.syncs)
	}
}

// TestSyncFails fails the checkpoint whose records are not safe, and no other.
func TestSyncFails(t *testing.T) {
	sink, g := newBackground(), newGate(300)
	p := syncedJob(sink, g)
	done, complete := make(chan error, 1), make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	<-g.reached()
	for _, refused := range []error{errors.New("nobody has them"), nil} {
		go func() { complete <- p.Checkpoint(t.Context()) }()
		<-sink.waits
		sink.safe <- refused
		if err := <-complete; (err == nil) != (refused == nil) || refused != nil && !strings.Contains(err.Error(), `operator "out" subtask 0: sync: nobody has them`) {
			t.Errorf("got %v, want what the sink said: %v", err, refused)
		}
	}
	p.Kill()
	if err := <-done; err == nil {
		t.Error("the job ended well although it was killed")
	}
}
