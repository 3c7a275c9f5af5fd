package nexmark

import (
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/window"
)

// HotItem is an auction with the most bids of a window.
type HotItem struct {
	End     int64 // of the window, in ms
	Auction int64
	Count   int64
}

// Q5 is the auctions with the most bids in the last 10 s, every 2 s; all of them if
// several have as many.
func Q5(events pipeline.Stream[Event]) pipeline.Stream[HotItem] {
	const size, slide = 10 * time.Second, 2 * time.Second

	auctions := bidsAs(events, "auctions", func(b *Bid) int64 { return b.Auction })
	byAuction := pipeline.KeyBy(auctions, func(auction int64) int64 { return auction })
	counts := operators.Aggregate(byAuction, "count", window.Sliding(size, slide), operators.Count[int64]())
	items := operators.Map(counts, "items", func(r operators.Result[int64, int64]) HotItem {
		return HotItem{r.Window.End, r.Key, r.Value}
	})

	// A count has the last millisecond of its window for its time, so those of one
	// sliding window, and no others, are together in a tumbling one as long as the slide.
	byWindow := pipeline.KeyBy(items, func(i HotItem) int64 { return i.End })
	hot := operators.Aggregate(byWindow, "hot", window.Tumbling(slide), most(func(i HotItem) int64 { return i.Count }))
	return each(hot, "results")
}

// each makes a record of every element of a result.
func each[K comparable, T any](in pipeline.Stream[operators.Result[K, []T]], name string) pipeline.Stream[T] {
	return operators.FlatMap(in, name, func(r operators.Result[K, []T], emit func(T)) {
		for _, v := range r.Value {
			emit(v)
		}
	})
}
