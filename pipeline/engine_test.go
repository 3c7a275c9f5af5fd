package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/memory"
	"github.com/millrace/millrace/state"
)

func TestSameResultsAtAnyParallelismAndBatchSize(t *testing.T) {
	evs := events(10_000, 37)
	var want []string
	for _, par := range []int{1, 2, 3, 8} {
		for _, batch := range []int{1, 7, 256, 100_000} {
			p := pipeline.New(pipeline.DefaultParallelism(par), pipeline.BatchSize(batch), pipeline.ChannelCapacity(1))
			out := collect(count(from(p, evs[:5000], evs[5000:])), "out")
			run(t, p)
			got := sorted(out.values)
			if want == nil {
				want = got
			}
			if !slices.Equal(got, want) {
				t.Fatalf("parallelism %d, batch size %d: got %v, want %v", par, batch, got, want)
			}
		}
	}
	if len(want) != 37 {
		t.Fatalf("got %d keys, want 37", len(want))
	}
}

func TestFanOutGivesEveryConsumerEveryRecord(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(2))
	src := from(p, events(1000, 10), events(1000, 10))
	a := collect(src, "a")
	b := collect(each(src, "pass", pass), "b")
	c := collect(pipeline.Union(src, src), "c")
	d := collect(pipeline.Broadcast(src), "d")
	run(t, p)
	for _, x := range []struct {
		name string
		got  int
		want int
	}{{"a", len(a.values), 2000}, {"b", len(b.values), 2000}, {"c", len(c.values), 4000}, {"d", len(d.values), 4000}} {
		if x.got != x.want {
			t.Errorf("%s has %d records, want %d", x.name, x.got, x.want)
		}
	}
}

func TestRebalanceUsesEverySubtask(t *testing.T) {
	p := pipeline.New(pipeline.BatchSize(10), pipeline.DefaultParallelism(1))
	src := from(p, events(1000, 10))
	out := collect(each(pipeline.Rebalance(src), "work", pass, pipeline.Parallelism(4)), "out")
	run(t, p)
	for _, s := range p.Stats() {
		if s.Operator == "work" && s.In < 200 {
			t.Errorf("subtask %d got %d of 1000 records", s.Subtask, s.In)
		}
	}
	if len(out.values) != 1000 {
		t.Errorf("%d records arrived, want 1000", len(out.values))
	}
}

// joining emits a pair whenever a key has been seen on both sides.
type joining struct{ left, right *state.Value[string, int] }

func (o *joining) Open(c *pipeline.Context[string, string]) error {
	o.left = state.NewValue[int](c.State(), "left")
	o.right = state.NewValue[int](c.State(), "right")
	return nil
}

func (o *joining) ProcessLeft(c *pipeline.Context[string, string], e event) error {
	o.left.Set(e.N)
	return o.emit(c)
}

func (o *joining) ProcessRight(c *pipeline.Context[string, string], n int) error {
	o.right.Set(n)
	return o.emit(c)
}

func (o *joining) emit(c *pipeline.Context[string, string]) error {
	l, ok1 := o.left.Get()
	r, ok2 := o.right.Get()
	if ok1 && ok2 {
		c.Emit(fmt.Sprintf("%s %d %d", c.Key(), l, r))
	}
	return nil
}

func TestConnectSharesStateByKey(t *testing.T) {
	for _, par := range []int{1, 3} {
		p := pipeline.New(pipeline.DefaultParallelism(par))
		left := pipeline.KeyBy(from(p, events(20, 20)), eventKey)
		right := pipeline.KeyBy(pipeline.From(p, "numbers", memory.From([]int{3, 5, 99})), func(n int) string { return fmt.Sprintf("k%d", n) })
		out := collect(pipeline.Connect(left, right, "join", func() *joining { return &joining{} }), "out")
		run(t, p)
		if want := []string{"k3 3 3", "k5 5 5"}; !slices.Equal(sorted(out.values), want) {
			t.Errorf("parallelism %d: got %v, want %v", par, out.values, want)
		}
	}
}

// failing fails on some records in one of two ways.
func failing(e event) (event, error) {
	switch e.N % 10 {
	case 3:
		return e, fmt.Errorf("three: %d", e.N)
	case 7:
		panic("seven")
	}
	return e, nil
}

