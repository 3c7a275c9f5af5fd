package main

import "github.com/millrace/millrace/benchmarks/internal/nexmark"

// What the jobs want of a record. The other fields of it are passed over, by the sides
// in Java as well.

// visit is a record of the topic of events, keyed by its user.
type visit struct {
	User string `json:"user"`
	Page string `json:"page"`
	Time int64  `json:"time"` // event time in ms
}

// trade is a record of the auction. Its parts are those of [nexmark.Event], so that they
// can be taken for such.
type trade struct {
	Type    nexmark.Type `json:"event_type"`
	Person  *person      `json:"person"`
	Auction *auction     `json:"auction"`
	Bid     *bid         `json:"bid"`
	Close   int64        `json:"close"`
}

func (t trade) event() nexmark.Event {
	return nexmark.Event{Type: t.Type, Person: (*nexmark.Person)(t.Person), Auction: (*nexmark.Auction)(t.Auction), Bid: (*nexmark.Bid)(t.Bid), Close: t.Close}
}

// Time is the event's time in ms.
func (t trade) Time() int64 { return t.event().Time() }

type person struct {
	ID         int64  `json:"id"`
	Name       string `json:"name"`
	Email      string `json:"-"`
	CreditCard string `json:"-"`
	City       string `json:"-"`
	State      string `json:"-"`
	Time       int64  `json:"dateTime"`
	Extra      string `json:"-"`
}

type auction struct {
	ID          int64  `json:"id"`
	Item        string `json:"-"`
	Description string `json:"-"`
	InitialBid  int64  `json:"-"`
	Reserve     int64  `json:"-"`
	Time        int64  `json:"dateTime"`
	Expires     int64  `json:"-"`
	Seller      int64  `json:"seller"`
	Category    int64  `json:"-"`
	Extra       string `json:"-"`
}

type bid struct {
	Auction int64  `json:"auction"`
	Bidder  int64  `json:"bidder"`
	Price   int64  `json:"price"`
	Channel string `json:"-"`
	URL     string `json:"-"`
	Time    int64  `json:"dateTime"`
	Extra   string `json:"-"`
}
