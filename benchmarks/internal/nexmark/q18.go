package nexmark

import (
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
)

// Q18 is the last bid of each bidder for each auction, and of two at the same time
// the higher one: a bid whenever it is later than the one before.
func Q18(events pipeline.Stream[Event]) pipeline.Stream[Bid] {
	byBoth := pipeline.KeyBy(bids(events), func(b *Bid) bidderAuction { return bidderAuction{b.Bidder, b.Auction} })
	return pipeline.Process(byBoth, "last", func() *lastBid { return &lastBid{} })
}

type bidderAuction struct{ Bidder, Auction int64 }

// lastBid remembers the time and price of the last bid, which is all that is needed
// to tell whether another is later. It does so for ever, since the query has no end
// after which a pair would be of no interest; a real job would have a state.TTL.
type lastBid struct {
	last *state.Value[bidderAuction, timePrice]
}

// timePrice is an array since that is stored more compactly than a struct.
type timePrice [2]int64

func (a timePrice) before(b timePrice) bool {
	return a[0] < b[0] || a[0] == b[0] && a[1] < b[1]
}

func (o *lastBid) Open(c *pipeline.Context[bidderAuction, Bid]) error {
	o.last = state.NewValue[timePrice](c.State(), "last")
	return nil
}

func (o *lastBid) Process(c *pipeline.Context[bidderAuction, Bid], b *Bid) error {
	// No price is below zero, so that the zero value is before every bid.
	if last, this := o.last.Upsert(), (timePrice{b.Time, b.Price}); last.before(this) {
		*last = this
		c.Emit(*b)
	}
	return nil
}
