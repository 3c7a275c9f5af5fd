package pipeline_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
)

// told is what readers were told of checkpoints, and what they answer.
type told struct {
	mu        sync.Mutex
	positions map[string]string // the last of each split, guarded by mu like the rest
	ids       []int64
	closed    int
	late      int // calls after Close
	answer    func(ctx context.Context) error
}

// acknowledged is a source of numbers whose readers want to know.
type acknowledged struct {
	gatedSource
	told *told
}

func (s acknowledged) Open(ctx context.Context, env *pipeline.SourceEnv) (pipeline.Reader[int], error) {
	r, err := s.gatedSource.Open(ctx, env)
	if err != nil {
		return nil, err
	}
	return &acknowledgedReader{Reader: r, told: s.told}, nil
}

type acknowledgedReader struct {
	pipeline.Reader[int]
	told   *told
	closed bool // guarded by told.mu
}

func (r *acknowledgedReader) Acknowledge(ctx context.Context, id int64, positions map[string][]byte) error {
	r.told.mu.Lock()
	r.told.ids = append(r.told.ids, id)
	for split, p := range positions {
		r.told.positions[split] = string(p)
	}
	if r.closed {
		r.told.late++
	}
	answer := r.told.answer
	r.told.mu.Unlock()
	if answer != nil {
		return answer(ctx)
	}
	return nil
}

func (r *acknowledgedReader) Close() error {
	r.told.mu.Lock()
	defer r.told.mu.Unlock()
	r.told.closed++
	r.closed = true
	return nil
}

// acknowledgedJob reads 600 numbers of each of three splits, as far as the gate
// lets it, and checkpoints are taken where the test asks, and at the end.
func acknowledgedJob(a *told, parallelism int, g *gate) *pipeline.Pipeline {
	a.positions = map[string]string{}
	p := pipeline.New(pipeline.Name("told"), pipeline.DefaultParallelism(parallelism), pipeline.Logger(quiet),
		pipeline.Checkpoints("cp", pipeline.CheckpointInterval(time.Hour), pipeline.CheckpointFiles(vfs.NewMem())))
	src := pipeline.From(p, "numbers", acknowledged{gatedSource{numbersSource{3, 600, 0}, g}, a})
	collect(operators.Filter(src, "taken", func(int) bool {
		g.take()
		return true
	}), "out")
	return p
}

// TestAcknowledgedAtTheEnd tells every reader the end of its splits: the last
// checkpoint counts like any other, and readers are open until they know.
func TestAcknowledgedAtTheEnd(t *testing.T) {
	for _, parallelism := range []int{1, 2, 4} {
		a := &told{}
		run(t, acknowledgedJob(a, parallelism, ungated()))
		want := map[string]string{"split0": "600", "split1": "600", "split2": "600"}
		if !maps.Equal(a.positions, want) {
			t.Errorf("parallelism %d: told %v, want %v", parallelism, a.positions, want)
		}
		if a.closed != parallelism || a.late != 0 {
			t.Errorf("parallelism %d: %d readers closed, %d calls after that", parallelism, a.closed, a.late)
		}
	}
}

// TestAcknowledgedPositions tells readers what a checkpoint holds, and not how far
// they have read by the time it is complete.
func TestAcknowledgedPositions(t *testing.T) {
	a := &told{}
	calls := make(chan struct{}, 10)
	a.answer = func(context.Context) error {
		calls <- struct{}{}
		return nil
	}
	g := newGate(300)
	p := acknowledgedJob(a, 1, g)
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	<-g.reached()
	if err := p.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-calls
	a.mu.Lock()
	read := 0
	for split, p := range a.positions {
		n, err := strconv.Atoi(p)
		if err != nil {
			t.Errorf("%s: %v", split, err)
		}
		read += n
	}
	if read != 300 || !slices.Equal(a.ids, []int64{1}) {
		t.Errorf("told %v by %v, want the 300 records of checkpoint 1", a.positions, a.ids)
	}
	a.mu.Unlock()
	g.open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestAcknowledgeOnlyTheLast skips checkpoints that were superseded while a reader
// took its time, which must hold up neither them nor records.
func TestAcknowledgeOnlyTheLast(t *testing.T) {
	a := &told{}
	calls, release := make(chan struct{}, 10), make(chan struct{})
	a.answer = func(context.Context) error {
		calls <- struct{}{}
		<-release
		return nil
	}
	g := newGate(300)
	p := acknowledgedJob(a, 1, g)
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	<-g.reached()
	for i := range 3 {
		if err := p.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			<-calls
		}
	}
	g.to(600)
	<-g.reached()
	close(release)
	<-calls
	g.open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := []int64{1, 3, 4}; !slices.Equal(a.ids, want) {
		t.Errorf("told of the checkpoints %v, want %v", a.ids, want)
	}
}

// TestAcknowledgeFails stops the job with what the reader said.
func TestAcknowledgeFails(t *testing.T) {
	for name, answer := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return errors.New("nobody listens") },
		"panic": func(context.Context) error { panic("nobody listens") },
	} {
		t.Run(name, func(t *testing.T) {
			a := &told{answer: answer}
			g := newGate(300)
			p := acknowledgedJob(a, 2, g)
			done := make(chan error, 1)
			go func() { done <- p.Run(t.Context()) }()
			<-g.reached()
			if err := p.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantError(t, <-done, `"numbers"`, "acknowledge checkpoint 1", "nobody listens")
			if a.closed != 2 || a.late != 0 {
				t.Errorf("%d readers closed, %d calls after that", a.closed, a.late)
			}
		})
	}
}

// TestAcknowledgeEndsWithTheJob ends what a reader waits for when the job fails.
func TestAcknowledgeEndsWithTheJob(t *testing.T) {
	a := &told{}
	called := make(chan struct{})
	a.answer = func(ctx context.Context) error {
		close(called)
		<-ctx.Done()
		return ctx.Err()
	}
	g := newGate(300)
	p := acknowledgedJob(a, 1, g)
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	<-g.reached()
	if err := p.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-called
	p.Kill()
	if err := <-done; !errors.Is(err, pipeline.ErrKilled) {
		t.Errorf("got %v, want that the job was killed", err)
	}
}