// TestRule31_RejectedRecordsBecomeDeadLetters: whatever of a user's functions
// fails, every other record arrives, and the failed one is named.
func TestRule31_RejectedRecordsBecomeDeadLetters(t *testing.T) {
	badKey := func(e event) string {
		_, _ = failing(e) // panics on seven; its error is not ours to report
		return e.Key
	}
	badTime := func(e event) int64 {
		_, _ = failing(e)
		return e.Time
	}
	for name, c := range map[string]struct {
		graph    func(p *pipeline.Pipeline) pipeline.Stream[event]
		operator string
		rejects  int
	}{
		"operator": {func(p *pipeline.Pipeline) pipeline.Stream[event] {
			return each(from(p, events(100, 10)), "fail", failing)
		}, "fail", 20},
		"key function": {func(p *pipeline.Pipeline) pipeline.Stream[event] {
			return pipeline.Process(pipeline.KeyBy(from(p, events(100, 10)), badKey), "keyed",
				pipeline.Func(func(c *pipeline.Context[string, event], e event) error { c.Emit(e); return nil }))
		}, "events", 10},
		"timestamp function": {func(p *pipeline.Pipeline) pipeline.Stream[event] {
			return each(pipeline.From(p, "events", memory.From(events(100, 10)), pipeline.Monotonic(badTime)), "pass", pass)
		}, "events", 10},
		"event time out of range": {func(p *pipeline.Pipeline) pipeline.Stream[event] {
			return each(pipeline.From(p, "events", memory.From(events(100, 10)), pipeline.Monotonic(eventTime).Between(5, 94)), "pass", pass)
		}, "events", 10},
	} {
		for _, par := range []int{1, 2} {
			for _, batch := range []int{1, 3, 256} {
				t.Run(fmt.Sprintf("%s/par=%d/batch=%d", name, par, batch), func(t *testing.T) {
					p := pipeline.New(pipeline.DefaultParallelism(par), pipeline.BatchSize(batch))
					out := collect(c.graph(p), "out")
					dead := collect(pipeline.DeadLetters(p), "dead")
					run(t, p)
					checkRejects(t, out, dead, c.operator, c.rejects)
				})
			}
		}
	}
}

func checkRejects(t *testing.T, out *collector[event], dead *collector[pipeline.DeadLetter], operator string, rejects int) {
	t.Helper()
	if len(dead.values) != rejects || len(out.values) != 100-rejects {
		t.Fatalf("%d records and %d dead letters, want %d and %d", len(out.values), len(dead.values), 100-rejects, rejects)
	}
	seen := map[int]bool{}
	for i, e := range out.values {
		if seen[e.N] || out.times[i] != e.Time {
			t.Errorf("record %v came twice or with the time %d", e, out.times[i])
		}
		seen[e.N] = true
	}
	for _, d := range dead.values {
		if d.Operator != operator || d.Error == "" || !strings.Contains(d.Record, "Key:k") {
			t.Errorf("dead letter %+v does not name operator, error and record", d)
		}
	}
}

// TestRule31_WithoutDeadLettersTheJobStops naming operator, subtask and record.
func TestRule31_WithoutDeadLettersTheJobStops(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	collect(each(from(p, events(100, 10)), "fail", failing), "out")
	err := p.Run(t.Context())
	wantError(t, err, `operator "fail" subtask 0`, "N:3", "three: 3")
	var oe *pipeline.OperatorError
	if !errors.As(err, &oe) || oe.Operator != "fail" {
		t.Errorf("error is a %T", err)
	}
}

func TestPanicNamesOperatorSubtaskAndRecord(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(2))
	out := pipeline.Process(pipeline.KeyBy(from(p, events(100, 10)), eventKey), "explode",
		pipeline.Func(func(_ *pipeline.Context[string, int], e event) error {
			if e.N == 42 {
				panic(fmt.Errorf("boom"))
			}
			return nil
		}))
	collect(out, "out")
	err := p.Run(t.Context())
	wantError(t, err, `operator "explode" subtask`, "N:42", "panic: boom")
	var pe *pipeline.PanicError
	if !errors.As(err, &pe) || !strings.Contains(string(pe.Stack), "engine_test.go") {
		t.Errorf("error %v carries no stack of the panic", err)
	}
}

func TestFatalErrorStopsDespiteDeadLetters(t *testing.T) {
	p := pipeline.New()
	collect(each(from(p, events(10, 1)), "fail", func(e event) (event, error) {
		return e, pipeline.Fatal(errors.New("the licence ran out"))
	}), "out")
	collect(pipeline.DeadLetters(p), "dead")
	wantError(t, p.Run(t.Context()), `operator "fail"`, "the licence ran out")
}

// TestRejectsOfTheDeadLetterPathStopTheJob, instead of going round for ever.
func TestRejectsOfTheDeadLetterPathStopTheJob(t *testing.T) {
	p := pipeline.New()
	collect(each(from(p, events(10, 1)), "fail", failing), "out")
	collect(each(pipeline.DeadLetters(p), "again", func(d pipeline.DeadLetter) (string, error) {
		return "", errors.New("no room")
	}), "dead")
	wantError(t, p.Run(t.Context()), `operator "again"`, "no room")
}

// awkward fails in every place an operator has.
type awkward struct{ where string }

