package pipelinetest_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/pipeline/pipelinetest"
	"github.com/millrace/millrace/state"
)

// The rules of event time on the running engine. Their pure parts (valve,
// timers, alignment) have transcripts of their own.

// at is a record that is its own event time.
type at int64

func (a at) Time() int64 { return int64(a) }

// sendAt sends records that are their own event times.
func sendAt(s *pipelinetest.Split[at], times ...at) {
	for _, ts := range times {
		s.Send(int64(ts), ts)
	}
}

// judge emits for each record whether it is late. It has one subtask, since
// only there the watermark is that of all splits.
func judge(in pipeline.Stream[at]) pipeline.Stream[string] {
	return pipeline.Process(in, "judge",
		pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, string], v at) error {
			verdict := "in time"
			if c.Time() <= c.Watermark() {
				verdict = "late"
			}
			c.Emit(fmt.Sprintf("%d %s", v, verdict))
			return nil
		}), pipeline.Parallelism(1))
}

func wantLate(t *testing.T, out *pipelinetest.Tap[string], want ...string) {
	t.Helper()
	var late []string
	for _, v := range out.Values() {
		if time, ok := strings.CutSuffix(v, " late"); ok {
			late = append(late, time)
		}
	}
	slices.Sort(late)
	if !slices.Equal(late, want) {
		t.Errorf("late are %v, want %v", late, want)
	}
}

func TestRule01_TheEndOfOneInputIsNotThatOfAnIdleOne(t *testing.T) {
	for _, endFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("endFirst=%v", endFirst), func(t *testing.T) {
			pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
				file := pipelinetest.Input[at](k, "file", pipeline.Parallelism(1))
				live := pipelinetest.Input[at](k, "live", pipeline.Parallelism(1))
				out := pipelinetest.Output(k, judge(pipeline.Union(file.Stream(), live.Stream())))

				sendAt(file.Split("0"), 100)
				file.Watermark(100)
				live.Watermark(50)
				k.Settle()
				if endFirst {
					file.End()
					k.Settle()
					live.Idle()
				} else {
					live.Idle()
					k.Settle()
					file.End()
				}
				k.Settle()
				sendAt(live.Split("0"), 200)
				wantLate(t, out)
				live.Watermark(200)
				out.WantWatermark(200)
				k.Finish()
				out.WantWatermark(pipeline.MaxWatermark)
			})
		})
	}
}

func TestRule02_EverySplitHasItsOwnWatermark(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in", pipeline.BoundedDisorder(at.Time, 10*time.Millisecond))
		fast, slow := in.Split("fast"), in.Split("slow")
		out := pipelinetest.Output(k, judge(in.Stream()))

		sendAt(fast, 1000, 2000, 3000)
		out.WantWatermark(pipeline.MinWatermark)
		sendAt(slow, 100, 200, 190, 150)
		out.WantWatermark(189)
		wantLate(t, out, "150")
		sendAt(fast, 2990, 2500) // late by the split's own disorder, but not for the source
		out.WantWatermark(189)
		wantLate(t, out)
	})
}

func TestRule02_RemovingASplitUnblocksTheRest(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in", pipeline.Monotonic(at.Time))
		a, b, c := in.Split("a"), in.Split("b"), in.Split("c")
		out := pipelinetest.Output(k, in.Stream())

		sendAt(a, 100)
		sendAt(b, 200)
		out.WantWatermark(pipeline.MinWatermark)
		c.Finish() // never had a record
		k.Advance(2 * time.Second)
		out.WantWatermark(99)
		a.Finish()
		k.Advance(2 * time.Second)
		out.WantWatermark(199)
		sendAt(b, 300)
		out.WantWatermark(299)
	})
}

