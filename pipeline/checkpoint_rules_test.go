package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/state"
	"github.com/millrace/millrace/window"
)

// passing is a job without state: what is read is what is committed.
func passing(l *ledger, g *gate, opts ...pipeline.Option) *pipeline.Pipeline {
	p := pipeline.New(append([]pipeline.Option{pipeline.Name("passing"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet)}, opts...)...)
	n := gatedNumbers(p, "numbers", numbersSource{1, 100, 0}, g)
	pipeline.To(n, "out", ledgerSink[int]{l})
	return p
}

func TestRule18_CommitsOnlyWhatIsComplete(t *testing.T) {
	fs := newBreakable(vfs.NewMem())
	l, g := newLedger(), newGate(20)
	job := begin(t, passing(l, g, checkpointsOn(fs)), g)
	fs.fail(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRename && strings.Contains(op.Path, "MANIFEST") {
			return errors.New("the disk says no")
		}
		return nil
	})
	mustBeAbout(t, job.checkpoint(t), "the disk says no")
	if got := l.sorted(); len(got) != 0 {
		t.Fatalf("%d records are committed, and there is no checkpoint", len(got))
	}
	fs.repair()
	job.goOn(t, 40)
	if err := job.checkpoint(t); err != nil {
		t.Fatal(err)
	}
	g.open()
	if err := job.wait(t); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) != 100 {
		t.Errorf("%d records are committed, want 100: a checkpoint commits what earlier ones prepared", len(l.lines))
	}
}

// worldJob windows and dedupes in a world that kills it.
func worldJob(w *pipelinetest.World, splits int) func(opts ...pipeline.Option) *pipeline.Pipeline {
	return func(opts ...pipeline.Option) *pipeline.Pipeline {
		p := pipeline.New(append([]pipeline.Option{pipeline.DefaultParallelism(2), pipeline.BatchSize(8)}, opts...)...)
		in := pipeline.From(p, "events", pipelinetest.Watched(w, memory.From(events(200, 7)).Divide(splits)), pipeline.Monotonic(eventTime))
		unique := operators.Dedupe(in, "dedupe", func(e event) int { return e.N / 2 }, time.Hour)
		counts := operators.Aggregate(pipeline.KeyBy(unique, eventKey), "count", window.Tumbling(20*time.Millisecond), operators.Count[event]())
		pipeline.To(counts, "counts", pipelinetest.NewLedger[operators.Result[string, int64]](w, "counts"))
		return p
	}
}

// TestRule18_KilledAroundCommits kills a job at each of its moments around a
// checkpoint, in the run that takes it and in the one that restores it.
func TestRule18_KilledAroundCommits(t *testing.T) {
	straight := pipelinetest.NewWorld(t)
	if err := straight.Run(worldJob(straight, 1)); err != nil {
		t.Fatal(err)
	}
	for _, at := range []pipelinetest.Moment{
		pipelinetest.BeforePrepare, pipelinetest.AfterPrepare, pipelinetest.BeforeCommit, pipelinetest.AfterCommit,
	} {
		for n := 1; n <= 3; n++ {
			t.Run(fmt.Sprintf("%v/%d", at, n), func(t *testing.T) {
				w := pipelinetest.NewWorld(t)
				w.CheckpointEvery(3)
				w.KillAt(at, n)
				w.KillAt(pipelinetest.BeforeCommit, 1)
				w.KillAt(pipelinetest.AfterCommit, 1)
				if err := w.Run(worldJob(w, 1)); err != nil {
					t.Fatal(err)
				}
				if d := w.Diff(straight); d != "" {
					t.Errorf("after kills %v:\n%s", w.Kills(), d)
				}
			})
		}
	}
}

func TestRule27_DedupeRemembersWhatWasCommitted(t *testing.T) {
	kills := pipelinetest.Survive(t, pipelinetest.Ordeal{Kills: 20}, func(w *pipelinetest.World, opts ...pipeline.Option) *pipeline.Pipeline {
		p := pipeline.New(append([]pipeline.Option{pipeline.DefaultParallelism(2), pipeline.BatchSize(8)}, opts...)...)
		in := pipeline.From(p, "events", pipelinetest.Watched(w, memory.From(events(200, 7))), pipeline.Monotonic(eventTime))
		pipeline.To(operators.Dedupe(in, "dedupe", func(e event) int { return e.N % 50 }, 60*time.Millisecond), "out",
			pipelinetest.NewLedger[event](w, "out"))
		return p
	})
	if kills < 20 {
		t.Errorf("%d kills", kills)
	}
}

