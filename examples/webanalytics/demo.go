package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/goccy/go-json"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/generator"
)

// The demo is a shop's working day, several hours of it in some seconds. It is
// the same every time, and has what real traffic has: visitors who come back,
// events out of order, sent twice, too late, and broken.
const (
	demoRate   = 5000 // events a second of wall time
	demoHours  = 6    // of event time
	demoSlots  = 240  // visitors at a time
	demoBlock  = 8    // events that a slot has for one visitor
	demoPeople = 4000 // who come back
)

var demoStart = time.Date(2025, 11, 24, 9, 0, 0, 0, time.UTC).UnixMilli()

// demoEvents is the generator as a source. What it breaks is rejected here,
// where a line of a file would be rejected by its decoder.
func (c *config) demoEvents(p *pipeline.Pipeline) pipeline.Stream[Event] {
	n := max(1, int64(demoRate*c.demoFor.Seconds()))
	shop := demoShop{step: float64(demoHours*time.Hour/time.Millisecond) / float64(n)}
	made := pipeline.From(p, sourceName, generator.Func(n, shop.event, generator.Rate(demoRate)),
		pipeline.BoundedDisorder(func(e Event) int64 { return c.times.orFirst(e.Time()) }, c.outOfOrderness))
	return operators.TryMap(made, "events", func(e Event) (Event, error) { return e, c.times.check(&e) })
}

// demoShop makes events.
type demoShop struct{ step float64 } // milliseconds of event time between events

// event makes the i-th one, with the faults that traffic has.
func (s demoShop) event(r *rand.Rand, i int64) Event {
	e := s.visit(i)
	switch fault := r.Float64(); {
	case fault < 0.01: // sent again, some seconds later
		e = s.visit(max(0, i-1-int64(5000/s.step)))
	case fault < 0.013: // from a phone that was offline
		e.ServerTimestamp -= 60_000 + r.Int64N(30*60_000)
	case fault < 0.0135: // a clock gone mad
		e.ServerTimestamp = 253_402_214_400_000
	case fault < 0.014: // a broken tracker
		e.TrackingID = ""
	}
	return e
}

// visit makes the i-th event as it should be. It depends on i alone, so that
// it can be made again.
func (s demoShop) visit(i int64) Event {
	slot, round := i%demoSlots, i/demoSlots
	block, at := round/demoBlock, int(round%demoBlock)
	visitor := rand.New(rand.NewPCG(uint64(slot), uint64(block)))
	event := rand.New(rand.NewPCG(1<<32, uint64(i)))

	who, length := visitor.IntN(demoPeople), 1+visitor.IntN(demoBlock)
	if at >= length { // the rest of the block is another visitor's, or several's who leave at once
		who, at = visitor.IntN(demoPeople), at-length
		if visitor.IntN(4) == 0 {
			who, at = demoPeople+event.IntN(1<<20), 0
		}
	}
	e := Event{
		EventID:    fmt.Sprintf("e%08d", i),
		TrackingID: "demo-shop",
		UserID:     fmt.Sprintf("u%07d", who),
		EventType:  pageView,
		Context: Context{
			UserAgent: demoAgents[who%len(demoAgents)],
			Language:  demoLanguages[who/7%len(demoLanguages)],
			IP:        fmt.Sprintf("%d.%d.%d.%d", 1+who%220, who/220%256, who/7%256, 1+who%250),
		},
		ServerTimestamp: demoStart + int64(float64(i)*s.step) - event.Int64N(4000),
	}
	e.PageURL = demoPage(event, at)
	if at > 1 && event.IntN(4) == 0 {
		e.EventType, e.Properties = "click", json.RawMessage(`{"button":"add-to-cart"}`)
	}
	return e
}

// demoPage is where a visitor is after some events: further in, most likely.
func demoPage(r *rand.Rand, at int) string {
	if r.IntN(5) == 0 {
		at = r.IntN(demoBlock)
	}
	switch {
	case at == 0 && r.IntN(3) > 0:
		return "/"
	case at <= 1:
		return "/products"
	case at <= 4:
		return fmt.Sprintf("/products/%d", 1+int(40*r.Float64()*r.Float64()))
	case at == 5:
		return "/cart"
	case at == 6:
		return "/checkout"
	}
	return "/thanks"
}

// demoFunnels are what the demo counts without -funnel.
func demoFunnels() []Funnel {
	f := Funnel{Name: "purchase", Steps: []FunnelStep{
		{Name: "product", PageURL: "/products/*"}, {Name: "cart", PageURL: "/cart"},
		{Name: "checkout", PageURL: "/checkout"}, {Name: "bought", PageURL: "/thanks"},
	}}
	if err := f.prepare(); err != nil {
		panic(err) // it stands above
	}
	return []Funnel{f}
}

var demoLanguages = []string{"en-GB", "de-DE", "fr-FR", "en-US", "es-ES"}

var demoAgents = []string{
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
	"Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
	"Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
	"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
}
