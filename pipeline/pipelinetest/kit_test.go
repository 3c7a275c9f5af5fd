package pipelinetest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/state"
)

// upper is an operator with nothing to it.
func upper(in pipeline.Stream[string], opts ...pipeline.OperatorOption) pipeline.Stream[string] {
	return pipeline.Process(in, "upper",
		pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, string], v string) error {
			if v == "" {
				return errors.New("nothing to say")
			}
			c.Emit(strings.ToUpper(v))
			return nil
		}), opts...)
}

func TestRecordsAndWatermarks(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[string](k, "in")
		out := pipelinetest.Output(k, upper(in.Stream()))

		out.Want()
		out.WantWatermark(pipeline.MinWatermark)
		in.Send(5, "a", "b")
		in.Send(7, "c")
		out.Want(pipelinetest.At(5, "A"), pipelinetest.At(5, "B"), pipelinetest.At(7, "C"))
		in.Watermark(4)
		in.SendAll(pipelinetest.At(6, "d"), pipelinetest.At(3, "e"))
		out.WantWatermark(4)
		if got, want := out.Values(), []string{"D", "E"}; !slices.Equal(got, want) {
			t.Errorf("values are %v, want %v", got, want)
		}
		k.Finish()
		const want = "A@5, B@5, C@7, watermark 4, D@6, E@3, watermark max"
		if got := out.Transcript(); got != want {
			t.Errorf("transcript\n got %s\nwant %s", got, want)
		}
	})
}

func TestSeveralInputsAndSplits(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		left := pipelinetest.Input[string](k, "left")
		right := pipelinetest.Input[string](k, "right")
		a, b := left.Split("a"), left.Split("b")
		out := pipelinetest.Output(k, pipeline.Union(left.Stream(), right.Stream()))

		a.Watermark(10)
		b.Watermark(20)
		out.WantWatermark(pipeline.MinWatermark)
		right.Watermark(15)
		out.WantWatermark(10)
		a.Finish()
		k.Advance(2 * time.Second) // it may be the last of its subtask, see Split.Finish
		out.WantWatermark(15)
		right.Idle()
		out.WantWatermark(20)
		right.End()
		b.Send(21, "still there")
		b.Watermark(21)
		out.Want(pipelinetest.At(21, "still there"))
		out.WantWatermark(21)
	})
}

func TestSplitsJoinAndReturn(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[string](k, "in")
		a := in.Split("a")
		out := pipelinetest.Output(k, in.Stream())

		a.Watermark(10)
		out.WantWatermark(10)
		b := in.Split("b")
		a.Watermark(20)
		out.WantWatermark(20) // b has not caught up, and may never do so
		b.Watermark(25)
		k.Settle() // another subtask might let a overtake b
		a.Watermark(30)
		out.WantWatermark(25)
		b.Idle()
		out.WantWatermark(30)
		b.Watermark(28)
		a.Watermark(40)
		out.WantWatermark(40) // b has come back, but is still behind
		b.Watermark(41)
		k.Settle()
		a.Watermark(50)
		out.WantWatermark(41)
		a.Finish()
		b.Finish()
		k.Advance(2 * time.Second)
		in.Split("c").Send(60, "anew")
		in.Split("c").Watermark(60)
		out.WantWatermark(60)
		out.Want(pipelinetest.At(60, "anew"))
	})
}

func TestClockStandsStill(t *testing.T) {
	pipelinetest.Test(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[string](k, "in")
		ticking := pipeline.Process(pipeline.KeyBy(in.Stream(), func(s string) string { return s }),
			"remind", func() *reminder { return &reminder{} })
		out := pipelinetest.Output(k, ticking)

		start := time.Now()
		in.Send(0, "milk")
		out.Want()
		k.Advance(59 * time.Second)
		out.Want()
		k.Advance(time.Second)
		if got, want := out.Values(), []string{"milk after 1m0s"}; !slices.Equal(got, want) {
			t.Errorf("values are %v, want %v", got, want)
		}
		if got := time.Since(start); got != time.Minute {
			t.Errorf("the clock moved by %v, want 1m0s", got)
		}
	})
}

// reminder emits every key a minute after its record.
type reminder struct {
	at     *pipeline.Timers[string]
	origin *state.Value[string, int64]
}

func (r *reminder) Open(c *pipeline.Context[string, string]) error {
	r.at = c.Timers("at")
	r.origin = state.NewValue[int64](c.State(), "origin")
	return nil
}

func (r *reminder) Process(c *pipeline.Context[string, string], _ string) error {
	r.origin.Set(c.Now())
	r.at.SetProcessing(c.Now() + time.Minute.Milliseconds())
	return nil
}

func (r *reminder) OnTimer(c *pipeline.Context[string, string], _ pipeline.Timer) error {
	origin, _ := r.origin.Get()
	c.Emit(fmt.Sprintf("%s after %v", c.Key(), time.Duration(c.Now()-origin)*time.Millisecond))
	return nil
}

