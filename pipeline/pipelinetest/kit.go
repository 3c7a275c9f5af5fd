package pipelinetest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/pipeline"
)

// Kit is a job under test: its graph, its inputs and outputs, and its clock.
// It belongs to the goroutine of the test.
type Kit struct {
	t       *testing.T
	p       *pipeline.Pipeline
	feeds   []feed
	taps    []tap
	started bool
	cancel  context.CancelFunc

	done  chan struct{} // closed when Run has returned
	err   error         // what Run returned, once done is closed
	known bool          // the test has asked for err
}

// feed is an input without its type.
type feed interface {
	begin()
	sparse() bool
	publish()
	end()
}

// tap is an output without its type.
type tap interface{ Release() }

// patience is how long, by the virtual clock, a job may take to end. It is
// more than any [pipeline.StopTimeout] in use, and costs no real time.
const patience = time.Hour

// Test runs f in a bubble of testing/synctest, in which the clock stands still
// until f moves it. Options are those of the pipeline under test; its default
// parallelism is 1 unless they say otherwise, and it logs to t.
//
// When f returns, a job that still runs is stopped. The test fails if the job
// has failed, unless f asked for the error with [Kit.Err].
func Test(t *testing.T, f func(t *testing.T, k *Kit), opts ...pipeline.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, opts)
		defer k.close()
		f(t, k)
	})
}

// Vary runs f as several subtests, at other parallelisms and batch sizes each.
// Use it where results must not depend on either; with several subtasks the
// order of records of different keys is not fixed, see [Tap.WantAnyOrder].
func Vary(t *testing.T, f func(t *testing.T, k *Kit), opts ...pipeline.Option) {
	t.Helper()
	for _, v := range []struct{ parallelism, batch int }{{1, 1}, {1, 256}, {2, 3}, {4, 1}, {4, 256}} {
		t.Run(fmt.Sprintf("par=%d/batch=%d", v.parallelism, v.batch), func(t *testing.T) {
			Test(t, f, append([]pipeline.Option{
				pipeline.DefaultParallelism(v.parallelism), pipeline.BatchSize(v.batch),
			}, opts...)...)
		})
	}
}

func newKit(t *testing.T, opts []pipeline.Option) *Kit {
	own := []pipeline.Option{
		pipeline.Name(t.Name()),
		pipeline.DefaultParallelism(1),
		pipeline.Logger(slog.New(slog.NewTextHandler(t.Output(), nil))),
	}
	return &Kit{t: t, p: pipeline.New(append(own, opts...)...), done: make(chan struct{})}
}

// Pipeline returns the pipeline under test, for what takes one: sources and
// sinks beside those of the kit, the dead-letter stream, the figures of its
// operators.
func (k *Kit) Pipeline() *pipeline.Pipeline { return k.p }

// Start starts the job and settles. Calling it is needed only where nothing
// else does: everything that settles starts the job first.
//
// Where an input has fewer splits than subtasks, starting takes two seconds of
// the clock: for so long a subtask without splits may still be about to get one,
// and holds time back.
func (k *Kit) Start() {
	k.t.Helper()
	k.Settle()
}

func (k *Kit) start() {
	k.started = true
	for _, f := range k.feeds {
		f.begin()
	}
	var ctx context.Context
	ctx, k.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(k.done)
		k.err = k.p.Run(ctx)
	}()
	synctest.Wait()
	for _, f := range k.feeds {
		if f.sparse() {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			return
		}
	}
}

// Settle hands the sources what was sent and returns when the job can do
// nothing more unless the clock moves or more is sent. It starts the job if
// that has not been done. The test ends here if the job has failed.
func (k *Kit) Settle() {
	k.t.Helper()
	k.settle()
	k.failed()
}

func (k *Kit) settle() {
	if !k.started {
		k.start()
	}
	for _, f := range k.feeds {
		f.publish()
	}
	synctest.Wait()
}

// failed ends the test if the job has failed and the test does not know.
func (k *Kit) failed() {
	k.t.Helper()
	if k.ended() && k.err != nil && !k.known {
		k.known = true
		k.t.Fatalf("the job failed: %v", k.err)
	}
}

func (k *Kit) ended() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

// Advance settles, moves the clock on by d, and settles again. Whatever is due
// in between happens at its own time.
func (k *Kit) Advance(d time.Duration) {
	k.t.Helper()
	k.Settle()
	time.Sleep(d)
	k.Settle()
}

// Finish ends all inputs and returns when the job has ended, every window
// having fired.
func (k *Kit) Finish() {
	k.t.Helper()
	k.Settle()
	for _, f := range k.feeds {
		f.end()
	}
	k.await("its inputs ended")
}

// Drain drains the job, as [pipeline.Pipeline.Drain] does, and returns when it
// has ended.
func (k *Kit) Drain() {
	k.t.Helper()
	k.Settle()
	k.p.Drain()
	k.await("it was drained")
}

// Stop cancels the job's context and returns when it has ended. What was sent
// before reaches the outputs; no window fires.
func (k *Kit) Stop() {
	k.t.Helper()
	k.Settle()
	k.cancel()
	k.await("it was stopped")
}

func (k *Kit) await(since string) {
	k.t.Helper()
	select {
	case <-k.done:
		k.failed()
	case <-time.After(patience):
		k.t.Fatalf("the job has not ended %v after %s\n%s", patience, since, k.stats())
	}
}

// Err settles and returns the error that the job has failed with, nil while it
// runs and when it has ended well. A test that expects a failure calls it
// before anything else that settles, all of which end the test at a failure.
func (k *Kit) Err() error {
	k.settle()
	if !k.ended() {
		return nil
	}
	k.known = true
	return k.err
}

// Ended settles and says whether the job has ended, well or not.
func (k *Kit) Ended() bool {
	k.t.Helper()
	k.Settle()
	return k.ended()
}

// close ends the job, so that no goroutine is left in the bubble.
func (k *Kit) close() {
	k.t.Helper()
	for _, t := range k.taps {
		t.Release()
	}
	if !k.started {
		return
	}
	k.cancel()
	select {
	case <-k.done:
	case <-time.After(patience):
		k.t.Errorf("the job has not ended %v after the test\n%s", patience, k.stats())
		return
	}
	if k.err != nil && !k.known {
		k.t.Errorf("the job failed: %v", k.err)
	}
}

// stats renders the operators' figures, for failure messages.
func (k *Kit) stats() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "operator\tsubtask\tin\tout\twatermark\n")
	for _, s := range k.p.Stats() {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\n", s.Operator, s.Subtask, s.In, s.Out, timeText(s.Watermark))
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}

// timeText renders an event time, and the two that mean something else.
func timeText(ts int64) string {
	switch ts {
	case pipeline.MinWatermark:
		return "min"
	case pipeline.MaxWatermark:
		return "max"
	}
	return fmt.Sprint(ts)
}
