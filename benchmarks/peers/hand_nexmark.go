package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/goccy/go-json"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/benchmarks/internal/nexmark"
)

// clock is the event time up to which everything was read: the least of the latest
// times of all partitions, which are read at different speed.
type clock struct {
	latest [partitions]int64
	now    int64
}

func newClock() *clock {
	c := &clock{now: math.MinInt64}
	for p := range c.latest {
		c.latest[p] = math.MinInt64
	}
	return c
}

// advance takes the time of a record, and says whether time has moved on.
func (c *clock) advance(partition int32, time int64) bool {
	if c.latest[partition] == time {
		return false
	}
	moved := c.latest[partition] == c.now
	c.latest[partition] = time
	if !moved {
		return false
	}
	before := c.now
	c.now = time
	for _, t := range c.latest {
		c.now = min(c.now, t)
	}
	return c.now > before
}

func decode(r *kgo.Record) (e trade, err error) {
	err = json.Unmarshal(r.Value, &e)
	return e, err
}

// inEuros is a price in another currency.
func inEuros(price int64) int64 { return price * 908 / 1000 }

func q1ByHand(emit emitter) loop {
	return loop{
		record: func(r *kgo.Record) error {
			e, err := decode(r)
			if err == nil && e.Type == nexmark.TypeBid {
				emit("", fields(e.Bid.Auction, e.Bid.Bidder, inEuros(e.Bid.Price), e.Bid.Time))
			}
			return err
		},
		end: func() {},
	}
}

const (
	hotWindow = 10_000 // ms, of q5
	hotSlide  = 2_000
)

// hotAuctions counts bids by slices of time, of which the windows are made.
type hotAuctions struct {
	emit   emitter
	time   *clock
	slices map[int64]map[int64]int64 // by start, bids by auction
	next   int64                     // the end of the next window; 0 before the first
}

func q5ByHand(emit emitter) loop {
	h := &hotAuctions{emit: emit, time: newClock(), slices: map[int64]map[int64]int64{}}
	return loop{record: h.record, end: func() {}} // the closing records end all windows
}

func (h *hotAuctions) record(r *kgo.Record) error {
	e, err := decode(r)
	if err != nil {
		return err
	}
	if e.Type == nexmark.TypeBid {
		start := e.Bid.Time - e.Bid.Time%hotSlide
		bids := h.slices[start]
		if bids == nil {
			bids = map[int64]int64{}
			h.slices[start] = bids
		}
		bids[e.Bid.Auction]++
	}
	if h.time.advance(r.Partition, e.Time()) {
		h.close()
	}
	return nil
}

// close ends the windows that are complete.
func (h *hotAuctions) close() {
	if len(h.slices) == 0 {
		return
	}
	if h.next == 0 {
		h.next = math.MaxInt64
		for start := range h.slices {
			h.next = min(h.next, start+hotSlide)
		}
	}
	for ; h.next <= h.time.now; h.next += hotSlide {
		h.window(h.next)
		delete(h.slices, h.next-hotWindow)
	}
}

func (h *hotAuctions) window(end int64) {
	total, most := map[int64]int64{}, int64(0)
	for start := end - hotWindow; start < end; start += hotSlide {
		for auction, n := range h.slices[start] {
			total[auction] += n
			most = max(most, total[auction])
		}
	}
	for auction, n := range total {
		if n == most {
			h.emit("", fields(end, auction, n))
		}
	}
}

const newcomers = 10_000 // ms, the windows of q8

// newcomersWindow is what a window of q8 has seen.
type newcomersWindow struct {
	persons map[int64]string
	sellers map[int64]struct{}
}

func q8ByHand(emit emitter) loop {
	time, windows := newClock(), map[int64]newcomersWindow{}
	window := func(at int64) newcomersWindow {
		start := at - at%newcomers
		w, there := windows[start]
		if !there {
			w = newcomersWindow{map[int64]string{}, map[int64]struct{}{}}
			windows[start] = w
		}
		return w
	}
	record := func(r *kgo.Record) error {
		e, err := decode(r)
		if err != nil {
			return err
		}
		switch e.Type {
		case nexmark.TypePerson:
			window(e.Person.Time).persons[e.Person.ID] = strings.Clone(e.Person.Name)
		case nexmark.TypeAuction:
			window(e.Auction.Time).sellers[e.Auction.Seller] = struct{}{}
		}
		if !time.advance(r.Partition, e.Time()) {
			return nil
		}
		for start, w := range windows {
			if start+newcomers <= time.now {
				w.emit(start, emit)
				delete(windows, start)
			}
		}
		return nil
	}
	return loop{record: record, end: func() {}}
}

func (w newcomersWindow) emit(start int64, emit emitter) {
	for id := range w.sellers {
		if name, registered := w.persons[id]; registered {
			emit("", fmt.Appendf(nil, "%d %d %s", start, id, name))
		}
	}
}

// gapOfBids ends a session of bids, in ms.
const gapOfBids = 10_000

func q11ByHand(emit emitter) loop {
	time, bidders, swept := newClock(), map[int64][]session{}, int64(0)
	record := func(r *kgo.Record) error {
		e, err := decode(r)
		if err != nil {
			return err
		}
		if e.Type == nexmark.TypeBid {
			bidders[e.Bid.Bidder] = join(bidders[e.Bid.Bidder], e.Bid.Time, gapOfBids)
		}
		// To look at all bidders is work, so it is done once in a gap.
		if !time.advance(r.Partition, e.Time()) || time.now-swept < gapOfBids {
			return nil
		}
		swept = time.now
		for bidder, all := range bidders {
			for len(all) > 0 && all[0].Last+gapOfBids < time.now {
				emit("", fields(bidder, all[0].First, all[0].Last, all[0].N))
				all = all[1:]
			}
			if bidders[bidder] = all; len(all) == 0 {
				delete(bidders, bidder)
			}
		}
		return nil
	}
	return loop{record: record, end: func() {}}
}

// offer is what q18 keeps of a bid.
type offer struct {
	Time  int64 `json:"time"`
	Price int64 `json:"price"`
}

// after says whether o takes the place of p.
func (o offer) after(p offer) bool {
	return o.Time > p.Time || o.Time == p.Time && o.Price > p.Price
}

func q18ByHand(emit emitter) loop {
	type key struct{ bidder, auction int64 }
	kept := map[key]offer{}
	return loop{
		record: func(r *kgo.Record) error {
			e, err := decode(r)
			if err != nil || e.Type != nexmark.TypeBid {
				return err
			}
			k, o := key{e.Bid.Bidder, e.Bid.Auction}, offer{e.Bid.Time, e.Bid.Price}
			if old, there := kept[k]; !there || o.after(old) {
				kept[k] = o
				emit(string(fields(k.bidder, k.auction)), fields(o.Time, o.Price))
			}
			return nil
		},
		end: func() {},
	}
}
