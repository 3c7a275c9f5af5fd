package nexmark

import (
	"time"

	"github.com/millrace/millrace/operators"
	"github.com/millrace/millrace/pipeline"
	"github.com/millrace/millrace/state"
)

// NewSeller is a person who began to sell in the window in which they registered.
type NewSeller struct {
	Start  int64 // of the window, in ms
	Person int64
	Name   string
}

const newSellerWindow = int64(10 * time.Second / time.Millisecond)

// personWindow is a person in one of the windows.
type personWindow struct{ Person, Start int64 }

func inWindow(person, ms int64) personWindow {
	return personWindow{person, ms - ms%newSellerWindow}
}

// last is the last millisecond of the window.
func (p personWindow) last() int64 { return p.Start + newSellerWindow - 1 }

// registration is what is needed of a person, and sale of an auction.
type registration struct {
	ID   int64
	Name string
	Time int64
}

type sale struct{ Seller, Time int64 }

// Q8 is the persons who registered and opened an auction in the same 10 s, once for
// each person and window.
func Q8(events pipeline.Stream[Event]) pipeline.Stream[NewSeller] {
	registrations := operators.FlatMap(events, "registrations", func(e Event, emit func(registration)) {
		if e.Type == TypePerson {
			emit(registration{e.Person.ID, e.Person.Name, e.Person.Time})
		}
	})
	sales := operators.FlatMap(events, "sales", func(e Event, emit func(sale)) {
		if e.Type == TypeAuction {
			emit(sale{e.Auction.Seller, e.Auction.Time})
		}
	})
	return pipeline.Connect(
		pipeline.KeyBy(registrations, func(r registration) personWindow { return inWindow(r.ID, r.Time) }),
		pipeline.KeyBy(sales, func(s sale) personWindow { return inWindow(s.Seller, s.Time) }),
		"new sellers", func() *newSellers { return &newSellers{} }, pipeline.NeedsEventTime())
}

// newSellers waits for the two events of a person's window, whichever comes first: the
// streams don't wait for each other.
type newSellers struct {
	seen *state.Value[personWindow, sellerSeen]
	ends *pipeline.Timers[personWindow]
	late *pipeline.Counter
}

type sellerSeen struct {
	Registered bool
	Name       string
	Sold       bool
}

type newSellersContext = pipeline.Context[personWindow, NewSeller]

func (o *newSellers) Open(c *newSellersContext) error {
	o.seen = state.NewValue[sellerSeen](c.State(), "seen")
	o.ends = c.Timers("ends")
	o.late = c.Metrics().Counter("late")
	return nil
}

func (o *newSellers) ProcessLeft(c *newSellersContext, r registration) error {
	s := o.of(c)
	if s == nil || s.Registered {
		return nil
	}
	s.Registered, s.Name = true, r.Name
	emitIfBoth(c, s)
	return nil
}

func (o *newSellers) ProcessRight(c *newSellersContext, _ sale) error {
	s := o.of(c)
	if s == nil || s.Sold {
		return nil
	}
	s.Sold = true
	emitIfBoth(c, s)
	return nil
}

// of returns what was seen in the window of the record in hand, nil if the window is
// over.
func (o *newSellers) of(c *newSellersContext) *sellerSeen {
	if c.Watermark() >= c.Key().last() {
		o.late.Add(1)
		return nil
	}
	s := o.seen.Ptr()
	if s == nil {
		s = o.seen.Upsert()
		o.ends.SetNew(c.Key().last())
	}
	return s
}

// emitIfBoth gives the result as soon as it is certain, with the time that a window's
// results have, which does not depend on which of the two came first.
func emitIfBoth(c *newSellersContext, s *sellerSeen) {
	if s.Registered && s.Sold {
		c.EmitAt(NewSeller{c.Key().Start, c.Key().Person, s.Name}, c.Key().last())
	}
}

// OnTimer forgets a window that is over.
func (o *newSellers) OnTimer(*newSellersContext, pipeline.Timer) error {
	o.seen.Clear()
	return nil
}
