package nexmark

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/sources/generator"
)

// The proportions of the public definition: of fifty events one is a person, three
// are auctions, and the rest are bids.
const (
	personsOf50  = 1
	auctionsOf50 = 3
	allOf50      = 50
)

const (
	// FirstID is the id of the first person, and of the first auction.
	FirstID = 1000
	// DefaultStart is the event time of the first event, in ms: the beginning of 2026.
	DefaultStart = 1_767_225_600_000
	// DefaultSpacing is the event time between two events: 10,000 come in a second.
	DefaultSpacing = 100 * time.Microsecond
)

const (
	firstCategory = 10
	categories    = 5
	// lead is how far behind the last auction or person an id may lie that a bid
	// names: it may come before what it is about.
	lead = 10
	// hotEvery is how many auctions or persons share one that is hot.
	hotEvery = 100
	// sessionGap is the gap of [Q11] in ms, see [Generator.bidder].
	sessionGap = 10_000
)

// Config says what auction to make up. The zero value is that of the public
// definition.
type Config struct {
	// Seed chooses among the sequences. Default 0.
	Seed uint64
	// Start is the event time of the first event, in ms. Default [DefaultStart].
	Start int64
	// Spacing is the event time between an event and the next; an event's time is
	// cut to ms. A larger one makes fewer events fall into a window, and more windows
	// of as many events. Default [DefaultSpacing].
	Spacing time.Duration
	// HotAuctions is n if all bids but one in n are for the hot auction of the moment.
	// Default 2.
	HotAuctions int64
	// HotBidders is n if all bids but one in n are those of the hot bidders of the
	// moment. Default 4.
	HotBidders int64
	// HotSellers is n if all auctions but one in n are those of the hot seller of the
	// moment. Default 4.
	HotSellers int64
	// OpenAuctions is how many auctions are bid for at a time. Default 100.
	OpenAuctions int64
	// ActivePersons is how many of the persons that came last bid and sell. Default
	// 1000.
	ActivePersons int64
}

func (c Config) withDefaults() Config {
	c.Start = orDefault(c.Start, DefaultStart)
	c.Spacing = orDefault(c.Spacing, DefaultSpacing)
	c.HotAuctions = orDefault(c.HotAuctions, 2)
	c.HotBidders = orDefault(c.HotBidders, 4)
	c.HotSellers = orDefault(c.HotSellers, 4)
	c.OpenAuctions = orDefault(c.OpenAuctions, 100)
	c.ActivePersons = orDefault(c.ActivePersons, 1000)
	return c
}

func orDefault[T comparable](v, otherwise T) T {
	if v == *new(T) {
		return otherwise
	}
	return v
}

// ErrInvalidConfig is matched by the error of a [Config] that makes no sense.
var ErrInvalidConfig = errors.New("invalid config")

func (c Config) validate() error {
	var errs []error
	check := func(ok bool, what string, v any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: %s is negative: %v", ErrInvalidConfig, what, v))
		}
	}
	check(c.Start >= 0, "Start", c.Start)
	check(c.Spacing >= 0, "Spacing", c.Spacing)
	check(c.HotAuctions >= 0, "HotAuctions", c.HotAuctions)
	check(c.HotBidders >= 0, "HotBidders", c.HotBidders)
	check(c.HotSellers >= 0, "HotSellers", c.HotSellers)
	check(c.OpenAuctions >= 0, "OpenAuctions", c.OpenAuctions)
	check(c.ActivePersons >= 0, "ActivePersons", c.ActivePersons)
	return errors.Join(errs...)
}

// Generator makes the events of an auction up. Event number n depends on the
// configuration and on n, and on nothing else, so a sequence may be dealt to several
// processes and gone on with anywhere. It may be used from any goroutine.
//
// It is the public generator (NexmarkGenerator of Apache Beam and of the suite for
// Flink), in its proportions, hot keys, prices and sizes, with events in order of
// time, and other random numbers.
type Generator struct {
	c Config
	t *texts
}

// NewGenerator returns a generator. Making it takes some milliseconds.
func NewGenerator(c Config) (*Generator, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &Generator{c: c.withDefaults(), t: newTexts(c.Seed)}, nil
}

// Source returns a source of the first n events, endless if n is 0. Each of its
// splits is in order of time: see [Watermarks].
func (g *Generator) Source(n int64, opts ...generator.Option) *generator.Source[Event] {
	// The source's own random numbers are left alone, so that its events are those
	// of Event.
	return generator.Func(n, func(_ *rand.Rand, i int64) Event { return g.Event(i) }, opts...)
}

// Watermarks says of a source that its splits are in order of time, as those of
// [Generator.Source] are.
func Watermarks() pipeline.WatermarkStrategy[Event] { return pipeline.Monotonic(Event.Time) }

// Event returns event number n, from 0.
func (g *Generator) Event(n int64) Event {
	r := randomOf(g.c.Seed, n)
	switch at := n % allOf50; {
	case at < personsOf50:
		return Event{Type: TypePerson, Person: g.person(&r, n)}
	case at < personsOf50+auctionsOf50:
		return Event{Type: TypeAuction, Auction: g.auction(&r, n)}
	default:
		return Event{Type: TypeBid, Bid: g.bid(&r, n)}
	}
}

