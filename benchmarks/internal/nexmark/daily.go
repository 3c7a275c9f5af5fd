package nexmark

import (
	"maps"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// The queries of this file give the figures of a day when it is over. With
// operators.Trigger they would give them as they grow, too.

var day = window.Days(time.UTC)

func dayOf(w window.Window) string { return time.UnixMilli(w.Start).UTC().Format(time.DateOnly) }

// ByRank counts bids, or something of theirs, by what is bid: the first rank is that of
// less than 100 dollars, and the third begins with 10,000.
type ByRank struct{ Total, Rank1, Rank2, Rank3 int64 }

func rankOf(price int64) int {
	switch {
	case price < 10_000:
		return 0
	case price < 1_000_000:
		return 1
	default:
		return 2
	}
}

func (r ByRank) plus(o ByRank) ByRank {
	return ByRank{r.Total + o.Total, r.Rank1 + o.Rank1, r.Rank2 + o.Rank2, r.Rank3 + o.Rank3}
}

// countByRank counts bids. Its accumulator is an array and not a struct, which would be
// stored with the names of its fields.
func countByRank[T any](price func(T) int64) operators.Aggregation[T, [3]int64, ByRank] {
	return operators.Aggregation[T, [3]int64, ByRank]{
		Add: func(acc *[3]int64, v T) { acc[rankOf(price(v))]++ },
		Merge: func(acc, other *[3]int64) {
			for i := range acc {
				acc[i] += other[i]
			}
		},
		Result: func(acc *[3]int64) ByRank {
			return ByRank{acc[0] + acc[1] + acc[2], acc[0], acc[1], acc[2]}
		},
	}
}

// distinctByRank counts different ids, exactly; those of operators.Distinct are
// estimates. The accumulator says of each id in which ranks it was seen, by a bit for
// each.
func distinctByRank(id func(*Bid) int64) operators.Aggregation[*Bid, map[int64]uint8, ByRank] {
	return operators.Aggregation[*Bid, map[int64]uint8, ByRank]{
		New: func() map[int64]uint8 { return map[int64]uint8{} },
		Add: func(acc *map[int64]uint8, b *Bid) {
			(*acc)[id(b)] |= 1 << rankOf(b.Price)
		},
		Merge: func(acc, other *map[int64]uint8) {
			for id, ranks := range *other {
				(*acc)[id] |= ranks
			}
		},
		Result: func(acc *map[int64]uint8) (r ByRank) {
			for ranks := range maps.Values(*acc) {
				r.Total++
				r.Rank1 += int64(ranks & 1)
				r.Rank2 += int64(ranks >> 1 & 1)
				r.Rank3 += int64(ranks >> 2)
			}
			return r
		},
	}
}

// withResult makes something else of an aggregation's result.
func withResult[T, A, R, S any](of operators.Aggregation[T, A, R], f func(R) S) operators.Aggregation[T, A, S] {
	return operators.Aggregation[T, A, S]{
		New: of.New, Add: of.Add, Merge: of.Merge, Codec: of.Codec, Err: of.Err,
		Result: func(acc *A) S { return f(of.Result(acc)) },
	}
}

func priceOf(b *Bid) int64   { return b.Price }
func bidderOf(b *Bid) int64  { return b.Bidder }
func auctionOf(b *Bid) int64 { return b.Auction }

// Figures are counts of bids, of different bidders and of different auctions.
type Figures struct{ Bids, Bidders, Auctions ByRank }

func (f Figures) plus(o Figures) Figures {
	return Figures{f.Bids.plus(o.Bids), f.Bidders.plus(o.Bidders), f.Auctions.plus(o.Auctions)}
}

// DayFigures are the figures of a day.
type DayFigures struct {
	Day string // as in 2026-01-31
	Figures
}

// Q15 is the figures of each day. Each of the ids belongs to one share of them, so
// shares are counted side by side, and then added up.
func Q15(events pipeline.Stream[Event]) pipeline.Stream[DayFigures] {
	all := bids(events)
	byBidder := pipeline.KeyBy(all, func(b *Bid) int64 { return b.Bidder % shares })
	bidders := operators.Aggregate(byBidder, "bidders", day,
		operators.Combine2(countByRank(priceOf), distinctByRank(bidderOf), func(bids, bidders ByRank) Figures {
			return Figures{Bids: bids, Bidders: bidders}
		}))
	byAuction := pipeline.KeyBy(all, func(b *Bid) int64 { return b.Auction % shares })
	auctions := operators.Aggregate(byAuction, "auctions", day,
		withResult(distinctByRank(auctionOf), func(auctions ByRank) Figures {
			return Figures{Auctions: auctions}
		}))

	type share = operators.Result[int64, Figures]
	byDay := pipeline.KeyBy(pipeline.Union(bidders, auctions), func(s share) int64 { return s.Window.Start })
	sum := operators.Aggregate(byDay, "sum", day, operators.Aggregation[share, Figures, Figures]{
		Add:    func(acc *Figures, s share) { *acc = acc.plus(s.Value) },
		Result: func(acc *Figures) Figures { return *acc },
	})
	return operators.Map(sum, "results", func(r share) DayFigures { return DayFigures{dayOf(r.Window), r.Value} })
}

// ChannelFigures are the figures of a channel's day.
type ChannelFigures struct {
	Channel string
	Day     string // as in 2026-01-31
	Minute  string // of the last bid, as in 23:59
	Figures
}

// Q16 is the figures of each channel and day.
func Q16(events pipeline.Stream[Event]) pipeline.Stream[ChannelFigures] {
	byChannel := pipeline.KeyBy(bids(events), func(b *Bid) string { return b.Channel })
	figures := operators.Aggregate(byChannel, "figures", day,
		operators.Combine4(countByRank(priceOf), distinctByRank(bidderOf), distinctByRank(auctionOf),
			operators.Max(func(b *Bid) int64 { return b.Time }),
			func(bids, bidders, auctions ByRank, last int64) ChannelFigures {
				return ChannelFigures{
					Minute:  time.UnixMilli(last).UTC().Format("15:04"),
					Figures: Figures{bids, bidders, auctions},
				}
			}))
	return operators.Map(figures, "results", func(r operators.Result[string, ChannelFigures]) ChannelFigures {
		r.Value.Channel, r.Value.Day = r.Key, dayOf(r.Window)
		return r.Value
	})
}

// AuctionPrices is what was bid for an auction on a day.
type AuctionPrices struct {
	Auction       int64
	Day           string // as in 2026-01-31
	Bids          ByRank
	Min, Max, Sum int64
}

// Mean is the mean price, in cents.
func (p AuctionPrices) Mean() float64 { return float64(p.Sum) / float64(p.Bids.Total) }

// Q17 is the bids of each auction and day, by number and price.
func Q17(events pipeline.Stream[Event]) pipeline.Stream[AuctionPrices] {
	type offer struct{ Auction, Price int64 }
	price := func(o offer) int64 { return o.Price }

	offers := bidsAs(events, "offers", func(b *Bid) offer { return offer{b.Auction, b.Price} })
	byAuction := pipeline.KeyBy(offers, func(o offer) int64 { return o.Auction })
	prices := operators.Aggregate(byAuction, "prices", day,
		operators.Combine4(countByRank(price), operators.Min(price), operators.Max(price), operators.Sum(price),
			func(bids ByRank, low, high, sum int64) AuctionPrices {
				return AuctionPrices{Bids: bids, Min: low, Max: high, Sum: sum}
			}))
	return operators.Map(prices, "results", func(r operators.Result[int64, AuctionPrices]) AuctionPrices {
		r.Value.Auction, r.Value.Day = r.Key, dayOf(r.Window)
		return r.Value
	})
}