// TestRule19_EndedTaskEndsAgain starts from a checkpoint in which a task had come
// to its end, and those behind it had not: they have to hear of it again, or
// their windows never fire.
func TestRule19_EndedTaskEndsAgain(t *testing.T) {
	fs := vfs.NewMem()
	l := newLedger()
	build := func(l *ledger, g *gate, opts ...pipeline.Option) *pipeline.Pipeline {
		p := pipeline.New(append([]pipeline.Option{pipeline.Name("ends"), pipeline.Logger(quiet), pipeline.DefaultParallelism(1)}, opts...)...)
		byNumber := pipeline.Monotonic(func(n int) int64 { return int64(n) })
		long := gatedNumbers(p, "long", numbersSource{1, 100, 0}, g, byNumber)
		short := pipeline.From(p, "short", numbersSource{1, 40, 0}, byNumber)
		apart := operators.Map(pipeline.Rebalance(short), "apart", func(n int) int { return n }, pipeline.Parallelism(2))
		all := pipeline.KeyBy(pipeline.Union(long, apart), func(n int) int { return n % 3 })
		counts := operators.Aggregate(all, "count", window.Tumbling(10*time.Millisecond), operators.Count[int]())
		pipeline.To(counts, "counts", ledgerSink[operators.Result[int, int64]]{l})
		return p
	}
	g := newGate(20)
	job := begin(t, build(l, g, checkpointsOn(fs)), g)
	for ended := false; !ended; { // the tasks behind the short source
		ended = true
		for _, s := range job.Stats() {
			if s.Operator == "apart" && s.Watermark != pipeline.MaxWatermark {
				ended = false
			}
		}
	}
	if err := job.checkpoint(t); err != nil {
		t.Fatal(err)
	}
	job.Kill()
	if err := job.wait(t); !errors.Is(err, pipeline.ErrKilled) {
		t.Fatal(err)
	}
	if err := build(l, ungated(), checkpointsOn(fs)).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	straight := newLedger()
	run(t, build(straight, ungated()))
	mustBeResults(t, l, straight.sorted())
}

// TestRule16_RestartWithDrift starts two subtasks again whose splits had come to
// different times: neither may wait for ever for the other.
func TestRule16_RestartWithDrift(t *testing.T) {
	straight := pipelinetest.NewWorld(t)
	job := func(w *pipelinetest.World) func(opts ...pipeline.Option) *pipeline.Pipeline {
		return func(opts ...pipeline.Option) *pipeline.Pipeline {
			p := pipeline.New(append([]pipeline.Option{pipeline.DefaultParallelism(2), pipeline.BatchSize(4)}, opts...)...)
			in := pipeline.From(p, "events", pipelinetest.Watched(w, memory.From(events(100, 3), events(60, 2))),
				pipeline.Monotonic(eventTime).MaxDrift(5*time.Millisecond))
			pipeline.To(in, "out", pipelinetest.NewLedger[event](w, "out"))
			return p
		}
	}
	if err := straight.Run(job(straight)); err != nil {
		t.Fatal(err)
	}
	w := pipelinetest.NewWorld(t)
	w.CheckpointEvery(2)
	w.KillAt(pipelinetest.AfterCommit, 2)
	w.KillAt(pipelinetest.AfterCommit, 4)
	if err := w.Run(job(w)); err != nil {
		t.Fatal(err)
	}
	if d := w.Diff(straight); d != "" {
		t.Error(d)
	}
}

