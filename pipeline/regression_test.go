package pipeline_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pipeline"
)

// script is a source whose reader is a function of the number of the call. It
// has one subtask.
type script struct {
	read   func(ctx context.Context, n int, b *pipeline.SourceBatch[event]) error
	calls  int
	closed atomic.Bool

	mu     sync.Mutex
	paused map[string]bool // guarded by mu
}

func (s *script) Open(context.Context, *pipeline.SourceEnv) (pipeline.Reader[event], error) {
	s.paused = map[string]bool{}
	return s, nil
}

func (s *script) Read(ctx context.Context, b *pipeline.SourceBatch[event]) error {
	s.calls++
	return s.read(ctx, s.calls, b)
}

func (s *script) Pause(split string)  { s.pause(split, true) }
func (s *script) Resume(split string) { s.pause(split, false) }
func (s *script) Close() error        { s.closed.Store(true); return nil }

func (s *script) pause(split string, paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused[split] = paused
}

func (s *script) isPaused(split string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused[split]
}

func put(b *pipeline.SourceBatch[event], split string, time int64) {
	b.Split = split
	b.Values = append(b.Values, event{Key: split, Time: time})
}

// runFor runs a job until it has had d of time.
func runFor(t *testing.T, p *pipeline.Pipeline, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestRule16_HeldBatchDoesNotHoldOthersNews: a batch that waits for a split must
// not keep that split's end to itself.
func TestRule16_HeldBatchDoesNotHoldOthersNews(t *testing.T) {
	for name, news := range map[string]func(*pipeline.SourceBatch[event]){
		"finished": func(b *pipeline.SourceBatch[event]) { b.FinishSplit("slow") },
		"idle":     func(b *pipeline.SourceBatch[event]) { b.IdleSplit("slow") },
	} {
		synctest.Test(t, func(t *testing.T) {
			src := &script{read: func(ctx context.Context, n int, b *pipeline.SourceBatch[event]) error {
				switch n {
				case 1:
					b.AddSplit("fast")
					b.AddSplit("slow")
					put(b, "slow", 0)
				case 2:
					put(b, "fast", 1_000_000)
				case 3: // too far ahead: held
					put(b, "fast", 1_000_001)
					news(b)
				default:
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}}
			p := pipeline.New(pipeline.DefaultParallelism(1))
			out := collect(pipeline.From(p, "script", src, pipeline.Monotonic(eventTime).MaxDrift(time.Second)), "out")
			runFor(t, p, time.Minute)
			if len(out.values) != 3 {
				t.Errorf("%s: %d of 3 records arrived", name, len(out.values))
			}
		})
	}
}

// TestRule16_PausedSplitMayComeBack: a split that was taken away while it was
// held back is not held back for ever when it returns.
func TestRule16_PausedSplitMayComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &script{}
		src.read = func(ctx context.Context, n int, b *pipeline.SourceBatch[event]) error {
			switch n {
			case 1:
				b.AddSplit("fast")
				b.AddSplit("slow")
				put(b, "slow", 0)
			case 2:
				put(b, "fast", 1_000_000)
			case 3:
				put(b, "fast", 1_000_001)
				b.FinishSplit("fast")
			case 4:
				put(b, "slow", 1_000_000)
			case 5:
				time.Sleep(time.Second)
				b.AddSplit("fast")
			default:
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		p := pipeline.New(pipeline.DefaultParallelism(1))
		collect(pipeline.From(p, "script", src, pipeline.Monotonic(eventTime).MaxDrift(time.Second)), "out")
		runFor(t, p, time.Minute)
		if src.isPaused("fast") {
			t.Error("the split came back and is still paused")
		}
	})
}

// TestRule02_IdleSplitBesideABusyOne: a silent split turns idle although the
// reader always has batches of another one waiting.
func TestRule02_IdleSplitBesideABusyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &script{read: func(ctx context.Context, n int, b *pipeline.SourceBatch[event]) error {
			if n == 1 {
				b.AddSplit("busy")
				b.AddSplit("silent")
			}
			put(b, "busy", int64(n))
			return ctx.Err()
		}}
		p := pipeline.New(pipeline.DefaultParallelism(1))
		in := pipeline.From(p, "script", src, pipeline.Monotonic(eventTime).IdleAfter(time.Second))
		var watermark atomic.Int64
		slow := pipeline.Process(in, "slow", pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, event], e event) error {
			time.Sleep(10 * time.Millisecond)
			watermark.Store(c.Watermark())
			c.Emit(e)
			return nil
		}))
		collect(slow, "out")
		runFor(t, p, 10*time.Second)
		if watermark.Load() <= 0 {
			t.Errorf("after 10 s the watermark is %d", watermark.Load())
		}
	})
}

