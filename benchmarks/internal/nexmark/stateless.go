package nexmark

import (
	"strings"
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
)

// bidsAs makes something of every bid and drops all other events: what a query needs
// of a bid, so that no more than that is sent to another subtask.
func bidsAs[T any](events pipeline.Stream[Event], name string, f func(*Bid) T) pipeline.Stream[T] {
	return operators.FlatMap(events, name, func(e Event, emit func(T)) {
		if e.Type == TypeBid {
			emit(f(e.Bid))
		}
	})
}

// bids is for queries that need most of a bid. Bids are shared, and not changed.
func bids(events pipeline.Stream[Event]) pipeline.Stream[*Bid] {
	return bidsAs(events, "bids", func(b *Bid) *Bid { return b })
}

// Q0 is every bid as it is: what the engine itself costs.
func Q0(events pipeline.Stream[Event]) pipeline.Stream[Bid] {
	return bidsAs(events, "pass through", func(b *Bid) Bid { return *b })
}

// Converted is a bid with its price in another currency.
type Converted struct {
	Auction int64
	Bidder  int64
	Price   int64
	Time    int64
	Extra   string
}

// Q1 is every bid with its price in another currency.
func Q1(events pipeline.Stream[Event]) pipeline.Stream[Converted] {
	return bidsAs(events, "convert", func(b *Bid) Converted {
		return Converted{b.Auction, b.Bidder, convert(b.Price), b.Time, b.Extra}
	})
}

// convert multiplies by 0.908, in whole numbers, so that all engines agree.
func convert(price int64) int64 { return price * 908 / 1000 }

// Selected is a bid for one of the auctions that were chosen.
type Selected struct {
	Auction int64
	Price   int64
}

// Q2 is the bids for some auctions: one in 123.
func Q2(events pipeline.Stream[Event]) pipeline.Stream[Selected] {
	return operators.FlatMap(events, "select", func(e Event, emit func(Selected)) {
		if e.Type == TypeBid && e.Bid.Auction%123 == 0 {
			emit(Selected{e.Bid.Auction, e.Bid.Price})
		}
	})
}

// Computed is a bid with what [Q14] makes of it.
type Computed struct {
	Auction   int64
	Bidder    int64
	Price     int64
	TimeOfDay string // dayTime, nightTime or otherTime
	Time      int64
	Extra     string
	Cs        int64 // letters c in Extra
}

// Q14 is the bids whose price in the other currency is between 10,000 and 500,000
// dollars, with the time of the day in words and a count of letters.
func Q14(events pipeline.Stream[Event]) pipeline.Stream[Computed] {
	return operators.FlatMap(events, "compute", func(e Event, emit func(Computed)) {
		if e.Type != TypeBid {
			return
		}
		b := e.Bid
		if thousandths := b.Price * 908; thousandths <= 1_000_000_000 || thousandths >= 50_000_000_000 {
			return
		}
		emit(Computed{b.Auction, b.Bidder, convert(b.Price), timeOfDay(b.Time), b.Time, b.Extra, int64(strings.Count(b.Extra, "c"))})
	})
}

func timeOfDay(ms int64) string {
	switch hour := ms / time.Hour.Milliseconds() % 24; {
	case hour >= 8 && hour <= 18:
		return "dayTime"
	case hour <= 6 || hour >= 20:
		return "nightTime"
	default:
		return "otherTime"
	}
}

// Folders is a bid with the first folders of its page's path.
type Folders struct {
	Auction int64
	Bidder  int64
	Price   int64
	Channel string
	Dirs    [3]string
}

// Q22 is every bid with its URL taken apart.
func Q22(events pipeline.Stream[Event]) pipeline.Stream[Folders] {
	return bidsAs(events, "split", func(b *Bid) Folders {
		return Folders{b.Auction, b.Bidder, b.Price, b.Channel, folders(b.URL)}
	})
}

// folders returns what is between the slashes of a URL from the third to the sixth:
// strings.Split would allocate.
func folders(url string) (dirs [3]string) {
	for range 3 { // the scheme, nothing, the host
		_, url, _ = strings.Cut(url, "/")
	}
	for i := range dirs {
		dirs[i], url, _ = strings.Cut(url, "/")
	}
	return dirs
}