// TestRule19_StopThenGoOnThenNothing stops a job, whose windows stay open, and starts it
// again; drains it, and they fire; and starts it once more, with nothing to do.
func TestRule19_StopThenGoOnThenNothing(t *testing.T) {
	want := faultJobResults(t)
	fs, l := vfs.NewMem(), newLedger()
	ctx, stop := context.WithCancel(t.Context())
	g := newGate(halfway)
	p := faultJob(l, g, checkpointsOn(fs))
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	<-g.reached()
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := l.sorted(); len(got) >= len(want) || len(got) == 0 {
		t.Fatalf("%d results after half of the input, %d after all", len(got), len(want))
	}
	for _, s := range l.sorted() {
		if !slices.Contains(want, s) {
			t.Errorf("%s is no result of the whole input: a window fired that was not full", s)
		}
	}
	for range 2 { // the second has nothing left to do
		if err := faultJob(l, ungated(), checkpointsOn(fs)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustBeResults(t, l, want)
	}
}

func TestRule19_DrainFiresAll(t *testing.T) {
	fs, l, g := vfs.NewMem(), newLedger(), newGate(halfway)
	job := begin(t, faultJob(l, g, checkpointsOn(fs)), g)
	job.Drain()
	if err := job.wait(t); err != nil {
		t.Fatal(err)
	}
	drained := l.sorted()
	sum := 0
	for _, s := range drained {
		if strings.HasPrefix(s, "counts") {
			sum++
		}
	}
	if sum == 0 {
		t.Error("no window fired")
	}
}

// remembering is an operator with state and timers.
type remembering struct {
	stateName, namespace string
	options              []state.Option
	n                    *state.Value[string, int]
	timers               *pipeline.Timers[string]
}

func (o *remembering) Open(c *pipeline.Context[string, string]) error {
	o.n = state.NewValue[int](c.State(), o.stateName, o.options...)
	if o.namespace != "" {
		o.timers = c.Timers(o.namespace)
	}
	return nil
}

func (o *remembering) Process(_ *pipeline.Context[string, string], e event) error {
	*o.n.Upsert() += e.N
	if o.timers != nil {
		o.timers.Set(pipeline.MaxWatermark)
	}
	return nil
}

func (o *remembering) OnTimer(c *pipeline.Context[string, string], _ pipeline.Timer) error {
	n, _ := o.n.Get()
	c.Emit(fmt.Sprintf("%s=%d", c.Key(), n))
	return nil
}

// shape is what may differ between two starts.
type shape struct {
	source, operator, sink string
	stateName, namespace   string
	maxParallelism         int
	options                []state.Option
	checkpoints            []pipeline.CheckpointOption
}

func usual() shape {
	return shape{source: "events", operator: "remember", sink: "out", stateName: "n", namespace: "end", maxParallelism: 128}
}

func (s shape) job(l *ledger, fs vfs.FS, src pipeline.Source[event]) *pipeline.Pipeline {
	p := pipeline.New(pipeline.Name("shapes"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), pipeline.MaxParallelism(s.maxParallelism),
		checkpointsOn(fs, s.checkpoints...))
	in := pipeline.From(p, s.source, src, pipeline.Monotonic(eventTime))
	out := pipeline.Process(pipeline.KeyBy(in, eventKey), s.operator, func() *remembering {
		return &remembering{stateName: s.stateName, namespace: s.namespace, options: s.options}
	})
	pipeline.To(out, s.sink, ledgerSink[string]{l})
	return p
}

// unending reads events and then waits, so that the job can be stopped.
type unending struct{ pipeline.Source[event] }

func (s unending) Open(ctx context.Context, env *pipeline.SourceEnv) (pipeline.Reader[event], error) {
	r, err := s.Source.Open(ctx, env)
	return unendingReader{r}, err
}

type unendingReader struct{ pipeline.Reader[event] }

func (r unendingReader) Read(ctx context.Context, b *pipeline.SourceBatch[event]) error {
	err := r.Reader.Read(ctx, b)
	if errors.Is(err, pipeline.ErrEndOfInput) {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// stoppedHalfway leaves a checkpoint of the usual shape, and a savepoint "half".
func stoppedHalfway(t *testing.T, l *ledger, fs vfs.FS) {
	t.Helper()
	p := usual().job(l, fs, unending{memory.From(events(20, 4))})
	ended := make(chan error, 1)
	go func() { ended <- p.Run(t.Context()) }()
	for {
		s := p.Stats()
		if len(s) > 1 && s[1].In == 20 {
			break
		}
		time.Sleep(100 * time.Microsecond)
	}
	if err := p.StopWithSavepoint(t.Context(), "half"); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := l.sorted(); len(got) != 0 {
		t.Fatalf("a stopped job fired %v", got)
	}
}

func TestRule21_WhatNobodyClaimsIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*shape)
		mention []string
		always  bool // AllowUnclaimed makes no difference
	}{
		"operator renamed":       {func(s *shape) { s.operator = "other" }, []string{`"remember"`}, false},
		"source renamed":         {func(s *shape) { s.source = "other" }, []string{`"events"`}, false},
		"state renamed":          {func(s *shape) { s.stateName = "m" }, []string{`"remember"`, `"n"`}, false},
		"timers renamed":         {func(s *shape) { s.namespace = "finish" }, []string{`"remember"`, `"end"`}, false},
		"other max parallelism":  {func(s *shape) { s.maxParallelism = 64 }, []string{"128", "64"}, true},
		"sink with nothing left": {func(s *shape) { s.sink = "other" }, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			fs, l := vfs.NewMem(), newLedger()
			stoppedHalfway(t, l, fs)
			s := usual()
			c.change(&s)
			err := s.job(l, fs, memory.From(events(20, 4))).Run(t.Context())
			if c.mention == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantError(t, err, c.mention...)
			if !c.always && !errors.Is(err, pipeline.ErrUnclaimedState) {
				t.Errorf("%v does not match ErrUnclaimedState", err)
			}
			s.checkpoints = append(s.checkpoints, pipeline.AllowUnclaimed())
			if err := s.job(l, fs, memory.From(events(20, 4))).Run(t.Context()); (err != nil) != c.always {
				t.Errorf("with AllowUnclaimed: %v", err)
			}
		})
	}
}