// TimeOf returns the event time of event number n in ms.
func (g *Generator) TimeOf(n int64) int64 {
	return g.c.Start + n*int64(g.c.Spacing)/int64(time.Millisecond)
}

// persons and auctions return how many of them there are up to event number n.
func persons(n int64) int64 { return n/allOf50 + 1 }

func auctions(n int64) int64 {
	return n/allOf50*auctionsOf50 + min(max(n%allOf50-personsOf50+1, 0), auctionsOf50)
}

func (g *Generator) person(r *random, n int64) *Person {
	p := &Person{
		ID:         FirstID + persons(n) - 1,
		Name:       pick(r, firstNames) + " " + pick(r, lastNames),
		Email:      g.t.name(r, 7) + "@" + g.t.name(r, 5) + ".com",
		CreditCard: creditCard(r),
		City:       pick(r, cities),
		State:      pick(r, states),
		Time:       g.TimeOf(n),
	}
	size := 8 + len(p.Name) + len(p.Email) + len(p.CreditCard) + len(p.City) + len(p.State)
	p.Extra = g.t.extra(r, size, 200)
	return p
}

var (
	states     = []string{"AZ", "CA", "ID", "OR", "WA", "WY"}
	cities     = []string{"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"}
	firstNames = []string{"Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"}
	lastNames  = []string{"Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"}
)

func pick(r *random, of []string) string { return of[r.below(int64(len(of)))] }

func creditCard(r *random) string {
	return fmt.Sprintf("%04d %04d %04d %04d", r.below(10000), r.below(10000), r.below(10000), r.below(10000))
}

func (g *Generator) auction(r *random, n int64) *Auction {
	a := &Auction{
		ID:          FirstID + auctions(n) - 1,
		Item:        g.t.name(r, 20),
		Description: g.t.name(r, 100),
		InitialBid:  price(r),
		Time:        g.TimeOf(n),
		Seller:      FirstID + g.seller(r, n),
		Category:    firstCategory + r.below(categories),
	}
	a.Reserve = a.InitialBid + price(r)
	a.Expires = a.Time + g.auctionLength(r, n)
	a.Extra = g.t.extra(r, 8+len(a.Item)+len(a.Description)+5*8, 500)
	return a
}

func (g *Generator) seller(r *random, n int64) int64 {
	if r.below(g.c.HotSellers) > 0 {
		return hot(persons(n))
	}
	return g.anyPerson(r, n)
}

// auctionLength makes the time that the auctions which are open on average take to
// come the mean.
func (g *Generator) auctionLength(r *random, n int64) int64 {
	ahead := g.TimeOf(n+g.c.OpenAuctions*allOf50/auctionsOf50) - g.TimeOf(n)
	return 1 + r.below(max(2*ahead, 1))
}

// price is between one and a million dollars, in cents, and as likely to be between
// one and ten as between a hundred thousand and a million.
func price(r *random) int64 {
	// This is 10 to the power of 6·fraction; math.Pow would take twice as long.
	return int64(math.Round(math.Exp(6*math.Ln10*r.fraction()) * 100))
}

func (g *Generator) bid(r *random, n int64) *Bid {
	b := &Bid{
		Auction: FirstID + g.auctionBidFor(r, n),
		Bidder:  FirstID + g.bidder(r, n),
		Price:   price(r),
		Time:    g.TimeOf(n),
	}
	var c channel
	if r.below(2) > 0 {
		c = g.t.hot[r.below(int64(len(g.t.hot)))]
	} else {
		c = g.t.channels[r.below(channelCount)]
	}
	b.Channel, b.URL = c.name, c.url
	b.Extra = g.t.extra(r, 4*8, 100)
	return b
}

func (g *Generator) auctionBidFor(r *random, n int64) int64 {
	known := auctions(n)
	if r.below(g.c.HotAuctions) > 0 {
		return hot(known)
	}
	first := max(known-1-g.c.OpenAuctions, 0)
	return first + r.below(known-first+lead)
}

// bidder makes the lowest bit of a bidder's number a function of the time, and one
// that is another 10 s later. So no bidder has two bids that are exactly a gap of
// [Q11] apart, about which engines differ: in some, such bids are of one session. The
// price is that the hot bidder of the public definition is two here, one at a time.
func (g *Generator) bidder(r *random, n int64) int64 {
	t := g.TimeOf(n)
	bit := (t + t/sessionGap) & 1
	if r.below(g.c.HotBidders) > 0 {
		return hot(persons(n)) | bit
	}
	return g.anyPerson(r, n)&^1 | bit
}

func (g *Generator) anyPerson(r *random, n int64) int64 {
	known := persons(n)
	active := min(known, g.c.ActivePersons)
	return known - active + r.below(active+lead)
}

// hot returns which of so many auctions or persons is hot at present.
func hot(known int64) int64 { return max(known-1, 0) / hotEvery * hotEvery }
