package nexmark

import (
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
)

// BidderCount is how many bids of a bidder came within ten seconds of the clock.
type BidderCount struct {
	Bidder int64
	Start  int64 // in ms
	Count  int64
}

const clockWindow = int64(10 * time.Second / time.Millisecond)

// Q12 is the bids of each bidder by every 10 s of processing time. The windows of the
// library are those of event time, so this counts by hand.
func Q12(events pipeline.Stream[Event]) pipeline.Stream[BidderCount] {
	bidders := bidsAs(events, "bidders", func(b *Bid) int64 { return b.Bidder })
	byBidder := pipeline.KeyBy(bidders, func(bidder int64) int64 { return bidder })
	return pipeline.Process(byBidder, "count", func() *clockCounter { return &clockCounter{} })
}

// clockCounter counts in the window of the present, and gives the count when the
// window is over or the input ends.
type clockCounter struct {
	current *state.Value[int64, clockCount]
	ends    *pipeline.Timers[int64]
	input   *pipeline.Timers[int64]
}

// clockCount is the start of a window and the bids in it. It is no struct since an
// array is stored more compactly.
type clockCount [2]int64

type clockContext = pipeline.Context[int64, BidderCount]

func (o *clockCounter) Open(c *clockContext) error {
	o.current = state.NewValue[clockCount](c.State(), "current")
	o.ends = c.Timers("end of window")
	o.input = c.Timers("end of input")
	return nil
}

func (o *clockCounter) Process(c *clockContext, _ int64) error {
	now := c.Now()
	start := now - now%clockWindow
	n := o.current.Ptr()
	switch {
	case n == nil:
		n = o.current.Upsert()
		n[0] = start
		o.begin(start)
	case n[0] != start: // over, though its timer has not fired yet
		o.end(c, n)
		n[0] = start
		o.begin(start)
	}
	n[1]++
	return nil
}

// begin sets the timers of a window. Those of processing time don't fire when a
// bounded input ends; the end of event time does.
func (o *clockCounter) begin(start int64) {
	o.ends.SetProcessing(start + clockWindow)
	o.input.Set(pipeline.MaxWatermark)
}

func (o *clockCounter) end(c *clockContext, n *clockCount) {
	c.Emit(BidderCount{c.Key(), n[0], n[1]})
	n[1] = 0
}

// OnTimer gives a count, unless the timer is that of a window that was over before it
// fired.
func (o *clockCounter) OnTimer(c *clockContext, t pipeline.Timer) error {
	n := o.current.Ptr()
	if n == nil || t.Domain == pipeline.ProcessingTime && t.Time != n[0]+clockWindow {
		return nil
	}
	o.end(c, n)
	o.current.Clear()
	return nil
}
