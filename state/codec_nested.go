package state

import "encoding/binary"

// AppendValue appends the encoding of *v by c to dst, behind its length, so
// that other things can follow. It is for the codecs of types that are made of
// others: an operator's state that holds values of its user's type.
//
//	func (c pairCodec[V]) Append(dst []byte, p *pair[V]) ([]byte, error) {
//		dst, err := state.AppendValue(dst, c.of, &p.left)
//		if err != nil {
//			return dst, err
//		}
//		return state.AppendValue(dst, c.of, &p.right)
//	}
//
// The length is a varint, one byte for up to 127.
func AppendValue[V any](dst []byte, c Codec[V], v *V) ([]byte, error) {
	at := len(dst)
	dst, err := c.Append(append(dst, 0), v)
	if err != nil {
		return dst, err
	}
	return putLength(dst, at), nil
}

// DecodeValue makes *v, which is the zero value, what AppendValue wrote at the
// beginning of src, and returns what follows.
//
//	func (c pairCodec[V]) Decode(src []byte, p *pair[V]) error {
//		src, err := state.DecodeValue(src, c.of, &p.left)
//		if err != nil {
//			return err
//		}
//		src, err = state.DecodeValue(src, c.of, &p.right)
//		if err == nil && len(src) > 0 {
//			err = errors.New("there is more than a pair")
//		}
//		return err
//	}
func DecodeValue[V any](src []byte, c Codec[V], v *V) (rest []byte, err error) {
	value, rest, err := readSized(src)
	if err != nil {
		return nil, err
	}
	return rest, c.Decode(value, v)
}

// putLength puts the length of what is behind dst[at] in its place, for which
// one byte was kept free. What needs more is moved: lengths are not known
// beforehand, and nearly all values are short.
func putLength(dst []byte, at int) []byte {
	n := len(dst) - at - 1
	if n < 0x80 {
		dst[at] = byte(n)
		return dst
	}
	var length [binary.MaxVarintLen64]byte
	size := binary.PutUvarint(length[:], uint64(n))
	dst = append(dst, length[1:size]...) // for room
	copy(dst[at+size:], dst[at+1:at+1+n])
	copy(dst[at:], length[:size])
	return dst
}
