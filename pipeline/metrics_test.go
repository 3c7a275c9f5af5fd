package pipeline_test

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/millrace/millrace/pipeline"
)

// dictation is a source of one subtask whose batches a test dictates. It ends when
// the channel is closed.
type dictation chan func(b *pipeline.SourceBatch[event], m *pipeline.Metrics)

func (d dictation) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[event], error) {
	return dictated{d, env.Metrics}, nil
}

type dictated struct {
	dictation
	metrics *pipeline.Metrics
}

func (d dictated) Read(ctx context.Context, b *pipeline.SourceBatch[event]) error {
	select {
	case f, ok := <-d.dictation:
		if !ok {
			return pipeline.ErrEndOfInput
		}
		f(b, d.metrics)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// record dictates a record of a split.
func (d dictation) record(split string, time int64) {
	d <- func(b *pipeline.SourceBatch[event], _ *pipeline.Metrics) {
		b.Split, b.Position = split, []byte("there")
		b.Values = append(b.Values, event{Key: split, Time: time})
	}
}

// lag dictates a reader's gauge of a split.
func (d dictation) lag(split string, n int64) {
	d <- func(_ *pipeline.SourceBatch[event], m *pipeline.Metrics) { m.SplitGauge("lag", split).Store(n) }
}

// inBackground runs a job whose source is dictated, and sees that it ends well.
func inBackground(t *testing.T, p *pipeline.Pipeline, d dictation) (end func()) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(t.Context()) }()
	return func() {
		t.Helper()
		close(d)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// splits returns the figures of the source's splits by name.
func splits(p *pipeline.Pipeline) map[string]pipeline.SplitStats {
	all := map[string]pipeline.SplitStats{}
	for _, op := range p.Stats() {
		for _, s := range op.Splits {
			all[s.Name] = s
		}
	}
	return all
}

func TestSplitsHaveFigures(t *testing.T) {
	d := make(dictation)
	p := pipeline.New(pipeline.DefaultParallelism(1), pipeline.Logger(quiet))
	collect(pipeline.From(p, "events", d, pipeline.Monotonic(eventTime)), "out")
	end := inBackground(t, p, d)

	d.lag("a", 7) // before the split is announced
	d <- func(b *pipeline.SourceBatch[event], _ *pipeline.Metrics) { b.AddSplit("a"); b.AddSplit("b") }
	d.record("a", 5000)
	eventually(t, "a has the time of its record, b none", func() bool {
		s := splits(p)
		return len(s) == 2 && s["a"].Watermark == 4999 && s["a"].Gauges["lag"] == 7 &&
			s["b"].Name == "b" && s["b"].Watermark == pipeline.MinWatermark
	})
	d <- func(b *pipeline.SourceBatch[event], _ *pipeline.Metrics) { b.IdleSplit("b") }
	eventually(t, "b is idle", func() bool { return splits(p)["b"].Idle })
	d.record("b", 7000)
	eventually(t, "b is active", func() bool { s := splits(p)["b"]; return !s.Idle && s.Watermark == 6999 })
	d.lag("b", 1)
	d <- func(_ *pipeline.SourceBatch[event], m *pipeline.Metrics) { m.DropSplit("b") }
	d <- func(b *pipeline.SourceBatch[event], _ *pipeline.Metrics) { b.FinishSplit("a") }
	eventually(t, "a has finished", func() bool { return splits(p)["a"].Finished })
	s := splits(p)
	if len(s["a"].Gauges) > 0 || s["a"].Watermark != 4999 || len(s["b"].Gauges) > 0 {
		t.Errorf("a finished split or one that was dropped still has gauges, or no time: %+v", s)
	}
	d.record("a", 8000)
	eventually(t, "a came back", func() bool { s := splits(p)["a"]; return !s.Finished && s.Watermark == 7999 && s.Gauges["lag"] == 7 })
	end()
}

func TestHistogramsCountDurations(t *testing.T) {
	d := make(dictation)
	close(d)
	p := pipeline.New(pipeline.DefaultParallelism(1), pipeline.Logger(quiet))
	in := pipeline.From(p, "events", d, pipeline.Monotonic(eventTime))
	collect(pipeline.Process(in, "observing", func() observing { return observing{} }), "out")
	run(t, p)
	var s pipeline.HistogramStats
	for _, op := range p.Stats() {
		if op.Operator == "observing" {
			s = op.Histograms["answer"]
		}
	}
	if want := 98*2*time.Millisecond + 700*time.Millisecond + time.Hour; s.Count != 100 || s.Sum != want {
		t.Errorf("%d durations of %v together, want 100 of %v", s.Count, s.Sum, want)
	}
	for _, q := range []struct {
		q    float64
		want time.Duration
	}{{0.5, 2500 * time.Microsecond}, {0.99, time.Second}, {1, 10 * time.Minute}} {
		if got := s.Quantile(q.q); got != q.want {
			t.Errorf("the quantile %v is %v, want %v", q.q, got, q.want)
		}
	}
	if got := (pipeline.HistogramStats{}).Quantile(0.5); got != 0 {
		t.Errorf("the quantile of nothing is %v", got)
	}
}

// observing has a histogram.
type observing struct{}

func (observing) Open(c *pipeline.Context[pipeline.NoKey, event]) error {
	h := c.Metrics().Histogram("answer")
	for range 98 {
		h.Observe(2 * time.Millisecond)
	}
	h.Observe(700 * time.Millisecond)
	h.Observe(time.Hour)
	return nil
}

func (observing) Process(*pipeline.Context[pipeline.NoKey, event], event) error { return nil }

// commits returns how many commits a sink's subtasks have counted.
func commits(p *pipeline.Pipeline, sink string) int64 {
	n := int64(0)
	for _, op := range p.Stats() {
		if op.Operator == sink {
			n += op.Histograms["commit_duration"].Count
		}
	}
	return n
}

func TestCheckpointsAndCommitsAreTimed(t *testing.T) {
	n, g := &notary{}, newGate(halfway)
	job := begin(t, notaryJob(n, g, checkpointsOn(vfs.NewMem())), g)
	if err := job.checkpoint(t); err != nil {
		t.Fatal(err)
	}
	s := job.CheckpointStats()
	if s.Durations.Count != 1 || s.Durations.Sum != s.LastDuration || s.LastDuration <= 0 {
		t.Errorf("after a checkpoint: %+v", s)
	}
	g.open()
	if err := job.wait(t); err != nil {
		t.Fatal(err)
	}
	if got := commits(job.Pipeline, "out"); got != 2 {
		t.Errorf("the commit point has %d commits, want 2", got)
	}
}

// preparing is a sink that commits.
type preparing struct{ collector[event] }

func (s *preparing) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[event], error) {
	return s, nil
}

func (s *preparing) Prepare(context.Context, int64) ([]byte, error) { return []byte("all"), nil }
func (s *preparing) Commit(context.Context, []byte) error           { return nil }

func TestSinksCommitsAreTimed(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(1), pipeline.Logger(quiet), checkpointsOn(vfs.NewMem()))
	in := from(p, events(100, 10))
	pipeline.To(in, "out", pipeline.Sink[event](&preparing{}))
	collect(count(in), "counts")
	run(t, p)
	if got := commits(p, "out"); got != 1 {
		t.Errorf("%d commits, want 1", got)
	}
	if s := p.CheckpointStats(); s.LastSize <= 0 || s.LastSize > 1<<20 {
		t.Errorf("the checkpoint of ten counts has %d bytes", s.LastSize)
	}
}