func TestRule02_ASplitWithoutRecordsDoesNotPinTime(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in", pipeline.Monotonic(at.Time).IdleAfter(time.Second), pipeline.Parallelism(2))
		a, _ := in.Split("a"), in.Split("never")
		out := pipelinetest.Output(k, judge(in.Stream()))

		sendAt(a, 100)
		out.WantWatermark(pipeline.MinWatermark)
		for ts := at(200); ts <= 1500; ts += 100 {
			k.Advance(100 * time.Millisecond)
			sendAt(a, ts)
		}
		out.WantWatermark(1499)
		// Its first record comes late, as any record behind time does, and it has
		// no say until it has caught up.
		sendAt(in.Split("never"), 700)
		wantLate(t, out, "700")
		sendAt(a, 1600)
		out.WantWatermark(1599)
		sendAt(in.Split("never"), 1650)
		k.Settle()
		sendAt(a, 1700)
		out.WantWatermark(1649)
	})
}

func TestRule03_BoundedDisorder(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in", pipeline.BoundedDisorder(at.Time, 10*time.Millisecond))
		out := pipelinetest.Output(k, judge(in.Stream()))

		sendAt(in.Split("0"), 100)
		out.WantWatermark(89)
		sendAt(in.Split("0"), 90, 89, 111, 101, 100, 99, 110)
		wantLate(t, out, "100", "89", "99")
		out.WantWatermark(100)
	})
}

func TestRule03_EndsOfTime(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in", pipeline.BoundedDisorder(at.Time, time.Hour))
		out := pipelinetest.Output(k, judge(in.Stream()))

		sendAt(in.Split("0"), math.MinInt64+1, math.MinInt64+5)
		wantLate(t, out)
		out.WantWatermark(pipeline.MinWatermark)
		sendAt(in.Split("0"), -5, math.MinInt64+5)
		out.WantWatermark(-5 - time.Hour.Milliseconds() - 1)
		sendAt(in.Split("0"), math.MaxInt64)
		out.WantWatermark(math.MaxInt64 - time.Hour.Milliseconds() - 1)
		k.Finish()
		out.WantWatermark(pipeline.MaxWatermark)
	})
}

// atEnd sets a timer at the end of each record's hundred, and emits it when it
// fires.
type atEnd struct{ end *pipeline.Timers[int] }

func (a *atEnd) Open(c *pipeline.Context[int, at]) error {
	a.end = c.Timers("end")
	return nil
}

func (a *atEnd) Process(c *pipeline.Context[int, at], v at) error {
	a.end.Set(endOf(v))
	return nil
}

func (a *atEnd) OnTimer(c *pipeline.Context[int, at], t pipeline.Timer) error {
	c.Emit(at(t.Time))
	return nil
}

func endOf(v at) int64 { return (int64(v)/100)*100 + 99 }

func anyKey(at) int { return 7 }

func TestRule04_TimersFireBeforeTheWatermarkIsForwarded(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in")
		// Two in a row, so that the second sees the results of the first in time;
		// then a judge, so that those of the second are seen to be in time too.
		first := pipeline.Process(pipeline.KeyBy(in.Stream(), anyKey), "first", func() *atEnd { return &atEnd{} })
		second := pipeline.Process(pipeline.KeyBy(first, anyKey), "second", func() *atEnd { return &atEnd{} })
		out := pipelinetest.Output(k, judge(second))

		sendAt(in.Split("0"), 10, 20, 110, 50, 310)
		in.Watermark(98)
		k.Settle()
		in.Watermark(99)
		k.Settle()
		in.Watermark(250)
		k.Settle()
		in.Watermark(399)
		const want = "watermark 98, 99 in time@99, watermark 99, " +
			"199 in time@199, watermark 250, 399 in time@399, watermark 399"
		if got := out.Transcript(); got != want {
			t.Errorf("transcript\n got %s\nwant %s", got, want)
		}
	})
}

// alarm sets and deletes timers as its records say: "+100", "-100".
type alarm struct{ timers, others *pipeline.Timers[string] }