func TestRule22_VersionsAreReadMigratedOrRefused(t *testing.T) {
	fs, l := vfs.NewMem(), newLedger()
	stoppedHalfway(t, l, fs)
	s := usual()
	s.options = []state.Option{state.Version(2)}
	err := s.job(l, fs, memory.From(events(20, 4))).Run(t.Context())
	wantError(t, err, `"remember"`, `"n"`, "version 1", "version 2")
	if got := l.sorted(); len(got) != 0 {
		t.Fatalf("the job that was refused has delivered %v", got)
	}
}

// TestSavepointElsewhere moves a savepoint and starts another job from it, in
// a directory of its own.
func TestSavepointElsewhere(t *testing.T) {
	fs, l := vfs.NewMem(), newLedger()
	stoppedHalfway(t, l, fs)
	if err := fs.Rename("/job/savepoints/half", "/moved"); err != nil {
		t.Fatal(err)
	}
	if err := fs.RemoveAll("/job"); err != nil {
		t.Fatal(err)
	}
	s := usual()
	s.checkpoints = []pipeline.CheckpointOption{pipeline.StartFrom("/moved")}
	for range 2 { // the second time its own checkpoint is newer
		if err := s.job(l, fs, memory.From(events(40, 4))).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"k0=180", "k1=190", "k2=200", "k3=210"}
	got := l.sorted()
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i, w := range want {
		if !strings.Contains(got[i], w) {
			t.Errorf("got %s, want %s", got[i], w)
		}
	}
}

func TestCheckpointsThatCannotBe(t *testing.T) {
	fs, l, g := vfs.NewMem(), newLedger(), newGate(20)
	p := passing(l, g, checkpointsOn(fs))
	for name, err := range map[string]error{
		"Checkpoint": p.Checkpoint(t.Context()), "Savepoint": p.Savepoint(t.Context(), "s"), "StopWithSavepoint": p.StopWithSavepoint(t.Context(), "s"),
	} {
		if !errors.Is(err, pipeline.ErrNoCheckpoints) {
			t.Errorf("%s before the job runs: %v", name, err)
		}
	}
	job := begin(t, p, g)
	if err := job.Savepoint(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "one", "../up", ".hidden"} {
		if err := job.Savepoint(t.Context(), name); err == nil {
			t.Errorf("savepoint %q: no error", name)
		}
		if err := job.StopWithSavepoint(t.Context(), name); err == nil {
			t.Errorf("stop with savepoint %q: no error", name)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := job.Savepoint(ended, "two"); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if err := job.checkpoint(t); err != nil {
		t.Errorf("the job does not go on: %v", err)
	}
	g.open()
	if err := job.wait(t); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Checkpoint": job.Checkpoint(t.Context()), "Savepoint": job.Savepoint(t.Context(), "s"), "StopWithSavepoint": job.StopWithSavepoint(t.Context(), "s"),
	} {
		if err == nil {
			t.Errorf("%s after the job has ended: no error", name)
		}
	}
	if got := l.sorted(); len(got) != 100 {
		t.Errorf("%d records, want 100", len(got))
	}

	none := passing(l, ungated())
	run(t, none)
	if err := none.Checkpoint(t.Context()); !errors.Is(err, pipeline.ErrNoCheckpoints) {
		t.Errorf("without checkpoints: %v", err)
	}
}

// faultySink fails or panics where it is told to.
type faultySink struct{ prepare, commit func() error }

func (s faultySink) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[int], error) {
	return s, nil
}
func (s faultySink) Write(context.Context, *pipeline.Records[int]) error { return nil }
func (s faultySink) Prepare(context.Context, int64) ([]byte, error)      { return []byte("x"), s.prepare() }
func (s faultySink) Commit(context.Context, []byte) error                { return s.commit() }

