package pipeline_test

import (
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
)

// replayed is a source that may be asked to keep an order.
type replayed struct {
	dictation
	ordered bool
}

func (r replayed) Ordered() bool { return r.ordered }

// TestClockInAnOrderedReplay: what moves time by the clock would make a replay
// another one each time, without a word.
func TestClockInAnOrderedReplay(t *testing.T) {
	byTime := pipeline.Monotonic(eventTime)
	job := func(src pipeline.Source[event], s pipeline.WatermarkStrategy[event]) error {
		p := pipeline.New()
		collect(pipeline.From(p, "events", src, s), "out")
		return p.Validate()
	}
	d := make(dictation)
	wantError(t, job(replayed{d, true}, byTime.IdleAfter(time.Second)), `source "events": IdleAfter moves event time by the clock`, "order_test.go:")
	wantError(t, job(replayed{d, true}, byTime.AdvanceWhenIdle(time.Second)), "AdvanceWhenIdle moves event time by the clock")
	for _, err := range []error{
		job(replayed{d, true}, byTime), job(replayed{d, false}, byTime.IdleAfter(time.Second)), job(d, byTime.AdvanceWhenIdle(time.Second)),
	} {
		if err != nil {
			t.Error(err)
		}
	}
}