func (a *alarm) Open(c *pipeline.Context[string, string]) error {
	a.timers, a.others = c.Timers("alarm"), c.Timers("other")
	return nil
}

func (a *alarm) Process(c *pipeline.Context[string, string], v command) error {
	switch v.what {
	case "set":
		a.timers.Set(v.time)
	case "delete":
		a.timers.Delete(v.time)
	case "set other":
		a.others.Set(v.time)
	case "delete other":
		a.others.Delete(v.time)
	}
	return nil
}

func (a *alarm) OnTimer(c *pipeline.Context[string, string], t pipeline.Timer) error {
	c.Emit(c.Key() + " " + t.Namespace)
	return nil
}

type command struct {
	key, what string
	time      int64
}

func TestRule13_TimersAreASetAndDeletedOnesNeverFire(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[command](k, "in")
		keyed := pipeline.KeyBy(in.Stream(), func(c command) string { return c.key })
		out := pipelinetest.Output(k, pipeline.Process(keyed, "alarm", func() *alarm { return &alarm{} }))

		in.Send(0,
			command{"twice", "set", 100}, command{"once", "set", 100}, command{"twice", "set", 100},
			command{"deleted", "set", 100}, command{"deleted", "delete", 100},
			command{"again", "set", 100}, command{"again", "delete", 100}, command{"again", "set", 100},
			command{"apart", "set", 100}, command{"apart", "set other", 100}, command{"apart", "delete other", 100},
			command{"never set", "delete", 100},
			command{"moved", "set", 100}, command{"moved", "delete", 100}, command{"moved", "set", 200},
		)
		in.Watermark(99)
		out.Want()
		in.Watermark(100)
		out.WantAnyOrder(pipelinetest.At(100, "twice alarm"), pipelinetest.At(100, "once alarm"),
			pipelinetest.At(100, "again alarm"), pipelinetest.At(100, "apart alarm"))
		in.Send(150, command{"twice", "set", 50}) // has passed: fires at the next watermark
		out.Want()
		in.Watermark(101)
		out.Want(pipelinetest.At(50, "twice alarm"))
		k.Finish()
		out.Want(pipelinetest.At(200, "moved alarm"))
	})
}

func drifting() pipeline.WatermarkStrategy[at] {
	return pipeline.Monotonic(at.Time).MaxDrift(100 * time.Millisecond)
}

func TestRule16_AFastSplitWaitsForTheSlowOnes(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in", drifting())
		fast, middle, slow := in.Split("fast"), in.Split("middle"), in.Split("slow")
		out := pipelinetest.Output(k, in.Stream())

		for ts := at(10); ts <= 10_000; ts += 10 {
			sendAt(fast, ts)
		}
		sendAt(middle, 10)
		sendAt(slow, 10)
		k.Advance(time.Second)
		if !fast.Paused() || slow.Paused() || middle.Paused() {
			t.Errorf("paused are fast %v, middle %v, slow %v; want only fast", fast.Paused(), middle.Paused(), slow.Paused())
		}
		// A split is judged batch by batch, so it may be ahead by a batch, and one
		// more that was read before it was paused.
		if got := newest(out); got > 10+100+3*10*int64(batchOf(t)) {
			t.Errorf("the fast split has come to %d", got)
		}
		sendAt(middle, 5000)
		k.Advance(time.Second)
		if got := newest(out); got > 5000 {
			t.Errorf("came to %d, though the slow split is at 10", got)
		}
		sendAt(slow, 20_000)
		k.Settle()
		sendAt(slow, 20_000)
		k.Advance(time.Second)
		if !slow.Paused() {
			t.Error("the slow split is far ahead now and not paused")
		}
		sendAt(middle, 20_000)
		sendAt(fast, 20_000)
		k.Advance(time.Second)
		if got := newest(out); got != 20_000 {
			t.Errorf("came to %d when all splits were at 20000", got)
		}
		k.Finish()
	})
}

