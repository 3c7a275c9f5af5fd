package nexmark

import (
	"encoding/binary"
	"errors"
)

// AppendBinary and UnmarshalBinary are how state holds bids. Without them it would
// write the name of every field of every bid.

// AppendBinary implements [encoding.BinaryAppender].
func (b Bid) AppendBinary(dst []byte) ([]byte, error) {
	for _, n := range [...]int64{b.Auction, b.Bidder, b.Price, b.Time} {
		dst = binary.AppendVarint(dst, n)
	}
	for _, s := range [...]string{b.Channel, b.URL, b.Extra} {
		dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	return dst, nil
}

var errNoBid = errors.New("the bytes are no bid")

// UnmarshalBinary implements [encoding.BinaryUnmarshaler].
func (b *Bid) UnmarshalBinary(data []byte) error {
	for _, to := range [...]*int64{&b.Auction, &b.Bidder, &b.Price, &b.Time} {
		n, size := binary.Varint(data)
		if size <= 0 {
			return errNoBid
		}
		*to, data = n, data[size:]
	}
	for _, to := range [...]*string{&b.Channel, &b.URL, &b.Extra} {
		n, size := binary.Uvarint(data)
		if size <= 0 || n > uint64(len(data)-size) {
			return errNoBid
		}
		data = data[size:]
		*to, data = string(data[:n]), data[n:]
	}
	if len(data) > 0 {
		return errNoBid
	}
	return nil
}