func (a *awkward) at(where string) error {
	if a.where == where {
		return errors.New("failed at " + where)
	}
	if a.where == "panic "+where {
		panic("panicked at " + where)
	}
	return nil
}

func (a *awkward) Open(c *pipeline.Context[string, int]) error {
	c.Timers("t")
	return a.at("open")
}
func (a *awkward) Process(*pipeline.Context[string, int], event) error { return a.at("process") }
func (a *awkward) OnTimer(*pipeline.Context[string, int], pipeline.Timer) error {
	return a.at("timer")
}
func (a *awkward) OnWatermark(*pipeline.Context[string, int], int64) error { return a.at("watermark") }
func (a *awkward) Close() error                                            { return a.at("close") }

func TestFailureAnywhereIsNamed(t *testing.T) {
	for _, where := range []string{"open", "process", "watermark", "close"} {
		for _, how := range []string{"", "panic "} {
			p := pipeline.New()
			collect(pipeline.Process(pipeline.KeyBy(from(p, events(10, 2)), eventKey), "awkward",
				func() *awkward { return &awkward{how + where} }), "out")
			wantError(t, p.Run(t.Context()), `operator "awkward" subtask`, "ed at "+where)
		}
	}
}

// misdeclared declares what it may not.
type misdeclared struct{}

func (m *misdeclared) Open(c *pipeline.Context[pipeline.NoKey, int]) error {
	state.NewValue[int](c.State(), "n")
	c.Timers("t")
	pipeline.Side(c, pipeline.NewTag[string]("late"))
	return nil
}
func (m *misdeclared) Process(*pipeline.Context[pipeline.NoKey, int], event) error { return nil }

func TestDeclarationsAreCheckedAtStart(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(1))
	out := pipeline.Process(from(p, events(1, 1)), "bad", func() *misdeclared { return &misdeclared{} })
	collect(out, "out")
	collect(pipeline.SideOutput(out, pipeline.NewTag[int]("late")), "late")
	collect(pipeline.SideOutput(out, pipeline.NewTag[int]("nosuch")), "nosuch")
	wantError(t, p.Run(t.Context()), `operator "bad" subtask 0: open`,
		"keyed state needs a keyed stream", "timers need a keyed stream",
		`side output "late" yields string, but is read as int at pipeline/engine_test.go`)
}

// badReader fails in the ways a reader can.
type badReader struct{ how string }

func (s badReader) Open(context.Context, *pipeline.SourceEnv) (pipeline.Reader[event], error) {
	if s.how == "open" {
		return nil, errors.New("no such broker")
	}
	return s, nil
}

func (s badReader) Read(_ context.Context, b *pipeline.SourceBatch[event]) error {
	switch s.how {
	case "error":
		return errors.New("connection reset")
	case "panic":
		panic("reader")
	case "no split":
		b.Values = append(b.Values, event{})
	case "times":
		b.Split = "s"
		b.Values = append(b.Values, event{})
		b.Times = append(b.Times, 1, 2)
	case "reject":
		b.Split = "s"
		b.Rejected = append(b.Rejected, pipeline.DeadLetter{Split: "s", Offset: 12, Raw: []byte("garbage"), Error: "not JSON"})
	}
	return nil
}

func TestReaderFailures(t *testing.T) {
	for how, want := range map[string]string{
		"open":     "open: no such broker",
		"error":    "read: connection reset",
		"panic":    "panic: reader",
		"no split": "records without a split",
		"times":    "1 records with 2 event times",
		"reject":   `record s:12 "garbage": not JSON`,
	} {
		p := pipeline.New()
		collect(pipeline.From(p, "bad", badReader{how}), "out")
		wantError(t, p.Run(t.Context()), `operator "bad" subtask`, want)
	}
	p := pipeline.New()
	collect(pipeline.From(p, "untimed", memory.From(events(1, 1)), pipeline.Monotonic[event](nil)), "out")
	wantError(t, p.Run(t.Context()), `operator "untimed"`, "gives no event times")
}

// ticking is an endless source of one record a millisecond.
type ticking struct{ every time.Duration }

func (s ticking) Open(_ context.Context, env *pipeline.SourceEnv) (pipeline.Reader[event], error) {
	return &tickingReader{every: s.every, split: fmt.Sprint(env.Subtask)}, nil
}

type tickingReader struct {
	every time.Duration
	split string
	n     int
}

func (r *tickingReader) Read(ctx context.Context, b *pipeline.SourceBatch[event]) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(r.every):
	}
	b.Split = r.split
	b.Values = append(b.Values, event{Key: "k", Time: int64(r.n), N: r.n})
	r.n++
	return nil
}