// batchOf returns the batch size that Vary chose.
func batchOf(t *testing.T) int {
	var par, batch int
	if _, err := fmt.Sscanf(t.Name()[strings.Index(t.Name(), "/"):], "/par=%d/batch=%d", &par, &batch); err != nil {
		t.Fatalf("batch size of %s: %v", t.Name(), err)
	}
	return batch
}

func newest(out *pipelinetest.Tap[at]) int64 {
	newest := int64(math.MinInt64)
	for _, e := range out.Events() {
		if !e.Watermark {
			newest = max(newest, e.Time)
		}
	}
	return newest
}

// However fast one split reads, nothing is late: every split is in time order,
// and the drift bound keeps them from being far apart at the window operators.
func TestRule16_EndedSplitsHoldNobodyBack(t *testing.T) {
	for _, finish := range []bool{false, true} {
		t.Run(fmt.Sprintf("finish=%v", finish), func(t *testing.T) {
			pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
				in := pipelinetest.Input[at](k, "in", drifting())
				long, short := in.Split("long"), in.Split("short")
				out := pipelinetest.Output(k, in.Stream())

				for ts := at(0); ts < 5000; ts += 50 {
					sendAt(long, ts)
				}
				sendAt(short, 0)
				if finish {
					short.Finish()
				}
				k.Finish()
				if got := len(out.Take()); got != 101 {
					t.Errorf("got %d records, want 101", got)
				}
			})
		})
	}
}

// hasty is a source whose reader ends with everything read and no split
// finished.
type hasty struct{ batches [][]at }

func (h hasty) Open(context.Context, *pipeline.SourceEnv) (pipeline.Reader[at], error) {
	return &hastyReader{batches: h.batches}, nil
}

type hastyReader struct{ batches [][]at }

func (r *hastyReader) Read(_ context.Context, b *pipeline.SourceBatch[at]) error {
	if len(r.batches) == 0 {
		return pipeline.ErrEndOfInput
	}
	b.AddSplit("0")
	b.AddSplit("1")
	b.Split = fmt.Sprint(len(r.batches) % 2)
	b.Values = append(b.Values, r.batches[0]...)
	r.batches = r.batches[1:]
	return nil
}

func (r *hastyReader) Pause(string)  {}
func (r *hastyReader) Resume(string) {}

func TestRule16_TheEndOfInputReleasesWhatIsHeld(t *testing.T) {
	pipelinetest.Test(t, func(t *testing.T, k *pipelinetest.Kit) {
		src := hasty{[][]at{{0}, {5}, {1000}, {10}, {2000}, {15}, {3000}, {20}}}
		out := pipelinetest.Output(k, judge(pipeline.From(k.Pipeline(), "hasty", src, drifting())))
		k.Finish()
		if got := out.Values(); len(got) != 8 || got[7] != "3000 in time" {
			t.Errorf("got %v, want all 8 in time, 3000 last", got)
		}
	})
}

// A split may end while records of it are held back. They are not lost.
func TestRule16_HeldRecordsOutliveTheirSplit(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in", drifting())
		ahead, behind := in.Split("ahead"), in.Split("behind")
		out := pipelinetest.Output(k, in.Stream())

		sendAt(behind, 0)
		sendAt(ahead, 10)
		k.Settle()
		sendAt(ahead, 1000)
		// The source is busy, so that the reader gets ahead of it: the end of the
		// split has been read when its records are held.
		out.Hold()
		sendAt(behind, 1)
		k.Settle()
		sendAt(ahead, 2000, 3000)
		ahead.Finish()
		k.Settle()
		out.Release()
		for ts := at(100); ts <= 3000; ts += 100 {
			sendAt(behind, ts)
			k.Advance(10 * time.Millisecond)
		}
		k.Advance(time.Second)
		if got := len(out.Take()); got != 3+3+30 {
			t.Errorf("got %d records, want 36", got)
		}
		out.WantWatermark(2999)
	})
}