// waiting is a sink that waits for a server, as long as its context lasts.
type waiting struct{ called chan struct{} }

func (s waiting) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[event], error) {
	return s, nil
}

func (s waiting) Write(ctx context.Context, _ *pipeline.Records[event]) error {
	close(s.called)
	<-ctx.Done()
	return ctx.Err()
}

func TestFailureEndsTheContextOfOperators(t *testing.T) {
	sink := waiting{make(chan struct{})}
	src := &script{read: func(_ context.Context, n int, b *pipeline.SourceBatch[event]) error {
		if n == 1 {
			put(b, "a", 1)
			return nil
		}
		<-sink.called
		return errors.New("disk on fire")
	}}
	p := pipeline.New(pipeline.DefaultParallelism(1))
	pipeline.To(pipeline.From(p, "script", src), "out", sink, pipeline.Parallelism(2))
	wantError(t, p.Run(t.Context()), `operator "script"`, "disk on fire")
}

func TestPanickingConstructorIsNamed(t *testing.T) {
	p := pipeline.New()
	collect(pipeline.Process(from(p, events(3, 1)), "careless",
		func() pipeline.ProcessFunc[pipeline.NoKey, event, event] { panic("no configuration") }), "out")
	wantError(t, p.Run(t.Context()), `operator "careless" subtask`, "constructor: panic: no configuration")
}

func TestDeadLettersIsNoTag(t *testing.T) {
	p := pipeline.New()
	in := from(p, events(3, 1))
	collect(in, "out")
	collect(pipeline.SideOutput(in, pipeline.NewTag[int]("dead letters")), "mine")
	wantError(t, p.Run(t.Context()), `the name "dead letters" is taken`)
}

func TestReaderIsClosedWhenTheStartFails(t *testing.T) {
	src := &script{}
	p := pipeline.New(pipeline.DefaultParallelism(1))
	in := pipeline.From(p, "script", src)
	collect(in, "out")
	collect(pipeline.SideOutput(in, pipeline.NewTag[int]("nosuch")), "side")
	wantError(t, p.Run(t.Context()), `no side output "nosuch"`)
	if !src.closed.Load() {
		t.Error("the reader was opened and not closed")
	}
}

// TestGoexitIsAFailure: t.FailNow in an operator under test ends its goroutine
// without a panic.
func TestGoexitIsAFailure(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	collect(each(from(p, events(3, 1)), "leave", func(e event) (event, error) {
		runtime.Goexit()
		return e, nil
	}, pipeline.Parallelism(2)), "out")
	wantError(t, p.Run(t.Context()), "user code ended the goroutine")
}

func TestDefaultParallelismFitsTheKeyGroups(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(200))
	p := pipeline.New()
	collect(from(p, events(1, 1)), "out")
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	p = pipeline.New(pipeline.DefaultParallelism(200))
	collect(from(p, events(1, 1)), "out")
	wantError(t, p.Validate(), "parallelism 200 is not between 1 and the maximum parallelism 128")
}

// endless is a generator that thinks it knows the end of time.
type endless struct{}

func (endless) Observe(int64)    {}
func (endless) Watermark() int64 { return pipeline.MaxWatermark }

func TestGeneratorCannotEndTheInput(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	src := &script{read: func(_ context.Context, n int, b *pipeline.SourceBatch[event]) error {
		if n > 3 {
			return pipeline.ErrEndOfInput
		}
		put(b, "a", int64(n))
		return nil
	}}
	in := pipeline.From(p, "script", src,
		pipeline.CustomWatermarks(eventTime, func() pipeline.WatermarkGenerator { return endless{} }))
	seen := collect(in, "seen")
	out := collect(count(in), "out")
	run(t, p)
	if len(seen.values) != 3 || len(out.values) != 1 {
		t.Errorf("%d records and %v", len(seen.values), out.values)
	}
}
