package nexmark

import (
	"reflect"
	"testing"
)

func TestBidsAreReadAsTheyWereWritten(t *testing.T) {
	g := newGenerator(t, Config{})
	for _, b := range []Bid{{}, {Auction: -1, Price: 1 << 62, Extra: "\x00\xff"}, *g.Event(5).Bid, *g.Event(1_000_006).Bid} {
		raw, err := b.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		var back Bid
		if err := back.UnmarshalBinary(raw); err != nil || !reflect.DeepEqual(back, b) {
			t.Errorf("%+v comes back as %+v, %v", b, back, err)
		}
	}
}

func FuzzBid(f *testing.F) {
	raw, _ := Bid{Auction: 1000, Price: -7, Channel: "Google"}.AppendBinary(nil)
	f.Add(raw)
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b, back Bid
		if b.UnmarshalBinary(raw) != nil {
			return
		}
		again, err := b.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := back.UnmarshalBinary(again); err != nil || back != b {
			t.Errorf("%+v comes back as %+v, %v", b, back, err)
		}
	})
}