func TestRule16_AnIdleSplitHoldsNobodyBack(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in", drifting().IdleAfter(time.Second))
		a, quiet := in.Split("a"), in.Split("quiet")
		out := pipelinetest.Output(k, in.Stream())

		sendAt(quiet, 0)
		k.Settle()
		for ts := at(0); ts < 5000; ts += 5 {
			sendAt(a, ts)
		}
		k.Advance(100 * time.Millisecond)
		if !a.Paused() {
			t.Error("a is far ahead and not paused")
		}
		k.Advance(5 * time.Second)
		if a.Paused() || a.Unread() > 0 {
			t.Errorf("a waits for a split that is idle: %d unread", a.Unread())
		}
		if got := newest(out); got != 4995 {
			t.Errorf("a has come to %d, want 4995", got)
		}
	})
}

func TestRule29_AQuietSourceTurnsIdle(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		quiet := pipelinetest.Input[at](k, "quiet", pipeline.Monotonic(at.Time).IdleAfter(time.Second))
		busy := pipelinetest.Input[at](k, "busy", pipeline.Monotonic(at.Time).IdleAfter(time.Second))
		out := pipelinetest.Output(k, judge(pipeline.Union(quiet.Stream(), busy.Stream())))

		sendAt(quiet.Split("0"), 100)
		for ts := at(100); ts <= 1500; ts += 100 {
			sendAt(busy.Split("0"), ts)
			k.Advance(100 * time.Millisecond)
		}
		out.WantWatermark(1499)
		wantLate(t, out)
		// When all is quiet time stands, and nothing is sent for ever.
		k.Advance(time.Minute)
		out.WantWatermark(1499)
		sendAt(quiet.Split("0"), 1600)
		out.WantWatermark(1599)
		sendAt(busy.Split("0"), 1700)
		k.Settle()
		sendAt(quiet.Split("0"), 1800)
		out.WantWatermark(1699)
		wantLate(t, out)
	})
}

func TestRule29_AdvanceWhenIdleClosesTheLastWindow(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in",
			pipeline.Monotonic(at.Time).IdleAfter(time.Second).AdvanceWhenIdle(10*time.Second))
		a, b := in.Split("a"), in.Split("b")
		windows := pipeline.Process(pipeline.KeyBy(in.Stream(), anyKey), "windows", func() *atEnd { return &atEnd{} })
		out := pipelinetest.Output(k, windows)

		sendAt(a, 1010)
		sendAt(b, 1020)
		k.Advance(5 * time.Second)
		out.Want()
		// All were idle after 1 s (noticed up to a quarter late), time goes on 10 s
		// later, a millisecond per millisecond.
		k.Advance(7 * time.Second)
		out.Want(pipelinetest.At(1099, at(1099)))
		before := out.Watermark()
		k.Advance(20 * time.Second)
		if got := out.Watermark() - before; got < 19_500 || got > 20_500 {
			t.Errorf("event time moved by %d ms in 20 s", got)
		}
		// Traffic returns: only one split, but the other is idle and must not hold
		// time back, though its subtask took part in the advance.
		sendAt(a, 100_000)
		k.Advance(100 * time.Millisecond)
		out.WantWatermark(99_999)
		sendAt(a, 100_100)
		k.Advance(time.Second)
		out.WantWatermark(100_099)
		out.Want(pipelinetest.At(100_099, at(100_099)))
		// And stops again.
		k.Advance(20 * time.Second)
		if got := out.Watermark(); got < 108_000 || got > 111_000 {
			t.Errorf("event time is %d, 20 s after the last record at 100100", got)
		}
	})
}

