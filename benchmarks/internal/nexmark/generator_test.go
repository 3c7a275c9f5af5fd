package nexmark

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sinks/memory"
)

func newGenerator(t testing.TB, c Config) *Generator {
	t.Helper()
	g, err := NewGenerator(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestEventsAreThoseOfTheirNumber(t *testing.T) {
	a, b, other := newGenerator(t, Config{}), newGenerator(t, Config{}), newGenerator(t, Config{Seed: 1})
	differ := 0
	for n := int64(4999); n >= 0; n-- { // backwards: nothing may depend on what came before
		if e := a.Event(n); !reflect.DeepEqual(e, b.Event(n)) {
			t.Fatalf("event %d differs between two generators", n)
		} else if !reflect.DeepEqual(e, other.Event(n)) {
			differ++
		}
	}
	if differ != 5000 {
		t.Errorf("%d of 5000 events differ under another seed, want all", differ)
	}
}

func TestProportionsAndIDs(t *testing.T) {
	g := newGenerator(t, Config{})
	var count [3]int64
	for n := range int64(5000) {
		e := g.Event(n)
		if e.Time() != DefaultStart+n/10 {
			t.Fatalf("event %d is of %d, want %d", n, e.Time(), DefaultStart+n/10)
		}
		switch e.Type {
		case TypePerson:
			if want := FirstID + count[TypePerson]; e.Person.ID != want {
				t.Fatalf("event %d is person %d, want %d", n, e.Person.ID, want)
			}
		case TypeAuction:
			if want := FirstID + count[TypeAuction]; e.Auction.ID != want {
				t.Fatalf("event %d is auction %d, want %d", n, e.Auction.ID, want)
			}
		}
		count[e.Type]++
	}
	if want := [3]int64{100, 300, 4600}; count != want {
		t.Errorf("persons, auctions and bids are %d, want %d", count, want)
	}
}

// What is asked of hot keys, sizes and prices holds within what chance does to 200,000
// events.
func TestDistribution(t *testing.T) {
	g := newGenerator(t, Config{})
	const from, n = 1_000_000, 200_000
	var bids, hotAuctions, hotBidders, hotChannels, extra, cheap float64
	for i := range int64(n) {
		e := g.Event(from + i)
		if e.Type != TypeBid {
			continue
		}
		b := e.Bid
		bids++
		extra += float64(len(b.Extra))
		count := func(to *float64, is bool) {
			if is {
				*to++
			}
		}
		count(&hotAuctions, (b.Auction-FirstID)%hotEvery == 0)
		count(&hotBidders, (b.Bidder-FirstID)%hotEvery < 2)
		count(&hotChannels, len(b.Channel) < len("channel-0"))
		count(&cheap, b.Price < 100_000)
		if b.Price < 100 || b.Price > 100_000_000 {
			t.Fatalf("a bid of %d", b.Price)
		}
		if known := FirstID + auctions(from+i); b.Auction < known-101 || b.Auction >= known+lead {
			t.Fatalf("a bid for auction %d when %d is next", b.Auction, known)
		}
		if known := FirstID + persons(from+i); b.Bidder < known-1001 || b.Bidder > known+lead {
			t.Fatalf("a bid of person %d when %d is next", b.Bidder, known)
		}
	}
	within := func(what string, got, want, tolerance float64) {
		if got < want-tolerance || got > want+tolerance {
			t.Errorf("%s: %.3f, want %.3f", what, got, want)
		}
	}
	within("bids for the hot auction", hotAuctions/bids, 0.5+0.5/100, 0.01)
	within("bids of hot bidders", hotBidders/bids, 0.75+0.25*2/100, 0.01)
	within("bids by hot channels", hotChannels/bids, 0.5, 0.01)
	within("bids below 1000 dollars", cheap/bids, 0.5, 0.01)
	within("length of extra", extra/bids, 68, 1)
}

// Q11 promises this to whoever compares engines that join sessions exactly a gap apart
// with engines that don't.
func TestNoTwoBidsExactlyAGapApart(t *testing.T) {
	g := newGenerator(t, Config{Spacing: 2 * time.Millisecond, ActivePersons: 20})
	seen := map[[2]int64]bool{}
	for n := range int64(50_000) {
		if e := g.Event(n); e.Type == TypeBid {
			if seen[[2]int64{e.Bid.Bidder, e.Bid.Time - sessionGap}] {
				t.Fatalf("bidder %d has bids at %d and a gap before", e.Bid.Bidder, e.Bid.Time)
			}
			seen[[2]int64{e.Bid.Bidder, e.Bid.Time}] = true
		}
	}
}

func TestInvalidConfig(t *testing.T) {
	if _, err := NewGenerator(Config{Spacing: -1, HotBidders: -1}); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("error is %v, want %v", err, ErrInvalidConfig)
	}
}

func TestSource(t *testing.T) {
	g := newGenerator(t, Config{})
	p := pipeline.New(pipeline.DefaultParallelism(2))
	out := memory.Collect(pipeline.From(p, "events", g.Source(5000), Watermarks()), "out")
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, e := range out.Values() {
		got[inJSON(t, e)]++
	}
	for n := range int64(5000) {
		if e := inJSON(t, g.Event(n)); got[e] != 1 {
			t.Fatalf("event %d came %d times: %s", n, got[e], e)
		}
	}
	if out.Len() != 5000 {
		t.Errorf("%d events, want 5000", out.Len())
	}
}

func inJSON(t testing.TB, e Event) string {
	t.Helper()
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestSourceIsInOrderOfTime(t *testing.T) {
	p := pipeline.New(pipeline.DefaultParallelism(2))
	events := pipeline.From(p, "events", newGenerator(t, Config{}).Source(5000), Watermarks())
	late := pipeline.Process(events, "late", func() pipeline.ProcessFunc[pipeline.NoKey, Event, Event] {
		return func(c *pipeline.Context[pipeline.NoKey, Event], e Event) error {
			if c.Time() <= c.Watermark() {
				c.Emit(e)
			}
			return nil
		}
	})
	out := memory.Collect(late, "out")
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 0 {
		t.Errorf("%d events are late", out.Len())
	}
}

func BenchmarkEvent(b *testing.B) {
	g := newGenerator(b, Config{})
	b.ReportAllocs()
	for n := int64(0); b.Loop(); n++ {
		g.Event(n)
	}
}