func TestRule18_SinksThatFail(t *testing.T) {
	good := func() error { return nil }
	bad := func() error { return errors.New("server is gone") }
	panics := func() error { panic("server is gone") }
	for name, sink := range map[string]faultySink{
		"prepare fails": {bad, good}, "prepare panics": {panics, good}, "commit fails": {good, bad}, "commit panics": {good, panics},
	} {
		for _, when := range []string{"during", "at the end"} {
			t.Run(name+"/"+when, func(t *testing.T) {
				g := newGate(20)
				p := pipeline.New(pipeline.Name("faulty"), pipeline.DefaultParallelism(2), pipeline.Logger(quiet), checkpointsOn(vfs.NewMem()))
				pipeline.To(gatedNumbers(p, "numbers", numbersSource{2, 100, 0}, g), "out", sink)
				job := begin(t, p, g)
				if when == "during" {
					_ = job.checkpoint(t) // which may or may not be complete
				}
				g.open()
				wantError(t, job.wait(t), `"out"`, "server is gone")
			})
		}
	}
}

// blockingSink takes no record until it is let go.
type blockingSink struct {
	l       *ledger
	blocked chan struct{}
	once    *sync.Once
	free    chan struct{}
}

func (s blockingSink) Open(_ context.Context, env *pipeline.SinkEnv) (pipeline.Writer[int], error) {
	return &blockingWriter{ledgerWriter[int]{l: s.l, env: env}, s}, nil
}

type blockingWriter struct {
	ledgerWriter[int]
	s blockingSink
}

func (w *blockingWriter) Write(ctx context.Context, b *pipeline.Records[int]) error {
	w.s.once.Do(func() { close(w.s.blocked) })
	select {
	case <-w.s.free:
	case <-ctx.Done():
		return ctx.Err()
	}
	return w.ledgerWriter.Write(ctx, b)
}

// TestRule17_TimeoutBehindABlockedSink has checkpoints time out because a sink
// takes nothing. Their barriers are still on their way when it goes on, through
// tasks of two inputs, and the job comes to its end.
func TestRule17_TimeoutBehindABlockedSink(t *testing.T) {
	l := newLedger()
	sink := blockingSink{l, make(chan struct{}), &sync.Once{}, make(chan struct{})}
	p := pipeline.New(pipeline.Name("blocked"), pipeline.DefaultParallelism(2), pipeline.Logger(quiet), pipeline.BatchSize(4), pipeline.ChannelCapacity(1),
		pipeline.Checkpoints("/job", pipeline.CheckpointFiles(vfs.NewMem()), pipeline.CheckpointInterval(time.Millisecond),
			pipeline.CheckpointTimeout(2*time.Millisecond), pipeline.ToleratedFailures(-1)))
	a := pipeline.From(p, "a", numbersSource{2, 200, 0})
	b := pipeline.From(p, "b", numbersSource{3, 200, 0})
	both := operators.Map(pipeline.Rebalance(pipeline.Union(a, pipeline.Rebalance(b))), "both", func(n int) int { return n }, pipeline.Parallelism(3))
	pipeline.To(both, "out", sink)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(t.Context()) }()
	<-sink.blocked
	for p.CheckpointStats().Failed < 3 {
		time.Sleep(100 * time.Microsecond)
	}
	close(sink.free)
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("the job hangs")
	}
	if got := l.sorted(); len(got) != 1000 {
		t.Errorf("%d records, want 1000", len(got))
	}
	mustBeAbout(t, p.CheckpointStats().LastError, "not acknowledged by tasks")
}

// TestFailureDuringACheckpoint fails the job, kills it, and cancels it while a
// checkpoint waits for a sink.
func TestFailureDuringACheckpoint(t *testing.T) {
	for name, end := range map[string]func(p *pipeline.Pipeline, cancel func()){
		"kill":   func(p *pipeline.Pipeline, _ func()) { p.Kill() },
		"cancel": func(_ *pipeline.Pipeline, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			sink := blockingSink{newLedger(), make(chan struct{}), &sync.Once{}, make(chan struct{})}
			p := pipeline.New(pipeline.Name("blocked"), pipeline.DefaultParallelism(2), pipeline.Logger(quiet), pipeline.StopTimeout(50*time.Millisecond), checkpointsOn(vfs.NewMem()))
			pipeline.To(pipeline.Rebalance(pipeline.From(p, "a", numbersSource{2, 20000, 0})), "out", sink)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- p.Run(ctx) }()
			<-sink.blocked
			asked := make(chan error, 1)
			go func() { asked <- p.Checkpoint(t.Context()) }()
			end(p, cancel)
			for _, c := range []chan error{ended, asked} {
				select {
				case err := <-c:
					if err == nil {
						t.Error("no error")
					}
				case <-time.After(patience):
					t.Fatal("hangs")
				}
			}
		})
	}
}