func TestSideOutputsAndDeadLetters(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[string](k, "in")
		tag := pipeline.NewTag[string]("short")
		main := pipeline.Process(upper(in.Stream()), "split", func() *shorts { return &shorts{tag: tag} })
		long := pipelinetest.Output(k, main)
		short := pipelinetest.Output(k, pipeline.SideOutput(main, tag))
		dead := pipelinetest.Output(k, pipeline.DeadLetters(k.Pipeline()))

		in.Send(1, "long enough", "no", "")
		long.Want(pipelinetest.At(1, "LONG ENOUGH"))
		short.Want(pipelinetest.At(1, "NO"))
		if got := dead.Take(); len(got) != 1 || got[0].Value.Operator != "upper" {
			t.Errorf("dead letters are %v, want one of upper", got)
		}
	})
}

type shorts struct {
	tag pipeline.Tag[string]
	out *pipeline.SideEmitter[string]
}

func (s *shorts) Open(c *pipeline.Context[pipeline.NoKey, string]) error {
	s.out = pipeline.Side(c, s.tag)
	return nil
}

func (s *shorts) Process(c *pipeline.Context[pipeline.NoKey, string], v string) error {
	if len(v) < 3 {
		s.out.Emit(v, c.Time())
		return nil
	}
	c.Emit(v)
	return nil
}

func TestFailuresAreExpectedWithErr(t *testing.T) {
	pipelinetest.Test(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[string](k, "in")
		pipelinetest.Output(k, upper(in.Stream()))
		if err := k.Err(); err != nil {
			t.Fatalf("failed before the first record: %v", err)
		}
		in.Send(1, "")
		var failure *pipeline.OperatorError
		if err := k.Err(); !errors.As(err, &failure) || failure.Operator != "upper" {
			t.Errorf("error is %v, want one of upper", err)
		}
	})
}

func TestMistakesNameTheTest(t *testing.T) {
	pipelinetest.Test(t, func(t *testing.T, k *pipelinetest.Kit) {
		pipelinetest.Input[string](k, "unused")
		err := k.Err()
		if !errors.Is(err, pipeline.ErrInvalidGraph) || !strings.Contains(err.Error(), "kit_test.go") {
			t.Errorf("error is %v, want a mistake in kit_test.go", err)
		}
	})
}

func TestSubtasksOfAnOutput(t *testing.T) {
	pipelinetest.Test(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[string](k, "in", pipeline.Parallelism(1))
		out := pipelinetest.Output(k, pipeline.Broadcast(in.Stream()), pipeline.Parallelism(3))
		in.Send(1, "x")
		in.Watermark(1)
		out.WantAnyOrder(pipelinetest.At(1, "x"), pipelinetest.At(1, "x"), pipelinetest.At(1, "x"))
		watermarks := map[int]int64{}
		for _, e := range out.Events() {
			if e.Watermark {
				watermarks[e.Subtask] = e.Time
			}
		}
		if len(watermarks) != 3 {
			t.Errorf("watermarks by subtask are %v, want one of each", watermarks)
		}
	})
}

// A held output holds its source back: only so many records are on the way.
func TestHold(t *testing.T) {
	pipelinetest.Test(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[int](k, "in")
		out := pipelinetest.Output(k, pipeline.Rebalance(in.Stream()), pipeline.Parallelism(2))
		out.Hold()
		for i := range 1000 {
			in.Send(int64(i), i)
		}
		unread := in.Split("0").Unread()
		if unread == 0 || unread == 1000 {
			t.Errorf("%d of 1000 records are unread, want some", unread)
		}
		if got := out.Take(); len(got) != 0 {
			t.Errorf("a held output took %d records", len(got))
		}
		out.Release()
		if got := out.Take(); len(got) != 1000 {
			t.Errorf("got %d records after the release, want 1000", len(got))
		}
	}, pipeline.BatchSize(4))
}

func TestLifecycle(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*pipelinetest.Kit)
		want string
	}{
		{"finish", (*pipelinetest.Kit).Finish, "a@1, a again@100, watermark max"},
		{"drain", (*pipelinetest.Kit).Drain, "a@1, a again@100, watermark max"},
		{"stop", (*pipelinetest.Kit).Stop, "a@1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
				in := pipelinetest.Input[string](k, "in")
				keyed := pipeline.KeyBy(in.Stream(), func(s string) string { return s })
				out := pipelinetest.Output(k, pipeline.Process(keyed, "echo", func() *echo { return &echo{} }))
				in.Send(1, "a")
				c.end(k)
				if got := out.Transcript(); got != c.want {
					t.Errorf("transcript is %q, want %q", got, c.want)
				}
				if err := k.Err(); err != nil {
					t.Errorf("error is %v, want none", err)
				}
			})
		})
	}
}

// echo emits its record at once, and again at the event time 100.
type echo struct{ timers *pipeline.Timers[string] }

func (e *echo) Open(c *pipeline.Context[string, string]) error {
	e.timers = c.Timers("again")
	return nil
}

func (e *echo) Process(c *pipeline.Context[string, string], v string) error {
	e.timers.Set(100)
	c.Emit(v)
	return nil
}

func (e *echo) OnTimer(c *pipeline.Context[string, string], _ pipeline.Timer) error {
	c.Emit(c.Key() + " again")
	return nil
}
