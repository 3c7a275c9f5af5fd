package main

import (
	"slices"

	"github.com/lovoo/goka"
)

// kept is the value of the key in hand, and the zero value where there is none.
func kept[T any](gc goka.Context) (v T, there bool) {
	v, there = gc.Value().(T)
	return v, there
}

func gokaCount(g *gokaRun, gc goka.Context, msg any) {
	start := minuteOf(msg.(visit).Time)
	m, there := kept[minuteCount](gc)
	if there && m.Start != start {
		g.emit(gc, fields(m.Start, m.N))
	}
	if !there || m.Start != start {
		m = minuteCount{Start: start}
	}
	m.N++
	gc.SetValue(m)
}

func gokaCountEnd(g *gokaRun, gc goka.Context) {
	if m, there := kept[minuteCount](gc); there {
		g.emit(gc, fields(m.Start, m.N))
	}
}

func gokaDistinct(g *gokaRun, gc goka.Context, msg any) {
	page := msg.(visit).Page
	pages, _ := kept[[]string](gc)
	if slices.Contains(pages, page) {
		return
	}
	gc.SetValue(append(pages, page))
	g.emit(gc, fields(int64(len(pages)+1)))
}

func gokaSessions(g *gokaRun, gc goka.Context, msg any) {
	time := msg.(visit).Time
	s, there := kept[session](gc)
	if there && time-s.Last > gapOfVisits {
		g.emit(gc, fields(s.First, s.Last, s.N))
		there = false
	}
	if !there {
		s = session{First: time}
	}
	s.Last = time
	s.N++
	gc.SetValue(s)
}

func gokaSessionsEnd(g *gokaRun, gc goka.Context) {
	if s, there := kept[session](gc); there {
		g.emit(gc, fields(s.First, s.Last, s.N))
	}
}

func gokaQ1(g *gokaRun, gc goka.Context, msg any) {
	if b := msg.(trade).Bid; b != nil {
		g.emit(gc, fields(b.Auction, b.Bidder, inEuros(b.Price), b.Time))
	}
}

func gokaByBidder(g *gokaRun, gc goka.Context, msg any) {
	if b := msg.(trade).Bid; b != nil {
		g.loopback(gc, string(fields(b.Bidder)), offer{b.Time, b.Price})
	}
}

// gokaQ11 keeps all sessions until the end of the input: bids of a bidder come from
// several partitions, and without watermarks nothing says that none is missing.
func gokaQ11(_ *gokaRun, gc goka.Context, msg any) {
	all, _ := kept[[]session](gc)
	gc.SetValue(join(all, msg.(offer).Time, gapOfBids))
}

func gokaQ11End(g *gokaRun, gc goka.Context) {
	all, _ := kept[[]session](gc)
	for _, s := range all {
		g.emit(gc, append([]byte(gc.Key()+" "), fields(s.First, s.Last, s.N)...))
	}
}

func gokaByBidderAndAuction(g *gokaRun, gc goka.Context, msg any) {
	if b := msg.(trade).Bid; b != nil {
		g.loopback(gc, string(fields(b.Bidder, b.Auction)), offer{b.Time, b.Price})
	}
}

func gokaQ18(g *gokaRun, gc goka.Context, msg any) {
	o := msg.(offer)
	if old, there := kept[offer](gc); there && !o.after(old) {
		return
	}
	gc.SetValue(o)
	g.emit(gc, fields(o.Time, o.Price))
}
