// Package nexmark is the Nexmark benchmark: the events of an online auction, made by a
// seeded generator, and the queries over them as millrace jobs.
//
// The events, their proportions and the queries are those of the public definition:
// P. Tucker, K. Tufte, V. Papadimos, D. Maier, "NEXMark – A Benchmark for Queries over
// Data Streams" (2002), with the queries from q11 on as Apache Beam and the Nexmark suite
// for Flink have added them.
package nexmark

// Type says which of its fields an [Event] has.
type Type uint8

// The types of events. Close is none of the auction: it closes a stream that has an end,
// by bringing a time so late that every window is over.
const (
	TypePerson Type = iota
	TypeAuction
	TypeBid
	TypeClose
)

// Event is one of the three kinds. In JSON it is what the Nexmark suite for Flink has.
type Event struct {
	Type    Type     `json:"event_type"`
	Person  *Person  `json:"person,omitempty"`
	Auction *Auction `json:"auction,omitempty"`
	Bid     *Bid     `json:"bid,omitempty"`
	Close   int64    `json:"close,omitempty"` // event time in ms, of a TypeClose
}

// Time is the event's time in ms.
func (e Event) Time() int64 {
	switch e.Type {
	case TypePerson:
		return e.Person.Time
	case TypeAuction:
		return e.Auction.Time
	case TypeBid:
		return e.Bid.Time
	default:
		return e.Close
	}
}

// Person is somebody who has registered, to sell or to bid.
type Person struct {
	ID         int64  `json:"id"`
	Name       string `json:"name"`
	Email      string `json:"emailAddress"`
	CreditCard string `json:"creditCard"`
	City       string `json:"city"`
	State      string `json:"state"`
	Time       int64  `json:"dateTime"` // event time in ms
	Extra      string `json:"extra"`
}

// Auction is an item that a person has begun to sell.
type Auction struct {
	ID          int64  `json:"id"`
	Item        string `json:"itemName"`
	Description string `json:"description"`
	InitialBid  int64  `json:"initialBid"` // in cents
	Reserve     int64  `json:"reserve"`    // in cents
	Time        int64  `json:"dateTime"`   // event time in ms
	Expires     int64  `json:"expires"`    // event time in ms
	Seller      int64  `json:"seller"`
	Category    int64  `json:"category"`
	Extra       string `json:"extra"`
}

// Bid is a person's bid for an auction.
type Bid struct {
	Auction int64  `json:"auction"`
	Bidder  int64  `json:"bidder"`
	Price   int64  `json:"price"` // in cents
	Channel string `json:"channel"`
	URL     string `json:"url"`
	Time    int64  `json:"dateTime"` // event time in ms
	Extra   string `json:"extra"`
}