// All subtasks of an operator become active together when an idle source
// advances, and none may let time pass the results of another.
func TestRule29_AdvanceWhenIdleKeepsChainedWindowsWhole(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in",
			pipeline.Monotonic(at.Time).IdleAfter(time.Second).AdvanceWhenIdle(10*time.Second))
		// The subtasks of the first operator fire their timers each in its own time;
		// the judge behind them must not be told that time has passed before all did.
		own := pipeline.Process(pipeline.KeyBy(in.Stream(), func(v at) int { return int(v) }), "first",
			func() *atEnd { return &atEnd{} }, pipeline.Parallelism(4))
		out := pipelinetest.Output(k, judge(own))

		for round := range at(20) {
			for ts := range at(100) {
				sendAt(in.Split("0"), round*100_000+ts)
			}
			k.Advance(30 * time.Second)
		}
		got := out.Values()
		if len(got) != 20*100 {
			t.Errorf("got %d results, want 2000", len(got))
		}
		for _, v := range got {
			if strings.HasSuffix(v, "late") {
				t.Fatalf("%s", v)
			}
		}
	})
}

// sequence is a record with its place in its split.
type sequence struct {
	split, n, key int
}

// inOrder fails on a record that was overtaken by a later one of its split and
// key.
type inOrder struct{ last *state.Map[int, int, int] }

func (o *inOrder) Open(c *pipeline.Context[int, sequence]) error {
	o.last = state.NewMap[int, int](c.State(), "last")
	return nil
}

func (o *inOrder) Process(c *pipeline.Context[int, sequence], v sequence) error {
	if last, ok := o.last.Get(v.split); ok && last >= v.n {
		return fmt.Errorf("split %d key %d: record %d after %d", v.split, v.key, v.n, last)
	}
	o.last.Put(v.split, v.n)
	c.Emit(v)
	return nil
}

func TestRule32_OrderOfAKeyWithinASplit(t *testing.T) {
	key := func(v sequence) int { return v.key }
	pass := func(in pipeline.Stream[sequence], name string, parallelism int) pipeline.Stream[sequence] {
		return pipeline.Process(in, name,
			pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, sequence], v sequence) error {
				c.Emit(v)
				return nil
			}), pipeline.Parallelism(parallelism))
	}
	check := func(in pipeline.Stream[sequence], name string, parallelism int) pipeline.Stream[sequence] {
		return pipeline.Process(pipeline.KeyBy(in, key), name, func() *inOrder { return &inOrder{} },
			pipeline.Parallelism(parallelism))
	}
	for _, c := range []struct {
		name  string
		graph func(a, b pipeline.Stream[sequence]) pipeline.Stream[sequence]
	}{
		{"hash", func(a, b pipeline.Stream[sequence]) pipeline.Stream[sequence] {
			return check(pipeline.Union(a, b), "check", 4)
		}},
		{"hash after hash", func(a, b pipeline.Stream[sequence]) pipeline.Stream[sequence] {
			return check(check(pipeline.Union(a, b), "once", 3), "twice", 2)
		}},
		{"forward to fewer", func(a, b pipeline.Stream[sequence]) pipeline.Stream[sequence] {
			return check(pass(pass(pipeline.Union(a, b), "four", 4), "two", 2), "check", 3)
		}},
		{"forward to more", func(a, b pipeline.Stream[sequence]) pipeline.Stream[sequence] {
			return check(pass(pass(pipeline.Union(a, b), "two", 2), "four", 4), "check", 3)
		}},
		{"union of branches", func(a, b pipeline.Stream[sequence]) pipeline.Stream[sequence] {
			return check(pipeline.Union(pass(a, "left", 2), pass(b, "right", 3)), "check", 4)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
				a := pipelinetest.Input[sequence](k, "a", pipeline.Parallelism(3))
				b := pipelinetest.Input[sequence](k, "b", pipeline.Parallelism(2))
				out := pipelinetest.Output(k, c.graph(a.Stream(), b.Stream()))
				const records = 300
				for n := range records {
					for split := range 4 {
						from := a
						if split == 3 {
							from = b
						}
						from.Split(fmt.Sprint(split)).Send(int64(n), sequence{split, n, n * 7 % 5})
					}
				}
				k.Finish()
				if got := len(out.Take()); got != 4*records {
					t.Errorf("got %d records, want %d", got, 4*records)
				}
			})
		})
	}
}

