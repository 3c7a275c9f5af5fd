package nexmark

import (
	"cmp"
	"slices"
	"sort"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
)

// RankedBid is a bid and its place among those for its auction.
type RankedBid struct {
	Rank int64 // from 1
	Bid  Bid
}

// topBids is how many bids of an auction are ranked.
const topBids = 10

// Q19 is the ten highest bids for each auction as they come: whenever a bid takes a
// place, that bid and those that it moves down. The last result for each auction and
// rank holds, so it is for a sink that writes under such a key.
func Q19(events pipeline.Stream[Event]) pipeline.Stream[RankedBid] {
	byAuction := pipeline.KeyBy(bids(events), auctionOf)
	return pipeline.Process(byAuction, "top", func() *ranking { return &ranking{} })
}

// ranking keeps the ten highest bids of an auction. The windows of operators.TopN would
// give them once a window is over, and these have no end.
type ranking struct {
	top *state.Value[int64, []Bid]
}

func (o *ranking) Open(c *pipeline.Context[int64, RankedBid]) error {
	o.top = state.NewValue[[]Bid](c.State(), "top")
	return nil
}

func (o *ranking) Process(c *pipeline.Context[int64, RankedBid], b *Bid) error {
	if top, ok := o.top.Get(); ok && len(top) == topBids && compareRank(&top[topBids-1], b) <= 0 {
		return nil
	}
	top := o.top.Upsert()
	at := sort.Search(len(*top), func(i int) bool { return compareRank(b, &(*top)[i]) <= 0 })
	if len(*top) == topBids {
		*top = (*top)[:topBids-1]
	}
	*top = slices.Insert(*top, at, *b)
	for i, moved := range (*top)[at:] {
		c.Emit(RankedBid{int64(at + i + 1), moved})
	}
	return nil
}

// compareRank puts the higher bid first, and of those as high the earlier. Whatever
// else two bids differ in decides then, so that the ranking does not depend on which
// comes first.
func compareRank(a, b *Bid) int {
	if a.Price != b.Price { // nearly always; cmp.Or would compare all the rest as well
		return cmp.Compare(b.Price, a.Price)
	}
	return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Bidder, b.Bidder), cmp.Compare(a.Extra, b.Extra))
}