func TestRule19_DrainFiresAndStopDoesNot(t *testing.T) {
	for _, drain := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p := pipeline.New(pipeline.DefaultParallelism(2))
			src := pipeline.From(p, "ticks", ticking{time.Millisecond}, pipeline.Monotonic(eventTime))
			seen := collect(src, "seen")
			out := collect(count(src), "out")
			done := make(chan error)
			go func() { done <- p.Run(ctx) }()
			time.Sleep(100*time.Millisecond + 500*time.Microsecond)
			if drain {
				p.Drain()
			} else {
				cancel()
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if n := len(seen.values); n < 190 || n > 202 {
				t.Errorf("%d records arrived in 100 ms of two subtasks", n)
			}
			if fired := len(out.values) > 0; fired != drain {
				t.Errorf("drain is %v, but the timers at the end of time fired: %v", drain, fired)
			}
			if drain && out.values[0] != fmt.Sprintf("k=%d", len(seen.values)) {
				t.Errorf("%d records arrived, the count is %v", len(seen.values), out.values)
			}
		})
	}
}

// stuck is a sink that blocks until its context ends.
type stuck struct{}

func (stuck) Open(context.Context, *pipeline.SinkEnv) (pipeline.Writer[event], error) {
	return stuck{}, nil
}

func (stuck) Write(ctx context.Context, _ *pipeline.Records[event]) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestStopGivesUpOnAStuckSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p := pipeline.New(pipeline.StopTimeout(3 * time.Second))
		pipeline.To(pipeline.From(p, "ticks", ticking{time.Millisecond}), "stuck", stuck{})
		start := time.Now()
		if err := p.Run(ctx); !errors.Is(err, pipeline.ErrStopTimeout) {
			t.Errorf("Run returns %v, want ErrStopTimeout", err)
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("it took %v, want 4s", took)
		}
	})
}

// TestLingerBoundsLatency: a record that passes a busy operator alone does not
// wait for its batch to fill.
func TestLingerBoundsLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var worst atomic.Int64
		p := pipeline.New(pipeline.DefaultParallelism(2), pipeline.BatchSize(1000))
		src := pipeline.From(p, "ticks", ticking{time.Millisecond})
		stamped := each(src, "stamp", func(event) (time.Time, error) { return time.Now(), nil })
		keyed := pipeline.Process(pipeline.KeyBy(stamped, time.Time.UnixNano), "age",
			pipeline.Func(func(c *pipeline.Context[int64, int], at time.Time) error {
				worst.Store(max(worst.Load(), int64(time.Since(at))))
				return nil
			}))
		collect(keyed, "out")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if d := time.Duration(worst.Load()); d > 6*time.Millisecond {
			t.Errorf("a record was %v on its way", d)
		}
	})
}

func TestProcessingTimeTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pipeline.New(pipeline.DefaultParallelism(1))
		src := pipeline.From(p, "ticks", ticking{10 * time.Second})
		out := collect(pipeline.Process(pipeline.KeyBy(src, eventKey), "later", func() *later { return &later{} }), "out")
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if want := []string{"k after 3s", "k after 3s"}; !slices.Equal(out.values, want) {
			t.Errorf("got %v, want %v", out.values, want)
		}
	})
}

// later answers every record three seconds later, by the clock.
type later struct {
	at     *state.Value[string, int64]
	timers *pipeline.Timers[string]
}

func (o *later) Open(c *pipeline.Context[string, string]) error {
	o.at = state.NewValue[int64](c.State(), "at")
	o.timers = c.Timers("later")
	return nil
}

func (o *later) Process(c *pipeline.Context[string, string], _ event) error {
	o.at.Set(c.Now())
	o.timers.SetProcessing(c.Now() + 3000)
	o.timers.SetProcessing(c.Now() + 3000)
	o.timers.SetProcessing(c.Now() + 4000)
	o.timers.DeleteProcessing(c.Now() + 4000)
	return nil
}

func (o *later) OnTimer(c *pipeline.Context[string, string], tm pipeline.Timer) error {
	at, _ := o.at.Get()
	if tm.Domain != pipeline.ProcessingTime || tm.Namespace != "later" {
		return fmt.Errorf("timer is %+v", tm)
	}
	c.Emit(fmt.Sprintf("%s after %v", c.Key(), time.Duration(c.Now()-at)*time.Millisecond))
	return nil
}

func TestStatsCount(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(2))
	if p.Stats() != nil {
		t.Error("there are figures before Run")
	}
	collect(count(from(p, events(1000, 10))), "out")
	run(t, p)
	in, out := map[string]int64{}, map[string]int64{}
	for _, s := range p.Stats() {
		in[s.Operator] += s.In
		out[s.Operator] += s.Out
		if s.Watermark != pipeline.MaxWatermark {
			t.Errorf("%s ends at watermark %d", s.Operator, s.Watermark)
		}
	}
	if in["events"] != 1000 || out["events"] != 1000 || in["count"] != 1000 || out["count"] != 10 || in["out"] != 10 {
		t.Errorf("in %v, out %v", in, out)
	}
}