// TestRule14_OverdueTimersFireAfterRestart lets timers of processing time become
// due while the job is down.
func TestRule14_OverdueTimersFireAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, l := vfs.NewMem(), newLedger()
		job := func() *pipeline.Pipeline {
			p := pipeline.New(pipeline.Name("alarms"), pipeline.DefaultParallelism(1), pipeline.Logger(quiet), checkpointsOn(fs))
			in := pipeline.From(p, "events", unending{memory.From(events(6, 3))}, pipeline.Monotonic(eventTime))
			out := pipeline.Process(pipeline.KeyBy(in, eventKey), "alarm", func() *overdue { return &overdue{} })
			pipeline.To(out, "out", ledgerSink[string]{l})
			return p
		}
		p := job()
		ended := make(chan error, 1)
		go func() { ended <- p.Run(t.Context()) }()
		synctest.Wait()
		if err := p.StopWithSavepoint(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if got := l.sorted(); len(got) != 0 {
			t.Fatalf("fired before their time: %v", got)
		}
		time.Sleep(2 * time.Hour) // of the bubble's clock

		p = job()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { ended <- p.Run(ctx) }()
		time.Sleep(time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if got := l.sorted(); len(got) != 3 {
			t.Errorf("got %v, want one alarm for each of 3 keys", got)
		}
	})
}

// overdue sets one timer an hour ahead for every key.
type overdue struct{ due *pipeline.Timers[string] }

func (o *overdue) Open(c *pipeline.Context[string, string]) error {
	o.due = c.Timers("alarm")
	return nil
}

func (o *overdue) Process(c *pipeline.Context[string, string], _ event) error {
	o.due.SetProcessing(c.Now() + time.Hour.Milliseconds())
	return nil
}

func (o *overdue) OnTimer(c *pipeline.Context[string, string], t pipeline.Timer) error {
	c.Emit(c.Key())
	return nil
}

// turning is a source of two splits. The second has one record and is idle from
// then on; the first has n.
type turning struct{ n int }

func (s turning) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[event], error) {
	return &turningReader{s: s, env: env}, nil
}

type turningReader struct {
	s    turning
	env  *pipeline.SourceEnv
	told bool
	sent bool
}

func (r *turningReader) Read(ctx context.Context, b *pipeline.SourceBatch[event]) error {
	name := []string{"busy", "idle"}[r.env.Subtask]
	switch _, before := r.env.Positions[name]; {
	case !r.told:
		r.told = true
		b.AddSplit(name)
		return nil
	case r.sent, before && name == "idle":
		<-ctx.Done()
		return ctx.Err()
	}
	r.sent = true
	b.Split, b.Position = name, []byte("read")
	if name == "idle" {
		b.Values = []event{{Key: "k", Time: 1}}
		b.IdleSplit(name)
		return nil
	}
	for i := range r.s.n {
		b.Values = append(b.Values, event{Key: "k", Time: int64(10 * i)})
	}
	return nil
}

// TestRule15_IdleSplitsStayIdle starts a job again one of whose splits was idle:
// time goes on without it, as it did before.
func TestRule15_IdleSplitsStayIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, l := vfs.NewMem(), newLedger()
		for start, n := range []int{20, 40} {
			p := pipeline.New(pipeline.Name("idle"), pipeline.DefaultParallelism(2), pipeline.Logger(quiet), checkpointsOn(fs))
			in := pipeline.From(p, "events", turning{n}, pipeline.Monotonic(eventTime))
			counts := operators.Aggregate(pipeline.KeyBy(in, eventKey), "count", window.Tumbling(100*time.Millisecond), operators.Count[event]())
			pipeline.To(counts, "counts", ledgerSink[operators.Result[string, int64]]{l})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- p.Run(ctx) }()
			time.Sleep(time.Second)
			cancel()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if got, want := len(l.sorted()), []int{1, 3}[start]; got != want {
				t.Fatalf("start %d: %d windows have fired, want %d: %v", start, got, want, l.sorted())
			}
		}
	})
}