func TestDrainFiresWindowsAndStopDoesNot(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*pipelinetest.Kit)
		want string
	}{
		{"drain", (*pipelinetest.Kit).Drain, "watermark 149, 199@199, watermark max"},
		{"stop", (*pipelinetest.Kit).Stop, "watermark 149"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
				in := pipelinetest.Input[at](k, "in", pipeline.Monotonic(at.Time))
				windows := pipeline.Process(pipeline.KeyBy(in.Stream(), anyKey), "windows", func() *atEnd { return &atEnd{} })
				out := pipelinetest.Output(k, windows)
				sendAt(in.Split("0"), 150)
				c.end(k)
				if got := out.Transcript(); got != c.want {
					t.Errorf("transcript is %q, want %q", got, c.want)
				}
				if err := k.Err(); err != nil {
					t.Errorf("Run returned %v", err)
				}
			})
		})
	}
}

// Stopping does not lose what has been read, even when a sink is behind.
func TestStopLetsRecordsInFlightOut(t *testing.T) {
	pipelinetest.Vary(t, func(t *testing.T, k *pipelinetest.Kit) {
		in := pipelinetest.Input[at](k, "in", pipeline.Monotonic(at.Time))
		out := pipelinetest.Output(k, pipeline.Process(pipeline.KeyBy(in.Stream(), anyKey), "pass",
			pipeline.Func(func(c *pipeline.Context[int, at], v at) error {
				c.Emit(v)
				return nil
			})))
		out.Hold()
		for ts := range at(200) {
			sendAt(in.Split("0"), ts)
		}
		unread := in.Split("0").Unread()
		go func() {
			time.Sleep(10 * time.Second)
			out.Release()
		}()
		k.Stop()
		if got := len(out.Take()); got != 200-unread {
			t.Errorf("got %d records, %d of 200 had been read", got, 200-unread)
		}
	})
}

// While an operator or a sink is busy, its task does not see what splits may
// have brought, so they are not idle.
func TestIdlenessIsNotMisjudgedBehindASlowSink(t *testing.T) {
	slow := func(in pipeline.Stream[at], opts ...pipeline.OperatorOption) pipeline.Stream[at] {
		return pipeline.Process(in, "slow",
			pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, at], v at) error {
				time.Sleep(10 * time.Second)
				c.Emit(v)
				return nil
			}), opts...)
	}
	for _, c := range []struct {
		name string
		opts []pipeline.OperatorOption
	}{
		{"in the source's task", nil},
		{"behind a channel", []pipeline.OperatorOption{pipeline.Parallelism(3)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pipelinetest.Test(t, func(t *testing.T, k *pipelinetest.Kit) {
				in := pipelinetest.Input[at](k, "in", pipeline.Monotonic(at.Time).IdleAfter(time.Second))
				judged := judge(in.Stream())
				out := pipelinetest.Output(k, judged)
				pipelinetest.Output(k, slow(judgedTimes(judged), c.opts...))

				// Every split brings a record at the same event times, in turns.
				for ts := at(0); ts < 2000; ts += 100 {
					for split := range 5 {
						sendAt(in.Split(fmt.Sprint(split)), ts+at(split))
					}
				}
				k.Advance(time.Hour)
				wantLate(t, out)
			}, pipeline.BatchSize(4))
		})
	}
}

// judgedTimes turns verdicts back into records.
func judgedTimes(in pipeline.Stream[string]) pipeline.Stream[at] {
	return pipeline.Process(in, "times",
		pipeline.Func(func(c *pipeline.Context[pipeline.NoKey, at], _ string) error {
			c.Emit(at(c.Time()))
			return nil
		}))
}
