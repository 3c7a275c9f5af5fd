package nexmark

import (
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// BidderSession is a run of bids without a long pause.
type BidderSession struct {
	Bidder int64
	First  int64 // time of the first bid in ms
	Last   int64
	Count  int64
}

// Q11 is the bids of each bidder, by sessions that end when there is none for 10 s.
func Q11(events pipeline.Stream[Event]) pipeline.Stream[BidderSession] {
	bidders := bidsAs(events, "bidders", func(b *Bid) int64 { return b.Bidder })
	byBidder := pipeline.KeyBy(bidders, func(bidder int64) int64 { return bidder })
	counts := operators.Aggregate(byBidder, "sessions", window.Session(sessionGap*time.Millisecond), operators.Count[int64]())
	return operators.Map(counts, "results", func(r operators.Result[int64, int64]) BidderSession {
		// A session's window ends a gap and a millisecond behind its last record.
		return BidderSession{r.Key, r.Window.Start, r.Window.End - sessionGap - 1, r.Value}
	})
}
