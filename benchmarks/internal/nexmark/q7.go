package nexmark

import (
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// shares is into how many parts a query divides its bids that has no key to divide
// them by: enough to keep many subtasks busy, few enough for what is left of each
// part to be next to nothing.
const shares = 64

// Q7 is the highest bids of every 10 s; all of them if several are as high.
func Q7(events pipeline.Stream[Event]) pipeline.Stream[Bid] {
	by := window.Tumbling(10 * time.Second)
	price := func(b Bid) int64 { return b.Price }

	byShare := pipeline.KeyBy(bids(events), func(b *Bid) int64 { return b.Bidder % shares })
	ofShares := each(operators.Aggregate(byShare, "highest of a share", by, mostOfShared(price)), "of shares")

	together := pipeline.KeyBy(ofShares, func(Bid) int64 { return 0 })
	return each(operators.Aggregate(together, "highest", by, most(price)), "results")
}

// mostOfShared is most for bids that are shared: it copies those it keeps.
func mostOfShared(of func(Bid) int64) operators.Aggregation[*Bid, []Bid, []Bid] {
	m := most(of)
	return operators.Aggregation[*Bid, []Bid, []Bid]{
		Add:    func(acc *[]Bid, b *Bid) { m.Add(acc, *b) },
		Merge:  m.Merge,
		Result: m.Result,
	}
}
